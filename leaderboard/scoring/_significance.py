"""Which of many entries are significantly better than which, from paired resamples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.errors import UndefinedMetricError

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]

#: Rounding alone, of resamples that are stored as float32, must not separate two entries.
_ROUNDING = 1e-6
_TAIL = 0.025  # of an interval of 95 %
_FIRST = 128
_BITS = np.array([number.bit_count() for number in range(256)], np.uint8)


def better_and_worse(resampled: Floats) -> tuple[Counts, Counts]:
    """Count for each entry how many others are significantly better, and how many significantly worse.

    An entry is significantly better than another where the percentile interval of the paired difference is above 0.
    Most pairs are decided by how far apart all their resamples lie, or because the first hundred resamples have already
    too many against either; the others by counting the resamples against each, and by the quantile itself only where
    that count is just at it.

    Args:
        resampled: (n, resamples) values of which more is better, each column from the same images and classes.

    Returns:
        (n,) how many are better than each entry, and (n,) how many are worse.

    Raises:
        UndefinedMetricError: There is no entry or no resample, or a value is not finite.
    """
    values = np.asarray(resampled, np.float32)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise UndefinedMetricError(
            f"a ranking by resamples of shape {values.shape}: expected finite values, (entries, resamples)."
        )
    low, high = _narrow(values)
    order = np.argsort(low, kind="stable")
    values, low, high = values[order], low[order], high[order]
    first = np.ascontiguousarray(values[:, :_FIRST])
    work = np.empty_like(values)
    # What is far apart is counted in sorted order, without looking at pairs.
    ends = np.searchsorted(low, high, "right")
    better = len(values) - ends
    worse = np.searchsorted(np.sort(high), low, "left")
    for i, end in enumerate(ends):
        for sign, ahead, behind in ((1, worse, better), (-1, better, worse)):
            found = _ahead(values, first, i, slice(i + 1, end), sign, work)
            ahead[i] += len(found)
            behind[found] += 1
    back = np.argsort(order)
    return better[back], worse[back]


def _narrow(values: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each entry a range such that entries whose ranges do not overlap are significantly different.

    Ranges are of what is left when each resample's mean over entries is taken away: it is common to both of a pair. So
    few resamples are outside that even all of them together cannot bring a quantile back to 0.
    """
    apart = np.sort(values - values.mean(axis=0, dtype=np.float64), axis=1)
    outside = int(_TAIL * (values.shape[1] - 1)) // 2
    margin = 2 * _ROUNDING
    return apart[:, outside] - margin, apart[:, values.shape[1] - 1 - outside] + margin


def _ahead(values: Floats, first: Floats, one: int, others: slice, sign: int, work: Floats) -> Counts:
    """Return which others an entry is significantly better than; worse, where the sign is -1."""
    allowed = int(_TAIL * (values.shape[1] - 1))
    undecided = others.start + np.flatnonzero(_against(first[one], first[others], sign) <= allowed + 1)
    # Into memory that is there already: to ask for new pages takes longer than to fill them.
    chosen = np.take(values, undecided, axis=0, out=work[: len(undecided)], mode="clip")
    against = _against(values[one], chosen, sign)
    found = against <= allowed
    at_quantile = np.flatnonzero(against == allowed + 1)  # it is between a resample against and one for the entry
    if at_quantile.size:
        differences = sign * (values[one].astype(np.float64) - chosen[at_quantile])
        found[at_quantile] = np.quantile(differences, _TAIL, axis=1) > _ROUNDING
    return np.asarray(undecided[found])


def _against(one: Floats, others: Floats, sign: int) -> Counts:
    """Count the resamples in which an entry is not better than each of some others; not worse, where the sign is -1."""
    bound = one - np.float32(sign * _ROUNDING)
    bits = np.packbits(others >= bound if sign > 0 else others <= bound, axis=1)
    return np.asarray(_BITS[bits].sum(axis=1, dtype=np.int64))  # faster than to count along an axis
