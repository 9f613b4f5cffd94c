"""A linear map from one model's features to another's, so that texts of the second can be read from the first.

SR appendix G names it: abilities of a vision-language model carry over to vision-only models at small cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import FeatureStore

__all__ = ["Alignment", "fit_alignment"]

_HELD_OUT = 26  # of the 256 values of a hash's last byte: a tenth of the images
_RIDGES = tuple(10.0**power for power in range(-6, 1))  # of the mean variance of a feature
_FEWEST = 20

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Alignment:
    """``target ≈ weight @ source + bias``.

    Attributes:
        weight: (D_target, D_source) float64.
        bias: (D_target,) float64.
        r2: Share of the target features' variance that is explained on held-out images, at most 1; higher is better.
        ridge: The penalty that was chosen, as a share of the mean variance of a source feature.
        images: Images that the map was fitted to.
        held_out: Images that it was measured on.
    """

    weight: Matrix
    bias: Matrix
    r2: float
    ridge: float
    images: int
    held_out: int

    def carry(self, directions: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Turn read-outs of the target features, (M, D_target), into directions and offsets over the source's."""
        wide = directions.astype(np.float64)
        return (wide @ self.weight).astype(np.float32), (wide @ self.bias).astype(np.float32)


@dataclass
class _Moments:
    """Sums over images of (source, 1) and target, from which every ridge regression follows."""

    gram: Matrix
    cross: Matrix
    target_sum: Matrix
    target_square: float
    images: int

    @classmethod
    def zero(cls, source: int, target: int) -> _Moments:
        return cls(np.zeros((source + 1, source + 1)), np.zeros((source + 1, target)), np.zeros(target), 0.0, 0)

    def add(self, source: Matrix, target: Matrix) -> None:
        wide = np.hstack([source, np.ones((len(source), 1))])
        self.gram += wide.T @ wide
        self.cross += wide.T @ target
        self.target_sum += target.sum(0)
        self.target_square += float((target**2).sum())
        self.images += len(source)

    def solve(self, ridge: float) -> Matrix:
        """Return the (D_source + 1, D_target) coefficients; the constant is not penalised."""
        mean = self.gram[-1, :-1] / self.images
        variance = float((np.diag(self.gram)[:-1] / self.images - mean**2).mean())
        penalty = np.full(len(self.gram), self.images * ridge * max(variance, 1e-12))
        penalty[-1] = 0
        return np.asarray(scipy.linalg.solve(self.gram + np.diag(penalty), self.cross, assume_a="sym"))

    def r2(self, coefficients: Matrix) -> float:
        """Return the share of the target's variance that coefficients explain on these images."""
        residual = (
            self.target_square
            - 2 * float((coefficients * self.cross).sum())
            + float((coefficients * (self.gram @ coefficients)).sum())
        )
        total = self.target_square - float((self.target_sum**2).sum()) / self.images
        return 1 - residual / total


def fit_alignment(source: FeatureStore, target: FeatureStore) -> Alignment:
    """Fit a ridge regression from one model's features to another's, on the images that both stores hold.

    Images are matched by the hash of their bytes. A tenth of them, told by their hashes, are held out: they choose the
    penalty and give ``r2``. Memory holds the hashes of one store, one part of the other, and (D_source + D_target) *
    D_source sums.

    Args:
        source: Features of the model that is to read texts.
        target: Features of the vision-language model.

    Raises:
        DataError: The stores share too few images.
    """
    fitted = _Moments.zero(source.config.feature_dim, target.config.feature_dim)
    held = _Moments.zero(source.config.feature_dim, target.config.feature_dim)
    for ours, theirs, last_byte in _matched(source, target):
        for moments, rows in ((fitted, last_byte >= _HELD_OUT), (held, last_byte < _HELD_OUT)):
            moments.add(ours[rows], theirs[rows])
    if min(fitted.images, held.images) < _FEWEST:
        raise DataError(
            f"{source.path} and {target.path} share {fitted.images + held.images} images: expected the same images in "
            f"both, at least {10 * _FEWEST}."
        )
    found = [(held.r2(solution := fitted.solve(ridge)), ridge, solution) for ridge in _RIDGES]
    r2, ridge, solution = max(found, key=lambda item: item[0])
    return Alignment(solution[:-1].T, solution[-1], r2, ridge, fitted.images, held.images)


def _matched(source: FeatureStore, target: FeatureStore) -> Iterator[tuple[Matrix, Matrix, NDArray[np.uint8]]]:
    """Yield features of the same images by both models, and the last bytes of their hashes, part by part."""
    places = {
        digest: (number, row)
        for number, part in enumerate(target.parts)
        for row, digest in enumerate(part.rows(["sha256"]).column("sha256").to_pylist())
    }
    parts = target.parts
    for part in source.parts:
        digests = part.rows(["sha256"]).column("sha256").to_pylist()
        rows = [row for row, digest in enumerate(digests) if digest in places]
        if not rows:
            continue
        theirs = np.empty((len(rows), target.config.feature_dim))
        where = np.array([places[digests[row]] for row in rows])
        for number in np.unique(where[:, 0]):
            mine = where[:, 0] == number
            theirs[mine] = parts[number].features()[where[mine, 1]]
        last = np.array([digests[row][-1] for row in rows], np.uint8)
        yield part.features()[rows].astype(np.float64), theirs, last
