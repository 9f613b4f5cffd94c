"""Errors that say what was got, what was expected, and in which item."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "ModelError",
    "SpuriousImagenetError",
    "StoreError",
    "UndefinedMetricError",
]


class SpuriousImagenetError(Exception):
    """Base of every error that the project raises on purpose; its text is one sentence for the user."""


class ConfigError(SpuriousImagenetError):
    """An option or configuration value cannot be used."""


class DataError(SpuriousImagenetError):
    """Input data (a shard, a folder, a dataset, a table) is not what it must be."""


class ModelError(SpuriousImagenetError):
    """A model cannot be loaded, or does not fit the labels or the task."""


class StoreError(SpuriousImagenetError):
    """A feature store or another output of an earlier stage is missing, torn or of another run."""


class UndefinedMetricError(SpuriousImagenetError):
    """A metric has no value for this input; it is never replaced by a number."""
