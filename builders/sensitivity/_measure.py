"""Images with a concept's region corrupted, through a model: what it says of each, image by image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from threading import BoundedSemaphore
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spurious_imagenet.builders.sensitivity._masks import ClassMasks, MaskFolder
from spurious_imagenet.builders.sensitivity.corruptions import CORRUPTIONS, Pixels, blend, corrupt
from spurious_imagenet.builders.visualise.align_masks import align
from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import Preprocess, View, decode_again
from spurious_imagenet.models import Backend, Classifier
from spurious_imagenet.models.inference import softmax
from spurious_imagenet.shards import ShardImages
from spurious_imagenet.threads import ordered_map

_STATES = ("clean", *CORRUPTIONS)

#: One row a mask, by concept and rank. ``covered`` is the mean of the mask after the core was taken out, the share of
#: the view that was corrupted; ``core_removed`` says whether a core mask of the image was there to be taken out.
#: ``probability_clean`` is the class's probability on the image as it is, ``correct_clean`` whether it is classified
#: as its class; the others are the same with the region corrupted.
DROP_SCHEMA = pa.schema(
    [
        ("concept_id", pa.string()),
        ("rank", pa.int32()),
        ("sha256", pa.string()),
        ("covered", pa.float32()),
        ("core_removed", pa.bool_()),
        *((f"probability_{state}", pa.float32()) for state in _STATES),
        *((f"correct_{state}", pa.bool_()) for state in _STATES),
    ]
)

_CHUNK = 8  # images whose corrupted pixels one thread holds at once


class _Image(NamedTuple):
    """An image's bytes and the rows of the masks that it has."""

    data: bytes
    rows: list[int]


@dataclass(frozen=True, eq=False)
class _Answers:
    """What the model said of some images: of each row, states in the order of ``_STATES``."""

    rows: list[int]
    covered: NDArray[np.float32]
    core_removed: list[bool]
    probability: NDArray[np.float64]
    correct: NDArray[np.bool_]


