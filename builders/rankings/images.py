"""The labelled images of a split, class by class, out of one or more feature stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spurious_imagenet.errors import DataError
from spurious_imagenet.features.labelled import Indices, LabelledFeatures
from spurious_imagenet.features.store import FeatureStore

__all__ = ["ClassImages", "SplitImages"]

_MAX_BATCH_BYTES = 256 << 20
_COLUMNS = ("key", "sha256")


class ClassImages(NamedTuple):
    """The images of one class, each once, ordered by the hash of their bytes, whatever their order in the stores.

    Attributes:
        names: (N,) keys in the shards.
        sha256: (N,) hexadecimal hashes of the images' bytes, ascending.
        features: (N, D) float16.
        repeated: Images left out because one with the same bytes is there.
    """

    names: list[str]
    sha256: list[str]
    features: NDArray[np.float16]
    repeated: int


class SplitImages(LabelledFeatures):
    """The images of a split by class; memory holds their rows, and the features of a few classes at a time.

    Args:
        stores: The split's stores, all of one model.

    Raises:
        DataError: No image has a class, or one has no hash.
    """

    def __init__(self, stores: Sequence[FeatureStore]) -> None:
        super().__init__(*stores)
        if not self.parts:
            raise DataError(f"{self.where} holds no images.")
        self._rows = pa.concat_tables([part.rows(_COLUMNS) for part in self.parts])
        if self._rows.column("sha256").null_count:
            raise DataError(f"{self.where} holds images without a SHA-256: expected stores by `spurious features`.")
        if not self.class_ids:
            raise DataError(f"none of the {len(self)} images of {self.where} has a class: expected labelled images.")

    def of_classes(self, class_ids: Sequence[str]) -> Iterator[ClassImages]:
        """Read the images of some of ``class_ids``, one class after another.

        Raises:
            DataError: A feature is NaN or infinite.
        """
        for batch in self._batches(class_ids):
            ids = np.sort(np.concatenate([self.images(class_id) for class_id in batch]))
            features = self.features(ids)
            for class_id in batch:
                own = self.images(class_id)
                yield self._of_class(own, features[np.searchsorted(ids, own)])

    def _batches(self, class_ids: Sequence[str]) -> Iterator[list[str]]:
        """Cut classes into runs whose features are few enough to be in memory: each run reads every part once."""
        batch: list[str] = []
        held = 0
        for class_id in class_ids:
            size = len(self.images(class_id)) * self.dim * np.dtype(np.float16).itemsize
            if batch and held + size > _MAX_BATCH_BYTES:
                yield batch
                batch, held = [], 0
            batch.append(class_id)
            held += size
        if batch:
            yield batch

    def _of_class(self, ids: Indices, features: NDArray[np.float16]) -> ClassImages:
        rows = self._rows.take(ids)
        names = rows.column("key").to_pylist()
        hashes = [digest.hex() for digest in rows.column("sha256").to_pylist()]
        order = sorted(range(len(ids)), key=lambda i: (hashes[i], names[i]))
        kept = [i for n, i in enumerate(order) if not n or hashes[order[n - 1]] != hashes[i]]
        return ClassImages(
            [names[i] for i in kept], [hashes[i] for i in kept], features[kept], repeated=len(ids) - len(kept)
        )
