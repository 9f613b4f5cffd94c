"""Spurious gaps: how much accuracy drops where spurious cues are absent (SR section 4.2 and appendix D).

Pure array functions. A gap is signed: positive where the class is recognised worse without its spurious features,
negative where their presence hurts (another class's object, mostly: spurious feature collision).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spurious_imagenet.errors import UndefinedMetricError

__all__ = [
    "AccuracyBin",
    "Gap",
    "RobustnessLine",
    "accuracy_by_percentile",
    "effective_robustness",
    "top_and_bottom_k",
    "gap_correlation",
    "mean_gap",
    "pooled_gap",
    "spurious_gap",
    "variance_ratio",
]

Indices = NDArray[np.int64]


class Gap(NamedTuple):
    """Accuracy on the images of highest and of lowest spuriosity."""

    accuracy_high: float
    accuracy_low: float

    @property
    def gap(self) -> float:
        """``accuracy_high - accuracy_low``, in [-1, 1]; 0 is best."""
        return self.accuracy_high - self.accuracy_low


class AccuracyBin(NamedTuple):
    """Images whose percentile is in [low, high), the last range with its end, and how many were right."""

    low: float
    high: float
    images: int
    accuracy: float


class RobustnessLine(NamedTuple):
    """The line ``accuracy_low = slope * accuracy_high + intercept`` over models, and how far above it each model is."""

    slope: float
    intercept: float
    effective_robustness: NDArray[np.float64]


def top_and_bottom_k(
    spuriosity: ArrayLike, ties: ArrayLike, k: int, where: str = "the class"
) -> tuple[Indices, Indices]:
    """Choose exactly the k images of highest and the k of lowest spuriosity of one class.

    Images are ordered by spuriosity, equal ones by their tie key, ascending: of images that tie at the k-th place the
    lower keys are the less spurious. With a key that belongs to the image, such as its hash, the choice does not depend
    on the order in which the images are given.

    Args:
        spuriosity: (n,) spuriosity, or rank, of each image.
        ties: (n,) a key of each image.
        k: How many.
        where: What to call the class in an error.

    Returns:
        (k,) indices of the highest and (k,) of the lowest, each by ascending spuriosity. They never overlap.

    Raises:
        UndefinedMetricError: There are fewer than 2k images, or a spuriosity is not finite.

    Examples:
        >>> high, low = top_and_bottom_k([0.3, 0.1, 0.2, 0.4], ["a", "b", "c", "d"], k=2)
        >>> high.tolist(), low.tolist()
        ([0, 3], [1, 2])
    """
    values, keys = np.asarray(spuriosity, np.float64), np.asarray(ties)
    if values.ndim != 1 or values.shape != keys.shape or not np.isfinite(values).all():
        raise UndefinedMetricError(
            f"{where} has spuriosities of shape {values.shape} and tie keys of shape {keys.shape}: expected finite "
            "values and one key each."
        )
    if k < 1 or len(values) < 2 * k:
        raise UndefinedMetricError(
            f"{where} has {len(values)} ranked images: a gap between the {k} highest and the {k} lowest needs {2 * k}."
            if k > 0
            else f"a gap between the {k} highest and lowest images of {where}: expected k of at least 1."
        )
    order = np.lexsort((keys, values))
    return order[-k:], order[:k]


def spurious_gap(correct: ArrayLike, spuriosity: ArrayLike, ties: ArrayLike, k: int, where: str = "the class") -> Gap:
    """Accuracy on the k images of highest spuriosity and on the k of lowest (SR section 4.2).

    Args:
        correct: (n,) bool, whether each image was classified as the class.
        spuriosity: (n,) spuriosity, or rank, of each image; higher shows the class's spurious features more.
        ties: (n,) a key of each image that breaks ties; see :func:`top_and_bottom_k`.
        k: Images on either side; 10 in SR.
        where: What to call the class in an error.

    Raises:
        UndefinedMetricError: There are fewer than 2k images, or the shapes differ.

    Examples:
        >>> spurious_gap([True, False, True, True], [0.3, 0.1, 0.2, 0.4], ["a", "b", "c", "d"], k=2)
        Gap(accuracy_high=1.0, accuracy_low=0.5)
    """
    right = np.asarray(correct, bool)
    high, low = top_and_bottom_k(spuriosity, ties, k, where)
    if right.shape != np.shape(spuriosity):
        raise UndefinedMetricError(f"{where} has {np.shape(spuriosity)} spuriosities and {right.shape} results.")
    return Gap(float(right[high].mean()), float(right[low].mean()))


def mean_gap(gaps: ArrayLike) -> float:
    """Mean of class-wise gaps, each class counting the same.

    Raises:
        UndefinedMetricError: There is no class, or a gap is not finite.

    Examples:
        >>> mean_gap([0.5, 0.25, 0.0])
        0.25
    """
    return float(_finite("the gaps of the classes", gaps, 1).mean())


def pooled_gap(high: list[NDArray[np.bool_]], low: list[NDArray[np.bool_]]) -> float:
    """Gap over all classes' images together; equal to the mean over classes where each class gives as many.

    Args:
        high: One (k,) bool a class, whether its images of highest spuriosity were right.
        low: The same of its lowest.

    Raises:
        UndefinedMetricError: A side has no image.

    Examples:
        >>> pooled_gap([np.array([True, True])], [np.array([True, False])])
        0.5
    """
    if not sum(map(len, high)) or not sum(map(len, low)):
        raise UndefinedMetricError("a pooled gap without images: expected at least one image on both sides.")
    return float(np.concatenate(high).mean() - np.concatenate(low).mean())


def accuracy_by_percentile(correct: ArrayLike, percentile: ArrayLike, bins: int = 10) -> tuple[AccuracyBin, ...]:
    """Accuracy against spuriosity rank, images of all classes pooled (SR Fig. 8 right); flat is best.

    Args:
        correct: (n,) bool.
        percentile: (n,) place of each image within its class, in [0, 1]: 0 is the lowest spuriosity.
        bins: Ranges of equal width; one without images has no accuracy, and is left out.

    Raises:
        UndefinedMetricError: There are no images, or a percentile is outside [0, 1].

    Examples:
        >>> for part in accuracy_by_percentile([False, True, True, True], [0.0, 0.4, 0.6, 1.0], bins=2):
        ...     print(part.low, part.high, part.images, part.accuracy)
        0.0 0.5 2 0.5
        0.5 1.0 2 1.0
    """
    right, place = np.asarray(correct, bool), _finite("the percentiles", percentile, 1)
    if right.shape != place.shape or place.min() < 0 or place.max() > 1 or bins < 1:
        raise UndefinedMetricError(
            f"{right.size} results with {place.size} percentiles from {place.min()} to {place.max()} in {bins} ranges: "
            "expected one for each, in [0, 1], and at least one range."
        )
    index = np.minimum((place * bins).astype(np.int64), bins - 1)
    images, hits = np.bincount(index, minlength=bins), np.bincount(index[right], minlength=bins)
    return tuple(
        AccuracyBin(b / bins, (b + 1) / bins, int(images[b]), float(hits[b] / images[b]))
        for b in np.flatnonzero(images)
    )


def effective_robustness(accuracy_high: ArrayLike, accuracy_low: ArrayLike) -> RobustnessLine:
    """How much better a model does without spurious cues than its accuracy with them predicts (SR appendix D).

    Args:
        accuracy_high: (M,) accuracy of each model on the images of highest spuriosity.
        accuracy_low: (M,) the same on those of lowest.

    Returns:
        The least-squares line, and (M,) ``accuracy_low - line(accuracy_high)``: higher is better, they sum to 0.

    Raises:
        UndefinedMetricError: There are fewer than three models, or all have the same ``accuracy_high``.

    Examples:
        >>> line = effective_robustness([0.5, 0.7, 0.9], [0.2, 0.5, 0.6])
        >>> round(line.slope, 6), line.effective_robustness.round(3).tolist()
        (1.0, [-0.033, 0.067, -0.033])
    """
    x, y = _finite("accuracies of models", accuracy_high, 1), _finite("accuracies of models", accuracy_low, 1)
    if x.shape != y.shape or len(x) < 3:
        raise UndefinedMetricError(
            f"effective robustness of {len(x)} models: a line leaves nothing to tell below three models."
        )
    # Equal accuracies differ by rounding; no two counts of images are this close.
    if np.ptp(x) < 1e-12:
        raise UndefinedMetricError(
            f"effective robustness of {len(x)} models that all have accuracy {x[0]:.3f} on the images of highest "
            "spuriosity: expected different ones."
        )
    deviation = x - x.mean()
    slope = float(deviation @ (y - y.mean()) / (deviation @ deviation))
    intercept = float(y.mean() - slope * x.mean())
    return RobustnessLine(slope, intercept, y - (slope * x + intercept))


def gap_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Pearson's r between the class-wise gaps of two models (SR Figs. 7 and 14; 0.69 on average there).

    Args:
        first: (C,) gaps of one model.
        second: (C,) gaps of another, of the same classes in the same order.

    Returns:
        In [-1, 1]; 1 where the models rely on the same classes' cues alike.

    Raises:
        UndefinedMetricError: There are fewer than two classes, or a model has the same gap on every class.

    Examples:
        >>> round(gap_correlation([0.1, 0.2, 0.3], [0.2, 0.4, 0.6]), 6)
        1.0
    """
    x, y = _finite("the gaps of a model", first, 1), _finite("the gaps of a model", second, 1)
    if x.shape != y.shape or len(x) < 2:
        raise UndefinedMetricError(
            f"a correlation of gaps of {len(x)} and {len(y)} classes: expected the same classes, at least two."
        )
    for gaps in (x, y):
        if np.ptp(gaps) < 1e-12:
            raise UndefinedMetricError(
                f"a correlation with a model whose gap is {gaps[0]:.3f} on each of {len(gaps)} classes is undefined."
            )
    dx, dy = x - x.mean(), y - y.mean()
    return float(np.clip(dx @ dy / np.sqrt((dx @ dx) * (dy @ dy)), -1, 1))


