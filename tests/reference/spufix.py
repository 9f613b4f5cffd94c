"""Naive second implementation of SpuFix, written from SFE eq. 8-11, in float64 and image by image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def corrected_by_alpha(logit: float, alphas: Sequence[float]) -> float:
    """Eq. 8: the class's logit without the positive parts of its spurious components."""
    for alpha in alphas:
        logit -= max(alpha, 0.0)
    return logit


def mean_psi(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean of the weighted features of the class's training images."""
    total = np.zeros(len(weight))
    for image in features.astype(np.float64):
        total += weight * image
    return total / len(features)


def direction(features: np.ndarray, weight: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Eq. 10: the direction of largest covariance with one component's alpha."""
    mean, total = mean_psi(features, weight), np.zeros(len(weight))
    for image, score in zip(features.astype(np.float64), alpha.astype(np.float64), strict=True):
        total += (weight * image - mean) * score
    return total / np.sqrt(np.sum(total**2))


def corrected_by_directions(
    logit: float, image: np.ndarray, weight: np.ndarray, mean: np.ndarray, directions: Sequence[np.ndarray]
) -> float:
    """Eq. 11: P solves the normal equations of the projection onto the directions' span."""
    basis = np.array(directions)
    centred = weight * image.astype(np.float64) - mean
    gram = np.array([[np.dot(a, b) for b in basis] for a in basis])
    coefficients = np.linalg.solve(gram, np.array([np.dot(b, centred) for b in basis]))
    for b, p in zip(basis, coefficients, strict=True):
        logit -= max(np.sum(b) * p, 0.0)
    return logit
