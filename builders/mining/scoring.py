"""The top images of a feature store on each concept of a bank.

Two steps make the result exact, whatever the block size, the number of threads or the order of the parts. Float32
products of each class's images with its concepts shortlist somewhat more than n images per concept. Each shortlisted
(concept, image) pair is then scored by itself in float64 and rounded to float32; images rank by that number, ties by
image id. Where the shortlist ends too close to the n-th best for float32 to tell them apart, all images near that
boundary are scored so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from spurious_imagenet.builders.mining._topn import MAX_ID, StreamingTopN
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.features.store import FeaturePart, FeatureStore

__all__ = ["Progress", "TopCandidates", "top_of_assigned"]

#: Called with (images done, images in all).
Progress = Callable[[int, int], None]

Indices = NDArray[np.int64]

_BLOCK_ROWS = 4096  # enough to spread the cost of a block, few enough for tens of MB
_BLOCK_SCORES = 2**25  # fewer rows where there are so many concepts of a class that scores would exceed 128 MiB
_PAIRS_AT_ONCE = 64  # the float64 operands of so many pairs stay in the cache
_UNIT_ROUNDOFF = 2.0**-24  # of float32


@dataclass(frozen=True, eq=False)
class TopCandidates:
    """The highest-scoring images of each of a bank's M concepts, best first.

    Images rank by their score rounded to float32; ties go to the lower image id, which counts rows in the order of
    (name of the part, row).

    Attributes:
        parts: Names of the store's parts, sorted.
        scores: (M, n) float32, higher is more of the concept; -inf where fewer than n images count.
        part: (M, n) int64, index into ``parts``; -1 where there is no image.
        row: (M, n) int64, row within the part; -1 where there is no image.
    """

    parts: tuple[str, ...]
    scores: NDArray[np.float32]
    part: Indices
    row: Indices


def top_of_assigned(bank: ConceptBank, store: FeatureStore, n: int, progress: Progress | None = None) -> TopCandidates:
    """Find the ``n`` images that score highest on each concept among those that the model assigns to its class.

    The assigned class, ``top5_index[0]`` of an image's row, must equal the concept's ``class_index``.

    Args:
        bank: M concepts.
        store: Features of the images to search, by the bank's model.
        n: How many images to keep a concept.
        progress: Called as images are scored.

    Returns:
        The candidates: the same ones whatever the order of the parts, the block size or the number of threads.

    Raises:
        StoreError: The store holds features of another model or preprocessing, or no images.
        DataError: A feature is NaN or infinite; part and row are named.
        ConfigError: ``n`` is below 1, or the bank is empty.
    """
    return _Search(bank, _Images(bank, store)).top(n, progress)


@dataclass(frozen=True, eq=False)
class _Block:
    """Consecutive rows of a part.

    Attributes:
        features: (B, D) float32.
        longest: Largest Euclidean length among them.
        ids: (B,) image ids.
        assigned: (B,) classes that the model assigned.
    """

    features: torch.Tensor
    longest: float
    ids: Indices
    assigned: Indices


class _Images:
    """The images of a store in the order of their ids, read in blocks."""

    def __init__(self, bank: ConceptBank, store: FeatureStore) -> None:
        bank.check_features(store.config.weights_sha256, store.config.sha256, str(store.path))
        self.block_rows = max(1, min(_BLOCK_ROWS, _BLOCK_SCORES // max(1, len(bank))))
        self.dim = store.config.feature_dim
        self.parts = sorted(store.parts, key=lambda part: part.path.name)
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)], dtype=np.int64)
        if not 0 < len(self) <= MAX_ID:
            raise StoreError(f"{store.path} holds {len(self)} images: expected 1 to {MAX_ID}.")

    def __len__(self) -> int:
        return int(self.starts[-1])

    def locate(self, ids: Indices) -> tuple[Indices, Indices]:
        """Return part and row of image ids; -1 stays -1."""
        part = np.searchsorted(self.starts, ids, side="right") - 1
        return np.where(ids < 0, -1, part), np.where(ids < 0, -1, ids - self.starts[part])

    def spans(self) -> Iterator[tuple[FeaturePart, int, slice]]:
        """Yield each block's part, the image id of the part's first row, and the block's rows."""
        for part, first_id in zip(self.parts, self.starts[:-1].tolist(), strict=True):
            for start in range(0, len(part), self.block_rows):
                yield part, first_id, slice(start, min(start + self.block_rows, len(part)))

    def blocks(self) -> Iterator[_Block]:
        """Yield all images, block by block; the next one is read meanwhile. A block is valid until the one after."""
        blocks = self._read_blocks()
        with ThreadPoolExecutor(1, "blocks") as reader:
            waiting = reader.submit(next, blocks, None)
            while (block := waiting.result()) is not None:
                waiting = reader.submit(next, blocks, None)
                yield block

    def _read_blocks(self) -> Iterator[_Block]:
        last, assigned = None, np.empty(0, np.int64)
        # Fresh memory for each block would cost a tenth of the run in page faults.
        halves = np.empty((self.block_rows, self.dim), np.float16)
        buffers = cycle([torch.empty(halves.shape), torch.empty(halves.shape)])
        for (part, first_id, rows), floats in zip(self.spans(), buffers, strict=False):
            if part is not last:
                last, assigned = part, _assigned_classes(part)
            # Mapped anew for each block: the pages of a map stay resident for as long as it is open.
            count = rows.stop - rows.start
            np.copyto(halves[:count], part.features()[rows])
            features = floats[:count].copy_(torch.from_numpy(halves[:count]))
            lengths = torch.linalg.vector_norm(features, dim=1).numpy()
            if not np.isfinite(lengths).all():
                row = rows.start + int(np.isfinite(lengths).argmin())
                raise DataError(f"row {row} of part {part.path.name} has a NaN or infinite feature.")
            ids = np.arange(first_id + rows.start, first_id + rows.stop)
            yield _Block(features, float(lengths.max()), ids, assigned[rows])


