"""The N highest-scoring images of many concepts over a stream of scores, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.errors import ConfigError, DataError

#: Largest image id that a key can hold.
MAX_ID = 2**32 - 1

# A key orders as (score, lower id first): the score's order-preserving bits above the inverted id. One integer
# comparison then ranks and breaks ties, so the result cannot depend on the order in which blocks arrive.
_EMPTY = np.iinfo(np.int64).min  # below every score's key, -inf included
_SIGN_REST = np.int32(0x7FFFFFFF)

# A longer queue means fewer merges but staler thresholds; below ~1,000 the merges dominate. With very many concepts
# the queues of all of them may take 256 MiB at most, if n is no larger.
_QUEUE = 1024
_QUEUE_KEYS = 2**25


def _pack(scores: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    bits = (scores + np.float32(0)).view(np.int32)  # adding 0 turns -0.0 into 0.0: equal scores, equal bits
    keys = (bits ^ ((bits >> 31) & _SIGN_REST)).astype(np.int64)
    keys <<= 32
    keys |= MAX_ID - ids
    return keys


def _unpack(keys: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    ordered = (keys >> 32).astype(np.int32)
    scores = (ordered ^ ((ordered >> 31) & _SIGN_REST)).view(np.float32)
    empty = keys == _EMPTY
    scores[empty] = -np.inf
    return scores, np.where(empty, -1, MAX_ID - (keys & MAX_ID))


class StreamingTopN:
    """Keeps, for each concept, the ``n`` highest scores of a stream and the images they belong to.

    A score is only queued if it is not below its concept's n-th best so far; full queues are merged into the best.
    Ties go to the lower image id. The result is the same whatever the order of the pairs and how they are cut.

    Memory is ``8 * M * (n + max(n, min(1024, 2**25 / M)))`` bytes for M concepts: 14 MB for the top 625 of 1,000.
    """

    def __init__(self, num_concepts: int, n: int) -> None:
        """Start with nothing seen.

        Args:
            num_concepts: M, at least 1.
            n: How many images to keep a concept, at least 1.

        Raises:
            ConfigError: Either is below 1.
        """
        if num_concepts < 1 or n < 1:
            raise ConfigError(f"top-n needs at least 1 concept and n of at least 1, got {num_concepts} and {n}.")
        self.num_concepts = num_concepts
        self.n = n
        self._queue = max(n, min(_QUEUE, _QUEUE_KEYS // num_concepts))
        # Columns [0, queue) wait, columns [queue, queue + n) are the best so far: where a partition puts them.
        self._keys = np.full((num_concepts, self._queue + n), _EMPTY, dtype=np.int64)
        self._queued = np.zeros(num_concepts, dtype=np.int64)
        self._threshold = np.full(num_concepts, -np.inf, dtype=np.float32)

    def update(self, concepts: NDArray[np.integer[Any]], scores: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        """Take scores of (concept, image) pairs: an image may count for some concepts only.

        Args:
            concepts: (P,) concept indices in [0, M).
            scores: (P,) float32, higher is better; -inf is a score.
            ids: (P,) int64 in [0, 2**32); each (concept, image) pair comes once in the stream.

        Raises:
            DataError: A score is NaN, an id or a concept is out of range, or the shapes or types are others.
        """
        if scores.dtype != np.float32 or not concepts.shape == scores.shape == ids.shape == (len(ids),):
            raise DataError(
                f"pairs have {concepts.shape} concepts, {scores.dtype} {scores.shape} scores and {ids.shape} ids: "
                "expected float32 scores and equal lengths."
            )
        _check_ids(ids)
        if len(concepts) and not 0 <= concepts.min() <= concepts.max() < self.num_concepts:
            raise DataError(f"pairs name a concept outside [0, {self.num_concepts}).")
        alive = np.flatnonzero(~(scores < self._threshold[concepts]))
        self._queue_pairs(concepts[alive], scores[alive], ids[alive])

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return what is best so far; the stream may go on.

        Returns:
            (M, n) float32 scores in descending order and (M, n) int64 image ids, padded with -inf and -1.
        """
        self._merge()
        return _unpack(np.sort(self._keys[:, self._queue :], axis=1)[:, ::-1])

    def _queue_pairs(
        self, concepts: NDArray[np.integer[Any]], scores: NDArray[np.float32], ids: NDArray[np.int64]
    ) -> None:
        wrong = np.isnan(scores)
        if wrong.any():
            raise _nan(concepts[wrong.argmax()], ids[wrong.argmax()])
        counts = np.bincount(concepts, minlength=self.num_concepts)
        if counts.max() > self._queue:
            half = len(ids) // 2
            self._queue_pairs(concepts[:half], scores[:half], ids[:half])
            self._queue_pairs(concepts[half:], scores[half:], ids[half:])
            return
        if (self._queued + counts).max() > self._queue:
            self._merge()
        # A stable sort of small integers is a radix sort.
        order = np.argsort(concepts.astype(np.min_scalar_type(self.num_concepts)), kind="stable")
        ordered = concepts[order]
        slots = np.arange(len(order)) + (self._queued - np.cumsum(counts) + counts)[ordered]
        self._keys[ordered, slots] = _pack(scores[order], ids[order])
        self._queued += counts

    def _merge(self) -> None:
        if not self._queued.any():
            return
        self._keys.partition(self._queue, axis=1)
        self._threshold = _unpack(self._keys[:, self._queue])[0]
        self._keys[:, : self._queue] = _EMPTY
        self._queued[:] = 0


def _check_ids(ids: NDArray[np.int64]) -> None:
    if len(ids) and not 0 <= ids.min() <= ids.max() <= MAX_ID:
        raise DataError(f"image ids run from {ids.min()} to {ids.max()}: expected ids in [0, {MAX_ID}].")


def _nan(concept: int, image: int) -> DataError:
    return DataError(f"the score of concept {concept} for image {image} is NaN: expected a number.")
