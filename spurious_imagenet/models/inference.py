"""Images through a model: decode, resize and forward pass side by side, in order, in bounded memory."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.images import DecodeLimits, ImageTransform, UndecodableImageError, decode_image
from spurious_imagenet.images.orientation import is_turned_elsewhere
from spurious_imagenet.threads import ordered_map

if TYPE_CHECKING:
    from spurious_imagenet.models._backends import Backend

__all__ = ["BatchOutput", "ImageRunner", "softmax", "top_k"]

ReadImage = Callable[[], bytes]


@dataclass(frozen=True)
class BatchOutput:
    """What the model said of a run of consecutive images.

    Attributes:
        index: (n,) position of each scored image among the images given.
        features: (n, D) float32.
        logits: (n, K) float32.
        sizes: (n, 2) int32, original width and height.
        sha256: n digests of the images' bytes.
        rejects: Position and reason of each image that could not be scored.
        turned: How many of the scored images others turn (see ``is_turned_elsewhere``).
    """

    index: NDArray[np.int64]
    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    sizes: NDArray[np.int32]
    sha256: tuple[bytes, ...]
    rejects: tuple[tuple[int, str], ...]
    turned: int = 0


class ImageRunner:
    """Runs images through a backend with a pool of threads.

    Each task is one batch: decode and resize its images, then the forward pass. Backends that gain from several
    callers (OpenVINO's streams, CUDA's copies) get them; for the others a semaphore lets one batch compute while other
    threads decode.

    Args:
        backend: The network.
        preprocess: Transform from decoded image to pixels.
        limits: Image sizes to refuse.
        workers: Threads; the number of CPUs where left out.
    """

    def __init__(
        self,
        backend: Backend,
        preprocess: ImageTransform,
        *,
        limits: DecodeLimits | None = None,
        workers: int | None = None,
    ) -> None:
        self.backend = backend
        self.preprocess = preprocess
        self.limits = limits or DecodeLimits()
        self.workers = workers or os.cpu_count() or 1
        self._compute = BoundedSemaphore(backend.concurrency)
        _keep_freed_memory()

    def run(self, images: Iterable[ReadImage], preprocess: ImageTransform | None = None) -> Iterator[BatchOutput]:
        """Score images in order.

        Args:
            images: Functions that return an image file's bytes; called in the worker threads.
            preprocess: Transform for this run, in place of the runner's own; of the same input size.

        Yields:
            One output a batch of consecutive images, in the order given.
        """
        transform = preprocess or self.preprocess
        source = enumerate(images)
        batches = iter(lambda: list(islice(source, self.backend.batch_size)), [])
        return ordered_map(lambda b: self._score(b, transform), batches, threads=self.workers, ahead=2, name="images")

    def _score(self, batch: list[tuple[int, ReadImage]], preprocess: ImageTransform) -> BatchOutput:
        index, pixels, sizes, digests, rejects, turned = [], [], [], [], [], 0
        for position, read in batch:
            data = read()
            try:
                image = decode_image(data, self.limits)
            except UndecodableImageError as error:
                rejects.append((position, str(error)))
                continue
            index.append(position)
            sizes.append((image.shape[1], image.shape[0]))
            digests.append(hashlib.sha256(data).digest())
            pixels.append(preprocess.apply(image))
            turned += is_turned_elsewhere(data)
        if not pixels:
            return BatchOutput(*_nothing(), (), tuple(rejects))
        with self._compute:
            features, logits = self.backend(np.stack(pixels))
        where, shapes = np.array(index, np.int64), np.array(sizes, np.int32)
        return BatchOutput(where, features, logits, shapes, tuple(digests), tuple(rejects), turned)


def _nothing() -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    none = np.zeros((0, 0), np.float32)
    return np.zeros(0, np.int64), none, none, np.zeros((0, 2), np.int32)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N, K) probabilities of (N, K) logits, over all outputs, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    return np.asarray(exponential / exponential.sum(axis=1, keepdims=True))


def top_k(values: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Return (N, k) indices of the k largest values a row, largest first, ties by lower index."""
    count = min(k, values.shape[1])
    candidates = np.sort(np.argpartition(-values, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(values, candidates, axis=1), axis=1, kind="stable")
    return np.take_along_axis(candidates, order, axis=1)


def _keep_freed_memory() -> None:
    """Tell glibc to reuse large freed blocks: returning them costs a page fault a page on every batch."""
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 29)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 1 << 29)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):  # another C library; only speed is lost
        return
