"""Naive second implementations of bootstrap statistics: every resample is written out and measured by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def written_out(values: Sequence[float], counts: Sequence[int]) -> list[float]:
    """Return the resample: each value as often as it was drawn."""
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def by_resample(
    metric: Callable[[list[float], list[float]], float],
    validation: Sequence[float],
    spurious: Sequence[float],
    counts_v: np.ndarray,
    counts_s: np.ndarray,
) -> list[float]:
    """Apply a metric to every resample, one after another."""
    pairs = zip(counts_v, counts_s, strict=True)
    return [metric(written_out(validation, v), written_out(spurious, s)) for v, s in pairs]


def percentile(values: Sequence[float], share: float) -> float:
    """Interpolate between the two ordered values that stand around ``share`` of the way."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
