"""Images that a feature store holds more than once, known by the hash of their bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spurious_imagenet.features._parts import FeaturePart
from spurious_imagenet.features.store import FeatureStore

__all__ = ["Repeats", "each_once", "image_codes", "repeats_of"]


@dataclass(frozen=True)
class Repeats:
    """How many images of a store have the bytes of another one of it.

    Attributes:
        images: Images of the store.
        repeats: Those that would go if each were kept once.
        example: "part/key" of two of the same bytes.
        parts: Names of two parts of one and the same shard; None where there are none.
    """

    images: int
    repeats: int
    example: tuple[str, str]
    parts: tuple[str, str] | None

    def __str__(self) -> str:
        first, second = self.example
        what = f"{self.repeats} of {self.images} images repeat the bytes of another, such as {second} those of {first}"
        if self.parts is None:
            return f"{what}."
        return f"{what}; the parts {self.parts[0]} and {self.parts[1]} are of one shard: delete one of their folders."


def repeats_of(store: FeatureStore) -> Repeats | None:
    """Count the images of a store that repeat another one's bytes; None where none does."""
    parts = store.parts
    codes = image_codes(parts)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(codes)))
    if not len(again):
        return None
    example = _name(parts, int(first[inverse[again[0]]])), _name(parts, int(again[0]))
    return Repeats(len(codes), len(again), example, _same_shard(parts))


def image_codes(parts: Sequence[FeaturePart]) -> NDArray[np.int64]:
    """Return a number for each image, in the order of (part, row): equal for equal bytes, else different.

    An image whose hash is not known is like no other.
    """
    hashes = np.concatenate([np.empty((0, 4), np.uint64), *(_hashes(part) for part in parts)])
    _, codes, counts = np.unique(hashes[:, 0], return_inverse=True, return_counts=True)
    codes = codes.astype(np.int64)
    # Few images share the first eight bytes; only they are compared whole.
    alike = np.flatnonzero(counts[codes] > 1)
    _, exact = np.unique(hashes[alike], axis=0, return_inverse=True)
    codes[alike] = len(counts) + exact.reshape(-1)
    unknown = np.flatnonzero(~hashes.any(axis=1))
    codes[unknown] = -1 - unknown
    return codes


def each_once(images: NDArray[np.int64], codes: NDArray[np.int64], label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the first of images that have the same bytes and the same label.

    Args:
        images: (n,) ids, ascending.
        codes: What :func:`image_codes` says of all images.
        label: Label of all images.
    """
    pairs = (codes[images] - codes.min(initial=0)) * (label.max(initial=0) + 1) + label[images]
    _, first = np.unique(pairs, return_index=True)
    return images[np.sort(first)]


def _hashes(part: FeaturePart) -> NDArray[np.uint64]:
    """Return (n, 4) the hashes of a part's images; zeros where there is none."""
    column = part.rows(["sha256"]).column("sha256").fill_null(bytes(32)).cast(pa.binary())
    return np.frombuffer(b"".join(column.to_pylist()), dtype=np.uint64).reshape(-1, 4)


def _name(parts: Sequence[FeaturePart], image: int) -> str:
    for part in parts:
        if image < len(part):
            return f"{part.path.name}/{part.rows(['key']).column('key')[image].as_py()}"
        image -= len(part)
    raise IndexError(image)


def _same_shard(parts: Sequence[FeaturePart]) -> tuple[str, str] | None:
    of_shard: dict[tuple[str, int], list[str]] = defaultdict(list)
    for part in parts:
        of_shard[part.receipt.shard_sha256, part.receipt.shard_bytes].append(part.path.name)
    return next(((names[0], names[1]) for names in of_shard.values() if len(names) > 1), None)