def variance_ratio(gaps: ArrayLike) -> tuple[float, float]:
    """Sample variance of gaps across classes and across models (SR section 4.2: the first is 3.1 times the second).

    Args:
        gaps: (M, C) gap of each model on each class.

    Returns:
        Variance over classes of the mean over models, and variance over models of the mean over classes.

    Raises:
        UndefinedMetricError: There are fewer than two models or two classes.

    Examples:
        >>> across_classes, across_models = variance_ratio([[0.0, 0.4], [0.2, 0.6]])
        >>> round(across_classes, 6), round(across_models, 6)
        (0.08, 0.02)
    """
    table = _finite("the gaps of models", gaps, 2)
    if min(table.shape) < 2:
        raise UndefinedMetricError(
            f"variances of the gaps of {table.shape[0]} models on {table.shape[1]} classes: expected two of both."
        )
    return float(np.var(table.mean(axis=0), ddof=1)), float(np.var(table.mean(axis=1), ddof=1))


def _finite(name: str, values: ArrayLike, dimensions: int) -> NDArray[np.float64]:
    array: NDArray[Any] = np.asarray(values, np.float64)
    if array.ndim != dimensions or not array.size or not np.isfinite(array).all():
        raise UndefinedMetricError(
            f"{name} have shape {array.shape}: expected finite values, at least one, in {dimensions} dimension(s)."
        )
    return array
