"""How a linear head does on the features of other images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spurious_imagenet.errors import DataError
from spurious_imagenet.features.labelled import LabelledFeatures
from spurious_imagenet.features.repeats import each_once, image_codes
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.head import LinearHead

__all__ = ["HeadAccuracy", "head_accuracy"]


class HeadAccuracy(NamedTuple):
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


def head_accuracy(head: LinearHead, class_ids: tuple[str, ...], store: FeatureStore) -> HeadAccuracy:
    """Measure how many of a store's images of the head's classes the head classifies rightly.

    Images of the same bytes and class count once.

    Raises:
        DataError: The store has no image of these classes.
    """
    images = LabelledFeatures(store, class_ids=class_ids)
    label = images.label
    known = each_once(np.flatnonzero(label >= 0), image_codes(images.parts), label)
    if not len(known):
        raise DataError(f"{store.path} has no image of the head's {len(class_ids)} classes: expected some.")
    right = 0
    for part, here, rows in images.by_part(known):
        logits = head.logits(part.features()[rows])
        right += int((logits.argmax(axis=1) == label[known[here]]).sum())
    return HeadAccuracy(right / len(known), len(known), len(np.unique(label[known])), len(images))