def _assigned_classes(part: FeaturePart) -> Indices:
    top5 = part.rows(["top5_index"]).column("top5_index")
    return np.asarray(pc.fill_null(pc.list_element(top5, 0), -1).to_numpy(), dtype=np.int64)


class _Search:
    """One search for the top images of a bank's M concepts."""

    def __init__(self, bank: ConceptBank, images: _Images) -> None:
        self.bank = bank
        self.images = images
        self.offsets = bank.offsets.astype(np.float64)
        self.concepts_of = bank.table.groupby("class_index").indices

    def top(self, n: int, progress: Progress | None) -> TopCandidates:
        approximate, ids, error = self._shortlist(n + max(16, n // 16), progress)
        scores, best = self._rank(ids, n)
        rest = (approximate[:, -1] + self.offsets + error).astype(np.float32)
        unsure = np.flatnonzero((ids[:, -1] >= 0) & (error > 0) & (scores[:, -1] <= rest))
        if unsure.size:
            lowest = np.nextafter(scores[:, -1], np.float32(-np.inf)) - self.offsets - error
            search = _Search(self.bank.select(unsure), self.images)
            scores[unsure], best[unsure] = search._rank_from(lowest[unsure], n)
        return TopCandidates(tuple(p.path.name for p in self.images.parts), scores, *self.images.locate(best))

    def _shortlist(
        self, size: int, progress: Progress | None
    ) -> tuple[NDArray[np.float32], Indices, NDArray[np.float64]]:
        """Return (M, size) scores without offsets, their image ids, and an (M,) bound on any such score's error."""
        top, longest = StreamingTopN(len(self.bank), size), 0.0
        for block in self.images.blocks():
            rows, concepts, scores = self._assigned_pairs(block)
            top.update(concepts, scores, block.ids[rows])
            longest = max(longest, block.longest)
            if progress:
                progress(int(block.ids[-1]) + 1, len(self.images))
        # However it is added up, a sum of D products is off by gamma_D |φ||d| at most (Higham 2002, section 3.1).
        roundoff = self.bank.directions.shape[1] * _UNIT_ROUNDOFF
        directions = torch.from_numpy(np.ascontiguousarray(self.bank.directions)).double()
        lengths = torch.linalg.vector_norm(directions, dim=1).numpy()
        return *top.result(), 1.001 * roundoff / (1 - roundoff) * longest * lengths

    def _rank(self, ids: Indices, n: int) -> tuple[NDArray[np.float32], Indices]:
        """Rank (M, size) shortlisted images by their exact scores; return the best n and their ids."""
        ranking = StreamingTopN(len(self.bank), n)
        concepts, column = np.nonzero(ids >= 0)
        images = ids[concepts, column]
        order = np.argsort(images, kind="stable")
        concepts, images = concepts[order], images[order]
        for part, first_id, rows in self.images.spans():
            here = slice(*np.searchsorted(images, [first_id + rows.start, first_id + rows.stop]))
            if here.stop > here.start:
                wanted, local = np.unique(images[here], return_inverse=True)
                features = torch.from_numpy(part.features()[wanted - first_id]).float().numpy()
                ranking.update(concepts[here], self._exact(features, local, concepts[here]), images[here])
        return ranking.result()

    def _rank_from(self, lowest: NDArray[np.float64], n: int) -> tuple[NDArray[np.float32], Indices]:
        """Rank the images whose float32 score (without offset) is at least ``lowest`` (M,) by their exact scores."""
        ranking = StreamingTopN(len(self.bank), n)
        for block in self.images.blocks():
            rows, concepts, approximate = self._assigned_pairs(block)
            near = approximate >= lowest[concepts]
            rows, concepts = rows[near], concepts[near]
            ranking.update(concepts, self._exact(block.features.numpy(), rows, concepts), block.ids[rows])
        return ranking.result()

    def _assigned_pairs(self, block: _Block) -> tuple[Indices, Indices, NDArray[np.float32]]:
        """Return row, concept and float32 score without offset of every pair that counts."""
        features, assigned = block.features.numpy(), block.assigned
        order = np.argsort(assigned, kind="stable")
        classes, first = np.unique(assigned[order], return_index=True)
        rows, concepts, scores = [order[:0]], [order[:0]], [np.empty(0, np.float32)]
        for class_index, start, stop in zip(classes.tolist(), first, [*first[1:], len(order)], strict=True):
            own = self.concepts_of.get(class_index)
            if own is not None:
                members = order[start:stop]
                rows.append(np.repeat(members, len(own)))
                concepts.append(np.tile(own, len(members)))
                # Not torch, which would wake all its threads for each of very many small products.
                scores.append((features[members] @ self.bank.directions[own].T).reshape(-1))
        return np.concatenate(rows), np.concatenate(concepts), np.concatenate(scores)

    def _exact(self, features: NDArray[np.float32], rows: Indices, concepts: Indices) -> NDArray[np.float32]:
        """Score (P,) pairs of a row and a concept, each by itself in float64, rounded to float32."""
        scores = self.offsets[concepts]

        def add_products(pairs: Indices) -> None:
            for chunk in np.split(pairs, range(_PAIRS_AT_ONCE, len(pairs), _PAIRS_AT_ONCE)):
                images = features[rows[chunk]].astype(np.float64)
                directions = self.bank.directions[concepts[chunk]].astype(np.float64)
                # einsum adds up each row in a fixed order; a BLAS product's depends on the other rows.
                scores[chunk] += np.einsum("pd,pd->p", images, directions)

        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(add_products, np.array_split(np.arange(len(rows)), threads)))
        return scores.astype(np.float32)
