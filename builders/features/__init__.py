"""Shards → FeatureStore: one pass of a model over a pool of images."""

from spurious_imagenet.builders.features.config import FeaturesConfig
from spurious_imagenet.builders.features.extract import extract_features
from spurious_imagenet.builders.features.result import ExtractionProgress, FeaturesResult

__all__ = ["FeaturesConfig", "FeaturesResult", "ExtractionProgress", "extract_features"]
