"""How strongly an image shows the spurious cues of its class, among the images of that class (SR section 4.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spurious_imagenet.errors import UndefinedMetricError

__all__ = ["spuriosity", "storage_noise", "varying_concepts"]

_HALF_STEP = 2.0**-11
"""Largest relative error of a number kept as float16 ..."""
_LEAST_STEP = 2.0**-25
"""... and the largest absolute error of one too small for that."""


def spuriosity(scores: ArrayLike, labels: ArrayLike | None = None, *, noise: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Return the mean, over concepts, of an image's score in standard deviations from its class's mean (SR §4.1).

    Mean and standard deviation (population) are those of the images given. A concept that does not vary within a class
    says nothing about its images and contributes 0.

    Args:
        scores: (N, M) scores of the class's spurious concepts; higher means more of the concept.
        labels: (N,) class of each image; None: all are of one class.
        noise: (M,) or one: a standard deviation up to this counts as 0, see :func:`storage_noise`.

    Returns:
        (N,) float64; 0 is the class's average, higher means more of the cues.

    Raises:
        UndefinedMetricError: There is no image or no concept, or a score is not finite.

    Examples:
        >>> spuriosity([[1.0], [2.0], [3.0]]).round(3).tolist()
        [-1.225, 0.0, 1.225]
        >>> spuriosity([[1.0], [2.0], [10.0], [30.0]], labels=[0, 0, 1, 1]).tolist()
        [-1.0, 1.0, -1.0, 1.0]
    """
    values = _checked(scores)
    if labels is None:
        return _of_one_class(values, np.asarray(noise))
    classes = np.asarray(labels)
    if classes.shape != values.shape[:1]:
        raise UndefinedMetricError(f"there are {len(values)} images and labels of shape {classes.shape}: expected one.")
    result = np.empty(len(values))
    for label in np.unique(classes):
        result[classes == label] = _of_one_class(values[classes == label], np.asarray(noise))
    return result


def varying_concepts(scores: ArrayLike, *, noise: ArrayLike = 0.0) -> NDArray[np.bool_]:
    """Tell which concepts vary over the images of a class: the others contribute 0 to :func:`spuriosity`.

    Args:
        scores: (N, M) scores of one class's images.
        noise: (M,) or one: a standard deviation up to this counts as 0.

    Returns:
        (M,) booleans.

    Raises:
        UndefinedMetricError: There is no image or no concept, or a score is not finite.
    """
    values = _checked(scores)
    # The mean of equal numbers may miss them by one step of their type, so their deviation may not be exactly zero.
    step = np.finfo(values.dtype).eps * np.abs(values.astype(np.float64)).max(axis=0)
    varying: NDArray[np.bool_] = values.std(axis=0, dtype=np.float64) > np.maximum(step, noise)
    return varying


def storage_noise(features: NDArray[np.floating[Any]], directions: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return how far scores may stray because features are kept as float16.

    A concept that is constant over a class may seem to vary by this much; divided by so small a deviation, rounding
    errors would weigh as much as a cue.

    Args:
        features: (N, D) features, as they were kept.
        directions: (M, D) what the concepts read of them.

    Returns:
        (M,) float64 root mean square over the images, in units of the scores.
    """
    step = np.maximum(np.abs(features.astype(np.float64)) * _HALF_STEP, _LEAST_STEP)
    squares = np.square(step).mean(axis=0) @ np.square(directions.astype(np.float64)).T
    noise: NDArray[np.float64] = np.sqrt(squares)
    return noise


def _of_one_class(scores: NDArray[np.floating[Any]], noise: NDArray[Any]) -> NDArray[np.float64]:
    varying = varying_concepts(scores, noise=noise)
    values = scores[:, varying].astype(np.float64)
    standardised = (values - values.mean(axis=0)) / values.std(axis=0)
    mean: NDArray[np.float64] = standardised.sum(axis=1) / scores.shape[1]  # those that do not vary count as 0
    return mean


def _checked(scores: ArrayLike) -> NDArray[np.floating[Any]]:
    values = np.asarray(scores)
    if values.ndim != 2 or not values.size:
        raise UndefinedMetricError(
            f"the concept scores have shape {values.shape}: expected at least one image and one concept."
        )
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise UndefinedMetricError("the concept scores hold NaN or infinite values: expected finite numbers.")
    return values
