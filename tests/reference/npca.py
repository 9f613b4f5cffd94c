"""Naive second implementation of class-wise neural PCA, written from SFE eq. 1-6."""

from __future__ import annotations

import numpy as np


def eigenpairs(features: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all D eigenvalues (descending), eigenvectors in rows, and the mean of psi, from the (D, D) covariance."""
    psi = [weight * x for x in features.astype(np.float64)]
    mean = sum(psi) / len(psi)
    covariance = np.zeros((len(weight), len(weight)))
    for p in psi:
        covariance += np.outer(p - mean, p - mean)
    values, vectors = np.linalg.eigh(covariance)
    return values[::-1], vectors.T[::-1], mean


def alpha(image: np.ndarray, weight: np.ndarray, vector: np.ndarray, mean: np.ndarray) -> float:
    """Contribution of one eigenvector to the class's logit of one image (eq. 5)."""
    return float(np.sum(vector) * np.dot(weight * image.astype(np.float64) - mean, vector))
