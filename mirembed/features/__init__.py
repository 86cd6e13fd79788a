"""Features: a spec such as ``logmel:bands=80+chroma``, its plugins, and what identifies the frames that they make.

``info`` describes them without computing anything; ``compute`` runs the plugins.
"""

from mirembed.features.compute import (
    Computed,
    check_frames,
    compute,
    create_features,
    extract_frames,
)
from mirembed.features.info import FeaturesInfo, FeaturesPart, describe_features, resolve_features, split_spec

__all__ = [
    "Computed",
    "FeaturesInfo",
    "FeaturesPart",
    "check_frames",
    "compute",
    "create_features",
    "describe_features",
    "extract_frames",
    "resolve_features",
    "split_spec",
]
