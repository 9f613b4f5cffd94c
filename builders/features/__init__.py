"""Shards → FeatureStore: one pass of a model over a pool of images."""

from spurious_imagenet.builders.features.config import FeaturesConfig
from spurious_imagenet.builders.features.extract import FeaturesResult, Progress, extract_features

__all__ = ["FeaturesConfig", "FeaturesResult", "Progress", "extract_features"]
