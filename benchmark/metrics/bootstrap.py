"""Bootstrap: how much of a value, or of a difference between two models, may be the choice of images.

A resample draws as many images as there are, with replacement, and is held as how often each image was drawn. Every
metric is then a sum over images weighted by these counts, and all resamples are computed at once. The draws depend on
the seed, the class and the side alone (:func:`class_rng`), so two models that are given the same images in the same
order are resampled alike: the interval of their difference is paired.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spurious_imagenet.errors import UndefinedMetricError

__all__ = ["bootstrap_ap", "bootstrap_auc", "bootstrap_counts", "bootstrap_mean", "class_rng", "mean_over_classes"]

Counts = NDArray[np.integer[Any]]

#: Elements of one array of a block of resamples: what is worked on stays within the processor's cache.
_BLOCK = 1 << 15


def class_rng(seed: int, class_id: str, side: int) -> np.random.Generator:
    """Return the generator that resamples one side of one class, whatever else is measured.

    Args:
        seed: Of the evaluation.
        class_id: The class; empty for draws of classes themselves.
        side: 0 validation, 1 spurious, 2 highest and 3 lowest spuriosity.
    """
    return np.random.default_rng([seed, crc32(class_id.encode()), side])


def bootstrap_counts(n: int, resamples: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw how often each image is in each resample of as many images.

    Args:
        n: Images.
        resamples: How many resamples.
        rng: Where the draws come from; see :func:`class_rng`.

    Returns:
        (resamples, n) int32, multinomial: every row sums to ``n``. Each image's counts lie together in memory, which
        the functions here read fastest.

    Raises:
        UndefinedMetricError: There is no image, or no resample.
    """
    if n < 1 or resamples < 1:
        raise UndefinedMetricError(f"{resamples} bootstrap resamples of {n} images: expected at least one of both.")
    counts = np.empty((n, resamples), np.int32)
    step = max(1, (1 << 22) // n)
    for first in range(0, resamples, step):
        block = min(step, resamples - first)
        cells = rng.integers(0, n, (n, block)) * block + np.arange(block)
        counts[:, first : first + block] = np.bincount(cells.ravel(), minlength=n * block).reshape(n, block)
    return counts.T


def bootstrap_ap(validation: ArrayLike, spurious: ArrayLike, counts_v: Counts, counts_s: Counts) -> NDArray[np.float64]:
    """Average precision of each resample, as scikit-learn's with the counts as ``sample_weight``.

    Args:
        validation: (n,) scores of the positives.
        spurious: (m,) scores of the negatives.
        counts_v: (resamples, n) how often each positive is in each resample.
        counts_s: (resamples, m) the same of the negatives.

    Returns:
        (resamples,) float64 in [0, 1], higher is better.

    Raises:
        UndefinedMetricError: Scores are not finite, or a shape does not fit.
    """
    positive, negative = _scores("validation", validation, counts_v), _scores("spurious", spurious, counts_s)
    order, falling = np.argsort(-positive), np.sort(-positive)
    order_s, falling_s = np.argsort(-negative), np.sort(-negative)
    # Precision at an image counts all images that score at least as high, its ties among them.
    last = np.searchsorted(falling, falling, "right")
    above = np.searchsorted(falling_s, falling, "right")

    def block(weight_v: Counts, weight_s: Counts) -> NDArray[np.float64]:
        weight = weight_v[order]
        above_v = _cumulative(weight)[last]
        ranked = _cumulative(weight_s[order_s])[above]
        ranked += above_v
        # Nothing is ranked only above images that were not drawn; their weight is 0.
        precision = above_v / np.maximum(ranked, 1, out=ranked)
        precision *= weight
        return np.asarray(precision.sum(axis=0) / weight.sum(axis=0))

    return _in_blocks(block, counts_v, counts_s)


def bootstrap_auc(
    validation: ArrayLike, spurious: ArrayLike, counts_v: Counts, counts_s: Counts
) -> NDArray[np.float64]:
    """Area under the ROC curve of each resample: the share of drawn pairs in the right order, ties counting half.

    The form is bilinear in the counts; the pairs are counted by sorting, so no n x m table is held.

    Args:
        validation: (n,) scores of the positives.
        spurious: (m,) scores of the negatives.
        counts_v: (resamples, n) how often each positive is in each resample.
        counts_s: (resamples, m) the same of the negatives.

    Returns:
        (resamples,) float64 in [0, 1], higher is better; chance is 0.5.

    Raises:
        UndefinedMetricError: Scores are not finite, or a shape does not fit.
    """
    positive, negative = _scores("validation", validation, counts_v), _scores("spurious", spurious, counts_s)
    order, rising = np.argsort(negative), np.sort(negative)
    below, tied = np.searchsorted(rising, positive, "left"), np.searchsorted(rising, positive, "right")

    def block(weight_v: Counts, weight_s: Counts) -> NDArray[np.float64]:
        cumulative = _cumulative(weight_s[order])
        wins = cumulative[below]
        wins += cumulative[tied]
        wins = np.multiply(wins, weight_v, dtype=np.float64)
        return np.asarray(wins.sum(axis=0) / (2.0 * weight_v.sum(axis=0) * weight_s.sum(axis=0)))

    return _in_blocks(block, counts_v, counts_s)


def bootstrap_mean(values: ArrayLike, counts: Counts) -> NDArray[np.float64]:
    """Mean of each resample.

    Args:
        values: (n,) one value per image, such as a probability or whether it was classified right.
        counts: (resamples, n).

    Returns:
        (resamples,) float64.

    Raises:
        UndefinedMetricError: Values are not finite, or the shapes do not fit.
    """
    weights = _scores("averaged", values, counts)
    # By einsum, not a matrix product: its sums do not depend on how many threads or resamples there are.
    return np.asarray(np.einsum("rn,n->r", counts, weights) / counts.sum(axis=1))


def mean_over_classes(per_class: ArrayLike, rng: np.random.Generator) -> NDArray[np.float64]:
    """Mean over classes of each resample, where the classes are resampled too, each counting the same.

    Args:
        per_class: (classes, resamples) a metric of each class in each of its resamples.
        rng: Where the draws of classes come from: the same for every model that is to be compared.

    Returns:
        (resamples,) float64.

    Raises:
        UndefinedMetricError: There is no class, or a value is not finite.
    """
    values = np.asarray(per_class, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise UndefinedMetricError(
            f"a mean over classes of shape {values.shape}: expected finite values, (classes, resamples), at least one."
        )
    counts = bootstrap_counts(len(values), values.shape[1], rng)
    return np.asarray(np.einsum("cr,rc->r", values, counts) / len(values))


def _scores(name: str, values: ArrayLike, counts: Counts) -> NDArray[np.float64]:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or counts.ndim != 2 or counts.shape[1:] != scores.shape or not counts.size:
        raise UndefinedMetricError(
            f"the {name} values have shape {scores.shape} and their counts {counts.shape}: expected (n,) and "
            "(resamples, n), at least one of both."
        )
    if not np.isfinite(scores).all():
        raise UndefinedMetricError(f"the {name} values hold NaN or infinite values: expected finite numbers.")
    return scores


def _cumulative(weights: Counts) -> NDArray[np.int32]:
    """Return (n + 1, resamples) how many of the first images were drawn: whole numbers, exact and small."""
    cumulative = np.zeros((len(weights) + 1, weights.shape[1]), np.int32)
    np.cumsum(weights, axis=0, dtype=np.int32, out=cumulative[1:])
    return cumulative


def _in_blocks(
    block: Callable[[Counts, Counts], NDArray[np.float64]], counts_v: Counts, counts_s: Counts
) -> NDArray[np.float64]:
    if len(counts_v) != len(counts_s):
        raise UndefinedMetricError(
            f"{len(counts_v)} resamples of one side and {len(counts_s)} of the other: expected as many."
        )
    step = max(16, _BLOCK // max(counts_v.shape[1], counts_s.shape[1]))
    firsts = range(0, len(counts_v), step)
    return np.concatenate([block(counts_v[i : i + step].T, counts_s[i : i + step].T) for i in firsts])
