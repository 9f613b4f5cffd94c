"""Gaps and accuracies of heads before and after tuning, with intervals that are paired between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.benchmark.metrics.bootstrap import bootstrap_counts, bootstrap_mean, class_rng, mean_over_classes
from spurious_imagenet.benchmark.metrics.intervals import interval
from spurious_imagenet.benchmark.metrics.values import CurvePoint, Interval
from spurious_imagenet.benchmark.mitigation._tuning_data import ClassEnds
from spurious_imagenet.benchmark.mitigation._tuning_fit import gap_of
from spurious_imagenet.benchmark.mitigation.tuning_record import AccuracyChange, Estimate

Correct = NDArray[np.float64]
_ALL, _HIGH, _LOW, _CLASSES = 0, 2, 3, 4  # sides of `class_rng`
_BINS = 10
_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class _Resampled:
    value: float
    resamples: NDArray[np.float64]

    def estimate(self) -> Estimate:
        return Estimate(value=self.value, interval=interval(self.resamples))

    def __sub__(self, other: _Resampled) -> _Resampled:
        return _Resampled(self.value - other.value, self.resamples - other.resamples)


def gap_change(
    before: Correct, after: Correct, ends: Sequence[ClassEnds], class_ids: Sequence[str], resamples: int
) -> AccuracyChange:
    """Change of the mean gap; images are resampled within each class's ends, and classes too.

    Args:
        before: (N,) whether the original head was right on each image, 0 or 1.
        after: (N,) how often the tuned heads of all seeds were, in [0, 1].
        ends: The images of highest and of lowest spuriosity of each class.
        class_ids: Id of each class index.
        resamples: Bootstrap resamples.
    """
    return _change(*(_gap(correct, ends, class_ids, resamples) for correct in (before, after)))


def closed_share(
    before: Correct, after: Correct, ends: Sequence[ClassEnds], class_ids: Sequence[str], resamples: int
) -> tuple[float | None, Interval | None]:
    """Share of the gap that is closed; arguments as of :func:`gap_change`.

    Returns:
        ``1 - after / before``, 1 where nothing of the gap is left and above where it has changed its sign; None where
        there was none. Its interval; None where any resample had no gap before.
    """
    old, new = (_gap(correct, ends, class_ids, resamples) for correct in (before, after))
    if old.value <= 0:
        return None, None
    share = 1 - new.value / old.value
    return share, interval(1 - new.resamples / old.resamples) if (old.resamples > 0).all() else None


def accuracy_change(before: Correct, after: Correct, resamples: int) -> AccuracyChange:
    """Change of the accuracy, images resampled; each image counts the same."""
    draws = class_rng(0, "", _ALL)
    size = max(1, _BLOCK // len(before))
    old, new = [], []
    for first in range(0, resamples, size):
        counts = bootstrap_counts(len(before), min(size, resamples - first), draws)
        old.append(bootstrap_mean(before, counts))
        new.append(bootstrap_mean(after, counts))
    pairs = ((before, old), (after, new))
    return _change(*(_Resampled(float(values.mean()), np.concatenate(parts)) for values, parts in pairs))


def rank_curve(correct: Correct, percentile: NDArray[np.float64], resamples: int) -> tuple[CurvePoint, ...]:
    """Accuracy against spuriosity percentile, images of all classes pooled (SR Fig. 8 right); flat is best.

    Args:
        correct: (n,) how often each ranked image was classified right, in [0, 1].
        percentile: (n,) its place within its class, in [0, 1].
        resamples: Bootstrap resamples.
    """
    place = np.minimum((percentile * _BINS).astype(np.int64), _BINS - 1)
    return tuple(
        CurvePoint(
            low=b / _BINS,
            high=(b + 1) / _BINS,
            images=int((place == b).sum()),
            accuracy=float(correct[place == b].mean()),
            interval=accuracy_change(correct[place == b], correct[place == b], resamples).before.interval,
        )
        for b in np.unique(place).tolist()
    )


def _change(before: _Resampled, after: _Resampled) -> AccuracyChange:
    return AccuracyChange(before=before.estimate(), after=after.estimate(), difference=(after - before).estimate())


def _gap(correct: Correct, ends: Sequence[ClassEnds], class_ids: Sequence[str], resamples: int) -> _Resampled:
    per_class = [
        _side(correct[c.high], class_ids[c.label], _HIGH, resamples)
        - _side(correct[c.low], class_ids[c.label], _LOW, resamples)
        for c in ends
    ]
    return _Resampled(gap_of(correct, ends), mean_over_classes(per_class, class_rng(0, "", _CLASSES)))


def _side(correct: Correct, class_id: str, side: int, resamples: int) -> NDArray[np.float64]:
    return bootstrap_mean(correct, bootstrap_counts(len(correct), resamples, class_rng(0, class_id, side)))
