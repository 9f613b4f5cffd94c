"""Pure array functions that measure reliance on spurious features.

They import numpy alone; intervals, which are records, are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spurious_imagenet.benchmark.metrics.bootstrap import (
    bootstrap_ap,
    bootstrap_auc,
    bootstrap_counts,
    bootstrap_mean,
    class_rng,
    mean_over_classes,
)
from spurious_imagenet.benchmark.metrics.separation import spurious_ap, spurious_auc
from spurious_imagenet.benchmark.metrics.spuriosity import spuriosity

if TYPE_CHECKING:
    from spurious_imagenet.benchmark.metrics.intervals import PairedDifference, interval, paired_difference

__all__ = [
    "PairedDifference",
    "bootstrap_ap",
    "bootstrap_auc",
    "bootstrap_counts",
    "bootstrap_mean",
    "class_rng",
    "interval",
    "mean_over_classes",
    "paired_difference",
    "spuriosity",
    "spurious_ap",
    "spurious_auc",
]

_OF_INTERVALS = ("PairedDifference", "interval", "paired_difference")


def __getattr__(name: str) -> Any:
    if name not in _OF_INTERVALS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.intervals"), name)
