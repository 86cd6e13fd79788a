"""Features: a spec such as ``logmel:bands=80+chroma``, its plugins, and what identifies the frames that they make.

``info``, whose names are here, describes them without importing anything heavy; ``compute`` runs the plugins.
"""

from mirembed.features.info import FeaturesInfo, FeaturesPart, describe_features, resolve_features, split_spec

__all__ = [
    "FeaturesInfo",
    "FeaturesPart",
    "describe_features",
    "resolve_features",
    "split_spec",
]
