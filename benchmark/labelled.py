"""Images with what they stand for, read ahead of their use in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import pandas as pd

from spurious_imagenet.benchmark.predictions import Side

__all__ = ["IMAGE_COLUMNS", "LabelledImage", "LabelledImages", "ReadImage", "read_chunks"]

#: So many images are read together, or so many bytes of images, whichever is reached first.
CHUNK_IMAGES, CHUNK_BYTES = 512, 1 << 28

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


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images whose outputs are there.

    Attributes:
        table: One row an image that could be decoded, in the order given; columns :data:`IMAGE_COLUMNS`.
        rejects: The other images, each with the reason.
    """

    table: pd.DataFrame
    rejects: tuple[tuple[LabelledImage, str], ...]


#: An image, its bytes and their SHA-256.
ReadImage = tuple[LabelledImage, bytes, str]


def read_chunks(images: Iterable[LabelledImage]) -> Iterator[list[ReadImage]]:
    """Read images in chunks of a fixed size, the next chunk while the caller works on this one."""
    chunks = _chunks(images)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting = pool.submit(next, chunks, None)
        while (chunk := waiting.result()) is not None:
            waiting = pool.submit(next, chunks, None)
            yield chunk


def _chunks(images: Iterable[LabelledImage]) -> Iterator[list[ReadImage]]:
    source, chunk, size = iter(images), [], 0
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
        while group := list(islice(source, min(_READERS, CHUNK_IMAGES - len(chunk)))):
            read = list(pool.map(_read, group))
            chunk += read
            size += sum(len(data) for _, data, _ in read)
            if len(chunk) >= CHUNK_IMAGES or size >= CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


def _read(image: LabelledImage) -> ReadImage:
    data = image.read()
    return image, data, hashlib.sha256(data).hexdigest()
