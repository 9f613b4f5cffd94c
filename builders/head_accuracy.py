"""How a linear head does on the features of other images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spurious_imagenet.benchmark.models.head import LinearHead
from spurious_imagenet.benchmark.store import FeatureStore
from spurious_imagenet.errors import DataError

__all__ = ["Measured", "head_accuracy"]


class Measured(NamedTuple):
    """How a head does on a store.

    Attributes:
        accuracy: Share of the images of the head's classes that it classifies rightly, in [0, 1].
        images: Images of the head's classes.
        classes: How many of the head's classes they are of.
        of: All images of the store.
    """

    accuracy: float
    images: int
    classes: int
    of: int


def head_accuracy(head: LinearHead, class_ids: tuple[str, ...], store: FeatureStore) -> Measured:
    """Measure how many of a store's images of the head's classes the head classifies rightly.

    Raises:
        DataError: The store has no image of these classes.
    """
    right = total = 0
    index = {class_id: i for i, class_id in enumerate(class_ids)}
    present: set[int] = set()
    for part in store.parts:
        names = part.rows(["class_id"]).column("class_id").to_pylist()
        label = np.array([index.get(n, -1) for n in names], np.int64)
        known = label >= 0
        if known.any():
            logits = head.logits(part.features()[known])
            right += int((logits.argmax(axis=1) == label[known]).sum())
            total += int(known.sum())
            present.update(label[known].tolist())
    if not total:
        raise DataError(f"{store.path} has no image of the head's {len(class_ids)} classes: expected some.")
    return Measured(right / total, total, len(present), len(store))
