"""Class-wise neural PCA: the directions along which a class's contributions to its own logit vary (SFE section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.errors import DataError

Floats = NDArray[np.float64]

_EPSILON = float(np.finfo(np.float64).eps)

# Below this, the sign of <1, v> is rounding, and so is every α of the component.
_NO_SUM = 1e-9


@dataclass(frozen=True, eq=False)
class ClassNpca:
    """The neural PCA of one class, with N images and D features.

    Attributes:
        eigenvalues: (r,) descending, of the covariance C of SFE eq. 3, which is a sum over images, not a mean.
        eigenvectors: (r, D) orthonormal rows v_l, signed so that ``ones_dot_v`` is positive (SFE eq. 4).
        psi_mean: (D,) mean of ψ_k over the class's images.
        ones_dot_v: (r,) <1, v_l>, the factor in α_l (SFE eq. 5); negative by rounding at most.
        rank: Numerical rank of C, at most min(N - 1, D); r is the smaller of it and the number asked for.
        total_variance: Trace of C, the sum of all its eigenvalues.
    """

    eigenvalues: Floats
    eigenvectors: Floats
    psi_mean: Floats
    ones_dot_v: Floats
    rank: int
    total_variance: float

    @property
    def explained_share(self) -> Floats:
        """(r,) share of each component in the total variance, in (0, 1]."""
        return self.eigenvalues / self.total_variance


def class_npca(features: NDArray[np.floating[Any]], weight: NDArray[np.floating[Any]], top: int) -> ClassNpca:
    """Decompose the variation of ψ = weight * features over one class's images (SFE eq. 1-4).

    Works in float64 on the smaller of the (N, N) Gram matrix and the (D, D) covariance, which share their non-zero
    eigenvalues. An eigenvalue counts towards the rank if it exceeds ``4 * max(N, D) * eps`` times the largest one;
    eigenvectors beyond the rank would be an arbitrary basis of a null space.

    Args:
        features: (N, D) penultimate features of the class's training images, N of at least 2.
        weight: (D,) row w_k of the model's last layer.
        top: How many components to keep at most, by variance.

    Returns:
        The decomposition; of images that all have the same features, one of rank 0.

    Raises:
        DataError: Fewer than 2 images, shapes that do not fit, or a NaN or infinite number.
    """
    if features.ndim != 2 or weight.shape != features.shape[1:]:
        raise DataError(f"neural PCA needs (N, D) features and a (D,) weight, got {features.shape} and {weight.shape}.")
    if len(features) < 2:
        raise DataError(f"neural PCA needs the features of at least 2 images, got {len(features)}.")
    psi = features.astype(np.float64) * weight.astype(np.float64)
    if not np.isfinite(psi).all():
        raise DataError("neural PCA needs finite features and weights, got NaN or infinite ones.")
    first = psi[0].copy()
    psi -= first  # so that equal images, or a feature that never changes, come out as exactly 0
    shift = psi.mean(axis=0)
    psi -= shift
    wide = len(psi) < psi.shape[1]
    values, vectors = np.linalg.eigh(psi @ psi.T if wide else psi.T @ psi)
    rank = min(int(np.count_nonzero(values > 4 * max(psi.shape) * _EPSILON * values[-1])), len(psi) - 1)
    kept = slice(-1, -1 - min(rank, top), -1)
    axes = vectors[:, kept]
    if wide:
        # An eigenvector u of the Gram matrix gives v = ψ^T u / s; QR divides, and mends what small s cost.
        axes = np.linalg.qr(psi.T @ axes)[0]
    axes = _signed(axes.T)
    return ClassNpca(values[kept], axes, first + shift, axes.sum(axis=1), rank, float(np.vdot(psi, psi)))


def _signed(axes: Floats) -> Floats:
    """Choose each row's sign so that its sum, or where that is only rounding its largest entry, is positive."""
    sums = axes.sum(axis=1, keepdims=True)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return axes * np.where(np.where(np.abs(sums) > _NO_SUM, sums, largest) < 0, -1.0, 1.0)


def npca_concepts(npca: ClassNpca, weight: NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Write α_1..α_r, and what they leave of the logit, as linear read-outs of the features φ (SFE eq. 5-6).

    α_l(φ) = <1, v_l> <w * φ - ψ_mean, v_l> is a direction <1, v_l> (w * v_l) and an offset -<1, v_l> <ψ_mean, v_l>. The
    last row is the residual: the sum of the α of all further eigenvectors, null space of C included. With it,
    Σ_l α_l(φ) + residual(φ) = f_k(φ) - <1, ψ_mean> - b_k for any φ, not only those of the class's images. No row
    depends on the eigenvectors' signs.

    Args:
        npca: A class's decomposition.
        weight: (D,) the same row w_k it was made with.

    Returns:
        (r + 1, D) directions and (r + 1,) offsets.
    """
    readouts = npca.ones_dot_v[:, None] * npca.eigenvectors
    readouts = np.vstack([readouts, 1.0 - readouts.sum(axis=0)])
    return readouts * weight.astype(np.float64), -(readouts @ npca.psi_mean)
