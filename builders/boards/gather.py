"""From a class's concepts to what their boards show: its images through the model, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.builders.boards._evidence import (
    Board,
    Example,
    Pixels,
    Prototype,
    evenly,
    histogram,
    read_pixels,
    top_and_bottom_k,
)
from spurious_imagenet.builders.boards.gradcam import CamOutput, ConceptCam
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.labelled import Indices, TrainingIndex
from spurious_imagenet.images import DecodeLimits, Preprocess, read_picture
from spurious_imagenet.models.inference import softmax

__all__ = ["Attack", "ClassBoards", "Gatherer"]

_SHOWN = 5
_REFERENCES = 6
_NPFV = -1  # in the place of an image's id

#: Changes (n, S, S, 3) uint8 images so that their score along a (D,) direction rises.
Attack = Callable[[NDArray[np.float32], Pixels], Pixels]


@dataclass(frozen=True, eq=False)
class ClassBoards:
    """The boards of one class.

    Attributes:
        boards: One a concept.
        references: (r, S, S, 3) uint8, training images evenly spread over the class, whatever they score.
    """

    boards: tuple[Board, ...]
    references: Pixels


@dataclass(frozen=True, eq=False)
class _Looks:
    """What the model saw, each image once for each concept whose board shows it.

    Attributes:
        place: (concept's row, image id or ``_NPFV``) → place in the arrays.
        keys: By image id.
        pixels: (n, S, S, 3) uint8.
        output: What GradCAM gave.
        confidence: (n,) probability of the class.
        predicted: (n,) class that the model assigns.
    """

    place: dict[tuple[int, int], int]
    keys: dict[int, str]
    pixels: Pixels
    output: CamOutput
    confidence: NDArray[np.float64]
    predicted: NDArray[np.intp]


class Gatherer:
    """Gathers what boards show.

    Args:
        bank: The bank.
        index: The store's training images.
        preprocess: The transform that the store's features were made with.
        limits: Image sizes that were refused then.
        class_names: By class index.
        cam: GradCAM of the bank's model.
        npfv: By concept id, its NPFV.
        attack: Makes feature attacks on the images that activate a neural feature most.
        shards: Where the shards are now, if they are not where the store says.
        allow_pipe: Run the command of a ``pipe:`` address.
    """

    def __init__(
        self,
        bank: ConceptBank,
        index: TrainingIndex,
        preprocess: Preprocess,
        limits: DecodeLimits,
        class_names: Sequence[str],
        cam: ConceptCam,
        npfv: Mapping[str, Path],
        *,
        attack: Attack | None = None,
        shards: tuple[str, ...] = (),
        allow_pipe: bool = False,
    ) -> None:
        self._bank, self._index, self._preprocess, self._limits = bank, index, preprocess, limits
        self._class_names, self._cam, self._npfv, self._attack = class_names, cam, npfv, attack
        self._shards, self._allow_pipe = shards, allow_pipe

    def gather(self, rows: Sequence[int]) -> ClassBoards:
        """Gather the boards of some rows of the bank, all of one class.

        Raises:
            DataError: The store has no image of the class, an image has changed, or an NPFV is of another size.
        """
        bank = self._bank.select(list(rows))
        class_index = int(bank.table["class_index"].iloc[0])
        images = self._index.images(class_index)
        if not len(images):
            raise DataError(f"the store has no image of class {bank.table['class_id'].iloc[0]}, which has concepts.")
        scores = bank.score(self._index.features(images))
        shown = [top_and_bottom_k(column, _SHOWN) for column in scores.T]
        references = evenly(images, _REFERENCES)
        needed = np.unique(np.concatenate([references, *(images[both] for pair in shown for both in pair)]))
        keys, pixels = read_pixels(
            self._index, needed, self._preprocess, self._limits, shards=self._shards, allow_pipe=self._allow_pipe
        )
        looks = self._look(bank, [images[np.concatenate(pair)] for pair in shown], needed, keys, pixels, class_index)
        boards = [self._board(bank, m, images, scores[:, m], shown[m], looks) for m in range(len(bank))]
        return ClassBoards(tuple(boards), pixels[np.searchsorted(needed, references)])

    def _look(
        self,
        bank: ConceptBank,
        shown: Sequence[Indices],
        needed: Indices,
        keys: Sequence[str],
        pixels: Pixels,
        class_index: int,
    ) -> _Looks:
        place: dict[tuple[int, int], int] = {}
        stack: list[Pixels] = []
        for m, concept_id in enumerate(bank.table["concept_id"]):
            if concept_id in self._npfv:
                place[m, _NPFV] = len(stack)
                stack.append(self._npfv_pixels(self._npfv[concept_id]))
            for image, where in zip(shown[m].tolist(), np.searchsorted(needed, shown[m]).tolist(), strict=True):
                place[m, image] = len(stack)
                stack.append(pixels[where])
        output = self._cam(np.stack(stack), bank.directions[[m for m, _ in place]])
        confidence = softmax(output.logits)[:, class_index]
        by_id = dict(zip(needed.tolist(), keys, strict=True))
        return _Looks(place, by_id, np.stack(stack), output, confidence, output.logits.argmax(axis=1))

    def _npfv_pixels(self, path: Path) -> Pixels:
        pixels = np.asarray(read_picture(path, "visualisation").convert("RGB"))
        if pixels.shape[:2] != (self._cam.size, self._cam.size):
            raise DataError(f"{path} is {pixels.shape[1]}x{pixels.shape[0]} px: expected {self._cam.size} px squares.")
        return pixels

    def _board(
        self,
        bank: ConceptBank,
        m: int,
        images: Indices,
        scores: NDArray[np.float32],
        shown: tuple[NDArray[np.intp], NDArray[np.intp]],
        looks: _Looks,
    ) -> Board:
        concept = {str(name): _plain(value) for name, value in bank.table.iloc[m].to_dict().items()}
        most, least = ([self._example(looks, m, int(images[i]), float(scores[i]), concept) for i in s] for s in shown)
        if self._attack is not None and concept["kind"] == "neuron":
            changed = self._attack(bank.directions[m], np.stack([example.pixels for example in most]))
            most = [replace(example, attacked=pixels) for example, pixels in zip(most, changed, strict=True)]
        npfv = self._prototype(looks, m, bank) if (m, _NPFV) in looks.place else None
        return Board(concept, tuple(most), tuple(least), histogram(scores), npfv, len(images))

    def _example(self, looks: _Looks, m: int, image: int, score: float, concept: dict[str, Any]) -> Example:
        i = looks.place[m, image]
        predicted = int(looks.predicted[i])
        other = None if predicted == concept["class_index"] else str(self._class_names[predicted])
        heatmap = looks.output.heatmaps[i]
        return Example(looks.keys[image], looks.pixels[i], heatmap, score, float(looks.confidence[i]), other)

    def _prototype(self, looks: _Looks, m: int, bank: ConceptBank) -> Prototype:
        i = looks.place[m, _NPFV]
        score = float(looks.output.features[i] @ bank.directions[m] + bank.offsets[m])
        return Prototype(looks.pixels[i], looks.output.heatmaps[i], score, float(looks.confidence[i]))


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