class Measurer:
    """Measures one model on the masks of another, class by class.

    Decoding, corruption and forward pass run side by side in threads; what one holds is a few images, whatever the
    class's size. Results do not depend on the number of threads.

    Args:
        masks: The masks.
        classifier: The model to measure.
        backend: It, ready to run.
        seed: Where the turns of ``patch-rotate`` come from; an image is turned alike for every concept and model.
        workers: Threads; the number of CPUs where None.
        shards: Where the shards are now, if they are not where the masks say.
        allow_pipe: Run the command of a ``pipe:`` shard address.

    Raises:
        ModelError: The model has a custom transform, whose view of an image is not known.
    """

    def __init__(
        self,
        masks: MaskFolder,
        classifier: Classifier,
        backend: Backend,
        *,
        seed: int = 0,
        workers: int | None = None,
        shards: tuple[str, ...] = (),
        allow_pipe: bool = False,
    ) -> None:
        if not isinstance(classifier.preprocess, Preprocess):
            raise ModelError(
                f"{classifier.spec} has a custom transform, so masks cannot be brought to what it sees of an image: "
                "give its size, mean and std as a Preprocess."
            )
        self.masks, self.classifier, self.backend = masks, classifier, backend
        self.preprocess: Preprocess = classifier.preprocess
        self.seed = seed
        self.source = ShardImages(masks.path, shards, since="its mask was made", allow_pipe=allow_pipe)
        self.workers = workers or os.cpu_count() or 1
        self._compute = BoundedSemaphore(backend.concurrency)

    def measure(self, found: ClassMasks) -> pa.Table:
        """Measure the masks of one class.

        Returns:
            A table of :data:`DROP_SCHEMA`.

        Raises:
            DataError: An image cannot be read, or changed since its mask was made.
            ModelError: The model lacks the class, or gives NaN or infinite logits.
        """
        rows = found.rows
        if not len(rows):
            return DROP_SCHEMA.empty_table()
        target = self._target(rows["class_id"].iloc[0])
        table = rows[["concept_id", "rank", "sha256"]].copy()
        covered, removed = np.zeros(len(rows), np.float32), np.zeros(len(rows), bool)
        probability = np.zeros((len(rows), len(_STATES)))
        correct = np.zeros((len(rows), len(_STATES)), bool)
        for answers in self._answers(found, target):
            covered[answers.rows], removed[answers.rows] = answers.covered, answers.core_removed
            probability[answers.rows], correct[answers.rows] = answers.probability, answers.correct
        table["covered"], table["core_removed"] = covered, removed
        for i, state in enumerate(_STATES):
            table[f"probability_{state}"], table[f"correct_{state}"] = probability[:, i], correct[:, i]
        ordered = table.sort_values(["concept_id", "rank"], ignore_index=True)
        return pa.Table.from_pandas(ordered, schema=DROP_SCHEMA, preserve_index=False)

    def _target(self, class_id: str) -> int:
        if class_id not in self.classifier.labels:
            raise ModelError(
                f"{self.classifier.spec} has no output for class {class_id!r} of the masks: its label space is "
                f"{self.classifier.labels.name!r}."
            )
        return self.classifier.labels.index(class_id)

    def _answers(self, found: ClassMasks, target: int) -> Iterator[_Answers]:
        images = self._images(found)
        chunks = iter(lambda: list(islice(images, _CHUNK)), [])
        answer = partial(self._answer, found=found, target=target)
        return ordered_map(answer, chunks, threads=self.workers, ahead=2, name="corrupt")

    def _images(self, found: ClassMasks) -> Iterator[_Image]:
        """Read each image once, whatever the number of its masks, as they lie in the shards."""
        rows = found.rows
        places = enumerate(zip(rows["shard"], rows["offset"], rows["size"], strict=True))
        own = [[row for row, _ in same] for _, same in groupby(places, key=itemgetter(1))]
        yield from map(_Image, self.source.read_rows(rows.iloc[[first for first, *_ in own]]), own)

    def _answer(self, images: list[_Image], found: ClassMasks, target: int) -> _Answers:
        pixels: list[Pixels] = []
        rows, places, covered, removed = [], [], [], []
        for image in images:
            whole, corrupted, seen, wanted = self._prepare(image, found)
            pixels.append(whole)
            clean = len(pixels) - 1
            for row in image.rows:
                mask, core_removed = found.mask(row)
                aligned = align(mask, seen, wanted, len(whole))
                places.append([clean, *range(len(pixels), len(pixels) + len(corrupted))])
                pixels += [blend(whole, version, aligned) for version in corrupted]
                rows.append(row)
                covered.append(float(aligned.mean()) / 255)
                removed.append(core_removed)
        logits = self._logits(pixels)
        if not np.isfinite(logits).all():
            raise ModelError(f"{self.classifier.spec} gave NaN or infinite logits: expected finite numbers.")
        index = np.array(places)
        probability, correct = softmax(logits)[:, target], logits.argmax(axis=1) == target
        return _Answers(rows, np.array(covered, np.float32), removed, probability[index], correct[index])

    def _prepare(self, image: _Image, found: ClassMasks) -> tuple[Pixels, list[Pixels], View, View]:
        """Return what the model sees of an image, that corrupted as a whole, and the masks' view and the model's."""
        row = found.rows.iloc[image.rows[0]]
        decoded = decode_again(image.data, self.masks.limits, f"image {row['key']} of {row['shard']}")
        whole = self.preprocess.apply(decoded)
        height, width = decoded.shape[:2]
        seed = [self.seed, int(row["sha256"][:16], 16)]
        corrupted = [corrupt(whole, kind, np.random.default_rng(seed)) for kind in CORRUPTIONS]
        return whole, corrupted, self.masks.preprocess.view(width, height), self.preprocess.view(width, height)

    def _logits(self, pixels: list[Pixels]) -> NDArray[np.float32]:
        size = self.backend.batch_size
        batches = [np.stack(pixels[i : i + size]) for i in range(0, len(pixels), size)]
        with self._compute:
            return np.concatenate([self.backend(batch)[1] for batch in batches])
