"""What a measure comes to, as records keep it."""

from __future__ import annotations

from spurious_imagenet.records import Record

__all__ = ["CurvePoint", "Interval"]


class Interval(Record):
    """A bootstrap confidence interval of 95 %."""

    low: float
    high: float


class CurvePoint(Record):
    """Accuracy of the images of one range of spuriosity percentiles, pooled over classes (SR Fig. 8)."""

    low: float
    high: float
    images: int
    accuracy: float
    interval: Interval
