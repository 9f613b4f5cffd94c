"""Shards → FeatureStore: one pass of a model over a pool of images."""

from spurious_imagenet.builders.features.config import FeaturesConfig
from spurious_imagenet.builders.features.engine import Engine, LocalEngine
from spurious_imagenet.builders.features.extract import FeaturesResult, Progress, extract_features

__all__ = ["Engine", "FeaturesConfig", "FeaturesResult", "LocalEngine", "Progress", "extract_features"]
