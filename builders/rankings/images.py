"""The labelled images of a split, class by class, out of one or more feature stores."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from spurious_imagenet.benchmark.store import FeaturePart, FeatureStore
from spurious_imagenet.benchmark.training import Indices, StoredImages
from spurious_imagenet.errors import DataError

__all__ = ["ClassImages", "SplitImages"]

_COLUMNS = ("key", "sha256", "class_id")


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


class SplitImages(StoredImages):
    """The images of a split by class; memory holds their rows, and the features of one class at a time.

    Args:
        stores: The split's stores, all of one model.

    Raises:
        DataError: No image has a class, or one has no hash.
    """

    def __init__(self, stores: Sequence[FeatureStore]) -> None:
        self.parts: tuple[FeaturePart, ...] = tuple(part for store in stores for part in store.parts)
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)], dtype=np.int64)
        self._dim = stores[0].config.feature_dim
        what = ", ".join(str(store.path) for store in stores)
        if not self.parts:
            raise DataError(f"{what} holds no images.")
        self._rows = pa.concat_tables([part.rows(_COLUMNS) for part in self.parts])
        if self._rows.column("sha256").null_count:
            raise DataError(f"{what} holds images without a SHA-256: expected stores by `spurious features`.")
        codes, classes = pd.factorize(self._rows.column("class_id").to_pandas(), sort=True)
        self.class_ids: list[str] = classes.tolist()
        self.unlabelled = int((codes == -1).sum())
        if not len(self.class_ids):
            raise DataError(f"none of the {len(self)} images of {what} has a class: expected labelled images.")
        self._order = np.argsort(codes, kind="stable")
        self._bounds = np.searchsorted(codes[self._order], np.arange(len(self.class_ids) + 1))

    def of_class(self, class_id: str) -> ClassImages:
        """Read the images of one of ``class_ids``.

        Raises:
            DataError: A feature is NaN or infinite.
        """
        ids = self._ids(class_id)
        rows = self._rows.take(ids)
        names = rows.column("key").to_pylist()
        hashes = [digest.hex() for digest in rows.column("sha256").to_pylist()]
        order = sorted(range(len(ids)), key=lambda i: (hashes[i], names[i]))
        kept = [i for n, i in enumerate(order) if not n or hashes[order[n - 1]] != hashes[i]]
        features = self.features(ids, self._dim)[kept]
        return ClassImages([names[i] for i in kept], [hashes[i] for i in kept], features, len(ids) - len(kept))

    def _ids(self, class_id: str) -> Indices:
        code = bisect_left(self.class_ids, class_id)
        return self._order[self._bounds[code] : self._bounds[code + 1]]
