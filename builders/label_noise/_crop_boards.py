"""Core crops to look at: image, core map, crop, and what the model says before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spurious_imagenet.builders.boards.drawing import overlay
from spurious_imagenet.builders.label_noise._crop import FLAT, Box, core_box, in_original
from spurious_imagenet.builders.visualise.activation_maps import ActivationMaps
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ModelError, StoreError
from spurious_imagenet.images import DecodeLimits, Preprocess, decode_image
from spurious_imagenet.models import Classifier, load_classifier
from spurious_imagenet.records import Record

Pixels = NDArray[np.uint8]
_TILE, _GAP, _TEXT = 192, 8, 40
_PAPER, _INK, _RIGHT, _WRONG = (255, 255, 255), (30, 30, 30), (0, 110, 60), (180, 30, 30)


class CropSummary(Record):
    """What the bank's model says of the images of a class before and after the crop."""

    class_id: str
    concepts: tuple[str, ...]
    """Ids of the core concepts whose maps were averaged."""
    images: int
    without_core: int = 0
    """Flagged images in which no place activates the core concepts more than another: not cropped."""
    right_before: int
    """Images that the model gives their label."""
    right_after: int
    file: str


@dataclass(frozen=True, eq=False)
class CroppedImage:
    """One image and its core crop.

    Attributes:
        pixels: (S, S, 3) uint8, the model's input.
        core: (S, S) float32 in [0, 1], mean of the core maps.
        box: The crop in the input.
        crop: (S, S, 3) uint8, the crop taken from the original image, at the size of the input.
        before: Class id that the model gives the image, and its probability.
        after: The same of the crop.
    """

    pixels: Pixels
    core: NDArray[np.float32]
    box: Box
    crop: Pixels
    before: tuple[str, float]
    after: tuple[str, float]


