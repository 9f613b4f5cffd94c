"""Images with what they stand for, read ahead of their use in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from spurious_imagenet.datasets.predictions import Side
from spurious_imagenet.threads import ordered_map

__all__ = ["IMAGE_COLUMNS", "LabelledImage", "LabelledImages", "RejectedImage", "read_ahead"]

#: Columns of :attr:`LabelledImages.table`, as in the predictions.
IMAGE_COLUMNS = ("side", "class_id", "concept_id", "name", "sha256")

_READERS = 16


@dataclass(frozen=True)
class LabelledImage:
    """One image and what it stands for.

    Attributes:
        side: ``validation`` or ``spurious``.
        class_id: The class it shows, or whose spurious feature it shows.
        concept_id: The spurious feature it shows, if any.
        name: Where it is, for messages.
        read: Returns its bytes.
    """

    side: Side
    class_id: str
    concept_id: str | None
    name: str
    read: Callable[[], bytes]


class RejectedImage(NamedTuple):
    """An image that could not be decoded, and why."""

    concept_id: str | None
    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images whose outputs are there.

    Attributes:
        table: One row an image that could be decoded, in the order given; columns :data:`IMAGE_COLUMNS`.
        rejects: The other images.
    """

    table: pd.DataFrame
    rejects: tuple[RejectedImage, ...]


def read_ahead(images: Iterable[LabelledImage]) -> Iterator[tuple[LabelledImage, bytes, str]]:
    """Yield each image with its bytes and their SHA-256, in order, while several threads read the next ones."""
    return ordered_map(_read, images, threads=_READERS, name="read")


def _read(image: LabelledImage) -> tuple[LabelledImage, bytes, str]:
    data = image.read()
    return image, data, hashlib.sha256(data).hexdigest()
