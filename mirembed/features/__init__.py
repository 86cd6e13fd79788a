"""Features: a spec such as ``logmel:bands=80+chroma``, its plugins, and what identifies the frames that they make."""

from mirembed.features.info import FeaturesInfo, FeaturesPart, resolve_features, split_spec

__all__ = ["FeaturesInfo", "FeaturesPart", "resolve_features", "split_spec"]
