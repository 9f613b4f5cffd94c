"""What a measure comes to, as records keep it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["CurvePoint", "Interval"]


class Interval(BaseModel):
    """A bootstrap confidence interval of 95 %."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float


class CurvePoint(BaseModel):
    """Accuracy of the images of one range of spuriosity percentiles, pooled over classes (SR Fig. 8)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    images: int
    accuracy: float
    interval: Interval
