"""What entries score on single classes, taken out of the files of scores without reading the rest of them."""

from __future__ import annotations

from dataclasses import dataclass

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.records import Record


class _Class(Record, extra="ignore"):
    """What pages of classes need of a class's record; the rest of it is passed over."""

    class_id: str
    spurious_auc: float
    spurious_ap: float
    intervals: dict[str, Interval]

    def values(self) -> list[float]:
        """Return the fields of :class:`ClassValues`; NaN for an interval that is not there."""
        found: list[float] = []
        for name, value in (("spurious_auc", self.spurious_auc), ("spurious_ap", self.spurious_ap)):
            ends = self.intervals.get(name)
            found += [value, ends.low, ends.high] if ends else [value, float("nan"), float("nan")]
        return found


class _Classes(Record, extra="ignore"):
    classes: list[_Class]


class ClassesOfScore(Record, extra="ignore"):
    """The classes of a score's file."""

    score: _Classes


@dataclass(frozen=True)
class ClassValues:
    """What one entry scores on one class, in single precision."""

    auc: float
    auc_low: float
    auc_high: float
    ap: float
    ap_low: float
    ap_high: float
