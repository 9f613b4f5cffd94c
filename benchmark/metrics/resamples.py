"""BootstrapResamples: which images are in which resample, the same ones for every model that is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spurious_imagenet.benchmark.metrics.bootstrap import bootstrap_counts, class_rng, mean_over_classes

__all__ = ["SPURIOUS", "VALIDATION", "BootstrapResamples"]

VALIDATION, SPURIOUS = 0, 1  # sides of `class_rng`
_CLASSES = 4


class BootstrapResamples:
    """The resamples of one seed.

    Args:
        resamples: How many.
        seed: Models that are to be compared need the same.
        kept_bytes: So much of what was drawn is kept for the next model; what does not fit is drawn again.
    """

    def __init__(self, resamples: int, seed: int, kept_bytes: int = 0) -> None:
        self.resamples, self.seed = resamples, seed
        self._kept: dict[tuple[str, int, int], NDArray[Any]] = {}
        self._left = kept_bytes

    def counts(self, n: int, group: str, side: int) -> NDArray[Any]:
        """Return (resamples, n) how often each of a group's images is in each resample.

        Args:
            n: Images of the group.
            group: A class or a concept.
            side: :data:`VALIDATION` or :data:`SPURIOUS`.

        Raises:
            UndefinedMetricError: There is no image.
        """
        key = group, side, n
        if key in self._kept:
            return self._kept[key]
        counts: NDArray[Any] = bootstrap_counts(n, self.resamples, class_rng(self.seed, group, side))
        if self._left <= 0:
            return counts
        if n <= np.iinfo(np.uint8).max:  # no image is drawn more often than there are draws
            counts = counts.astype(np.uint8)
        if counts.nbytes <= self._left:
            self._left -= counts.nbytes
            self._kept[key] = counts
        return counts

    def mean_over_classes(self, per_class: ArrayLike) -> NDArray[np.float64]:
        """Average (classes, resamples) values of classes that are resampled too; see :func:`.mean_over_classes`."""
        return mean_over_classes(per_class, class_rng(self.seed, "", _CLASSES))
