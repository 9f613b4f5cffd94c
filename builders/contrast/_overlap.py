"""How different the sets of images are that a class's concepts show (SFE section 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import subspace_angles

from spurious_imagenet.errors import UndefinedMetricError


def top_images(scores: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """Return the images that each concept scores highest.

    Args:
        scores: (N, M) scores of N images on M concepts, higher is more of the concept.
        count: How many images per concept.

    Returns:
        (M, count) rows of ``scores``, the highest first, ties by row.

    Raises:
        UndefinedMetricError: There are not more images than are asked for, so that every concept would show all.
    """
    if len(scores) <= count:
        raise UndefinedMetricError(f"the top {count} of {len(scores)} images tell no concepts apart: expected more.")
    return np.argsort(-scores, axis=0, kind="stable")[:count].T


def shared_images(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return which share of their images two concepts have in common, for every pair.

    Args:
        first: (A, count) images of some concepts, each once a concept.
        second: (B, count) of others.

    Returns:
        (A, B) float64 in [0, 1]; 1 where both show the same images.
    """
    shared = (first[:, None, :, None] == second[None, :, None, :]).sum(axis=(2, 3))
    return np.asarray(shared / first.shape[1])


def mean_pairwise(shared: NDArray[np.float64]) -> float:
    """Return the mean of a symmetric (M, M) table of pairs over all pairs of different concepts; lower is more diverse.

    Raises:
        UndefinedMetricError: There are fewer than two concepts.
    """
    if len(shared) < 2:
        raise UndefinedMetricError(f"the overlap within {len(shared)} concepts has no value: expected at least two.")
    return float(shared[np.triu_indices(len(shared), 1)].mean())


def distinct_share(images: NDArray[np.int64]) -> float:
    """Return how many different images (M, count) top images are, by how many they could be; higher is more diverse."""
    return len(np.unique(images)) / images.size


def principal_angles(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the angles between the spans of two sets of directions.

    Args:
        first: (A, D) directions.
        second: (B, D) directions of the same space.

    Returns:
        Degrees in [0, 90], ascending, as many as the smaller span has dimensions; 0 is a direction that both have.

    Raises:
        UndefinedMetricError: A set is all zeros, so that it has no span.
    """
    if not np.any(first) or not np.any(second):
        raise UndefinedMetricError("the angles to the span of directions that are all zero have no value.")
    angles = subspace_angles(np.asarray(first, np.float64).T, np.asarray(second, np.float64).T)
    return np.asarray(np.rad2deg(angles[::-1]))
