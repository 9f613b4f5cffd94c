"""Intervals of bootstrapped values, and of the difference of a value between two models that were resampled alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.errors import UndefinedMetricError
from spurious_imagenet.records import Record

__all__ = ["PairedDifference", "interval", "intervals", "paired_difference"]

#: Standard errors that a difference must have to be found at 95 % confidence in 80 % of repetitions: 1.960 + 0.842.
_DETECTABLE = 2.802


def interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Percentile interval of a bootstrapped value.

    It has no width where every resample gives the same value, as with one image, or with images that are all right.

    Args:
        values: (resamples,) the value in each resample.
        level: Confidence, in (0, 1).

    Raises:
        UndefinedMetricError: There is no value, or one is not finite.

    Examples:
        >>> interval(range(5), level=0.5)
        Interval(low=1.0, high=3.0)
    """
    resampled = np.asarray(values, np.float64)
    if resampled.ndim != 1:
        raise UndefinedMetricError(f"an interval of values of shape {resampled.shape}: expected finite values.")
    return intervals(resampled[None], level)[0]


def intervals(values: ArrayLike, level: float = 0.95) -> list[Interval]:
    """Percentile intervals of several bootstrapped values at once, each as :func:`interval` gives it.

    Args:
        values: (n, resamples) the values in each resample.
        level: Confidence, in (0, 1).

    Raises:
        UndefinedMetricError: There is no resample, or a value is not finite.
    """
    resampled = np.asarray(values, np.float64)
    if resampled.ndim != 2 or not resampled.size or not np.isfinite(resampled).all():
        raise UndefinedMetricError(f"an interval of values of shape {resampled.shape[1:]}: expected finite values.")
    ends = _quantiles(resampled, (1 - level) / 2, (1 + level) / 2)
    return [Interval(low=low, high=high) for low, high in ends.tolist()]


class PairedDifference(Record):
    """The difference of a value between two models on the same images."""

    difference: float
    """First model minus second."""
    interval: Interval
    standard_error: float
    distinguishable: bool
    """The interval does not contain 0. It holds for this pair alone: of many pairs, 5 % look different by chance."""
    detectable: float | None
    """Smallest true difference that as many images and classes show in 80 % of repetitions, at 95 % confidence: 2.8
    standard errors. None where every resample gave the same difference, as between a model and itself."""

    @property
    def sentence(self) -> str:
        """Say in words whether the models can be told apart."""
        found = f"{self.difference:+.3f} (95 %: {self.interval.low:+.3f} to {self.interval.high:+.3f})"
        if self.distinguishable:
            return f"they differ: {found}"
        if self.detectable is None:
            return f"they cannot be told apart: {found}; they give the same on every image"
        return f"they cannot be told apart: {found}; these images would show a difference of {self.detectable:.3f}"


def paired_difference(a: float, b: float, resampled_a: ArrayLike, resampled_b: ArrayLike) -> PairedDifference:
    """Compare a value of two models, resampled alike.

    Args:
        a: Value of the first model.
        b: Value of the second.
        resampled_a: (resamples,) the first model's value in each resample.
        resampled_b: (resamples,) the second's, in the same resamples of the same images.

    Raises:
        UndefinedMetricError: The two have different numbers of resamples, fewer than two, or values not finite.

    Examples:
        >>> found = paired_difference(0.9, 0.8, [0.8, 0.9, 1.0], [0.7, 0.8, 0.9])
        >>> found.distinguishable
        True
        >>> found.sentence
        'they differ: +0.100 (95 %: +0.100 to +0.100)'
    """
    first, second = np.asarray(resampled_a, np.float64), np.asarray(resampled_b, np.float64)
    if first.shape != second.shape or first.size < 2:
        raise UndefinedMetricError(
            f"a paired difference of resamples of shapes {first.shape} and {second.shape}: expected the same, "
            "at least two."
        )
    found = interval(first - second)
    error = float(np.std(first - second, ddof=1))
    # Rounding alone must not separate two models.
    apart = found.low > 1e-12 or found.high < -1e-12
    return PairedDifference(
        difference=a - b,
        interval=found,
        standard_error=error,
        distinguishable=apart,
        detectable=_DETECTABLE * error if error > 1e-12 else None,
    )


def _quantiles(values: NDArray[np.float64], *shares: float) -> NDArray[np.float64]:
    """Return (n, shares) quantiles of each row: numpy's to the last bit, whose function takes seven times as long."""
    ordered = np.sort(values, axis=1)
    place = np.array(shares) * (ordered.shape[1] - 1)
    before = place.astype(np.int64)
    below, above = ordered[:, before], ordered[:, np.minimum(before + 1, ordered.shape[1] - 1)]
    share, step = place - before, above - below
    return np.asarray(np.where(share < 0.5, below + step * share, above - step * (1 - share)))
