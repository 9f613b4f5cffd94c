"""Shards → FeatureStore: one pass of a model over a pool of images."""

from spurious_imagenet.builders.features._config import FeaturesConfig
from spurious_imagenet.builders.features._result import ExtractionProgress, FeaturesResult
from spurious_imagenet.builders.features.extract import extract_features

__all__ = ["FeaturesConfig", "FeaturesResult", "ExtractionProgress", "extract_features"]