class CoreCropper:
    """Crops images to what activates the core concepts of a class (SR appendix H).

    Args:
        bank: Concepts with verdicts.
        model: Where the bank's model is; None: where the bank says.

    Raises:
        ModelError: The model cannot be loaded, has other weights, or has no neural activation maps.
        StoreError: The bank has no verdicts.
    """

    def __init__(self, bank: ConceptBank, model: str | None = None) -> None:
        if "verdict" not in bank.table:
            raise StoreError("the concept bank has no verdicts: expected core concepts to crop by.")
        self.bank = bank
        self.classifier: Classifier = load_classifier(model or bank.info.model)
        if self.classifier.weights_sha256 != bank.info.weights_sha256:
            raise ModelError(
                f"{self.classifier.spec} has the weights {self.classifier.weights_sha256[:12]}, but the concept bank "
                f"reads features of weights {bank.info.weights_sha256[:12]}."
            )
        self._maps = ActivationMaps(self.classifier)
        preprocess = self.classifier.preprocess
        assert isinstance(preprocess, Preprocess)  # ActivationMaps refuses any other
        self._preprocess = preprocess
        # The crop is the whole input: what is cut off its edges is what the margin was added for.
        self._whole = preprocess.model_copy(update={"resize": preprocess.size})

    def core_rows(self, class_id: str) -> NDArray[np.int64]:
        """Return the bank's rows of a class's core concepts."""
        table = self.bank.table
        return np.flatnonzero((table["class_id"] == class_id) & (table["verdict"] == "core")).astype(np.int64)

    def crop(self, class_id: str, images: Sequence[bytes]) -> list[CroppedImage]:
        """Crop images of one class.

        Args:
            class_id: The class; it has core concepts.
            images: Their files' bytes.

        Returns:
            Those whose core map shows a place; where it is the same everywhere there is nothing to crop to.

        Raises:
            DataError: An image cannot be decoded.
        """
        originals = [decode_image(data, DecodeLimits()) for data in images]
        pixels = np.stack([self._preprocess.apply(image) for image in originals])
        spatial = self._maps.spatial(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        size = (pixels.shape[1], pixels.shape[2])
        directions = self.bank.directions[self.core_rows(class_id)]
        maps = np.stack([self._maps.read_out(spatial, direction, size) for direction in directions], axis=1)
        shown = [i for i, own in enumerate(maps) if float(np.ptp(own.mean(axis=0, dtype=np.float64))) > FLAT]
        if not shown:
            return []
        originals, pixels, maps = [originals[i] for i in shown], pixels[shown], maps[shown]
        boxes = [core_box(own) for own in maps]
        crops = np.stack([self._cut(*pair) for pair in zip(originals, boxes, strict=True)])
        before, after = self._named(pixels), self._named(crops)
        return [
            CroppedImage(pixels[i], maps[i].mean(axis=0), boxes[i], crops[i], before[i], after[i])
            for i in range(len(shown))
        ]

    def _cut(self, original: Pixels, box: Box) -> Pixels:
        left, top, right, bottom = in_original(box, self._preprocess, original.shape[0], original.shape[1])
        return self._whole.apply(np.ascontiguousarray(original[top:bottom, left:right]))

    def _named(self, pixels: Pixels) -> list[tuple[str, float]]:
        _, logits = self.classifier.predict(pixels)
        shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        probability = shifted / shifted.sum(axis=1, keepdims=True)
        best = logits.argmax(axis=1)
        ids = self.classifier.labels.class_ids
        return [(ids[k], float(p[k])) for k, p in zip(best, probability, strict=True)]


def draw_crops(
    cropper: CoreCropper, flagged: pd.DataFrame, images: dict[str, bytes], per_class: int, folder: Path
) -> tuple[tuple[CropSummary, ...], tuple[str, ...]]:
    """Draw one board per class: its most suspicious images, their core maps and crops, and the model before and after.

    Args:
        cropper: Of the bank.
        flagged: Flagged images, the most suspicious first.
        images: Hash -> bytes.
        per_class: At most so many images per class.
        folder: New folder.

    Returns:
        What became of each class, and the classes left out because no concept of theirs is judged core.
    """
    folder.mkdir()
    done: list[CropSummary] = []
    left_out: list[str] = []
    for class_id, rows in flagged.groupby("class_id", sort=True):
        concepts = cropper.core_rows(str(class_id))
        if not len(concepts):
            left_out.append(str(class_id))
            continue
        chosen = rows.head(per_class)
        found = cropper.crop(str(class_id), [images[sha256] for sha256 in chosen["sha256"]])
        file = f"{len(done):03d}.png"
        if found:
            _board(str(class_id), found).save(folder / file)
        done.append(
            CropSummary(
                class_id=str(class_id),
                concepts=tuple(cropper.bank.table["concept_id"].iloc[concepts].astype(str)),
                images=len(found),
                without_core=len(chosen) - len(found),
                right_before=sum(f.before[0] == class_id for f in found),
                right_after=sum(f.after[0] == class_id for f in found),
                file=f"{folder.name}/{file}" if found else "",
            )
        )
    return tuple(done), tuple(left_out)


def _board(class_id: str, found: Sequence[CroppedImage]) -> Image.Image:
    """Lay out one column per image: image with the crop's box, core map, crop."""
    step = _TILE + _GAP
    size = (_GAP + len(found) * step, _TEXT + 3 * step + 2 * _TEXT)
    sheet = Image.new("RGB", size, _PAPER)
    draw, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(16), ImageFont.load_default(12)
    draw.text((_GAP, 10), f"{class_id}: image, core map, core crop", _INK, font)
    for column, one in enumerate(found):
        left = _GAP + column * step
        scale = _TILE / one.pixels.shape[0]
        tiles = (one.pixels, overlay(one.pixels, one.core / max(float(one.core.max()), 1e-6)), one.crop)
        tops = (_TEXT, _TEXT + step + _TEXT, _TEXT + 2 * step + _TEXT)
        for tile, top in zip(tiles, tops, strict=True):
            sheet.paste(Image.fromarray(tile).resize((_TILE, _TILE), Image.Resampling.BICUBIC), (left, top))
        corners = [scale * edge for edge in one.box]
        shift = np.array([left, tops[0], left, tops[0]])
        draw.rectangle([float(v) for v in shift + corners], outline=(230, 30, 120), width=2)
        for (said, probability), top in ((one.before, tops[0] + step), (one.after, tops[2] + step)):
            color = _RIGHT if said == class_id else _WRONG
            draw.text((left, top), f"{said[:24]}\n{probability:.0%}", color, small)
    return sheet
