"""The images of each class that mislead models most and least, small enough to stand in a page."""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from spurious_imagenet.benchmark.report._groups import Group
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.datasets.spurious import SpuriousDataset
from spurious_imagenet.datasets.validation import SeenImages, validation_images
from spurious_imagenet.errors import DataError
from spurious_imagenet.images import DecodeLimits, UndecodableImageError, decode_image
from spurious_imagenet.models import LabelSpace, imagenet_label_space

#: Pictures in a row, and the longer side of each in px: 12 pictures per class are about 30 kB.
PER_STRIP, SIDE = 4, 96
_QUALITY = 60


@dataclass(frozen=True)
class Thumbnail:
    """One image and what models say of it.

    Attributes:
        sha256: Of the image file's bytes.
        probability: Mean probability of the class over the models that nothing was done to.
        fooled: How many of the models classify it as the class.
        models: How many models there are.
        predicted: The class that most of them predict.
        picture: Data address of the small image; empty until it is read.
    """

    sha256: str
    probability: float
    fooled: int
    models: int
    predicted: str
    picture: str = ""


@dataclass(frozen=True)
class Strip:
    """A row of images of one class; ``side`` is the side of the benchmark that they are from."""

    title: str
    side: str
    images: tuple[Thumbnail, ...]


def choose_images(group: Group, rankings: Rankings | None = None) -> dict[str, tuple[Strip, ...]]:
    """Choose the images of each class that are worth a look.

    Args:
        group: Records; the mean over those without mitigation counts (over all if there are no such).
        rankings: Where given, missed validation images are those of lowest spuriosity.

    Returns:
        Class id -> strips: the spurious images of highest and of lowest probability of the class, and the validation
        images that are missed.
    """
    members = [m for m in group.members if m.record.mitigation is None] or list(group.members)
    ranks = _ranks(rankings)
    names = _class_names(group)
    strips: dict[str, tuple[Strip, ...]] = {}
    for record in group.first.classes:
        table = pd.concat([m.by_class[record.class_id] for m in members])
        images = {side: _summary(part, names) for side, part in table.groupby("side")}
        spurious = images["spurious"]
        half = len(spurious) // 2
        top, low = spurious[:PER_STRIP][: len(spurious) - half], spurious[::-1][:PER_STRIP][:half]
        missed = [t for t in images["validation"][::-1] if 2 * t.fooled < t.models]
        about = "Class images that most models miss"
        if ranks:
            of_class = ranks.get(record.class_id, {})
            missed = sorted((t for t in missed if t.sha256 in of_class), key=lambda t: of_class[t.sha256])
            about = "Class images of lowest spuriosity that most models miss"
        strips[record.class_id] = (
            Strip("Spurious images most taken for the class", "spurious", tuple(top)),
            Strip("Spurious images least taken for the class", "spurious", tuple(low)),
            Strip(about, "validation", tuple(missed[:PER_STRIP])),
        )
    return strips


def _ranks(rankings: Rankings | None) -> dict[str, dict[str, int]]:
    """Class id -> image hash -> rank, of the images that show least of the class's spurious features."""
    if rankings is None:
        return {}
    low = rankings.table[rankings.table["percentile"] <= 1 / 3]
    return {str(c): dict(zip(rows["sha256"], rows["rank"], strict=True)) for c, rows in low.groupby("class_id")}


def _summary(table: pd.DataFrame, names: dict[str, str]) -> list[Thumbnail]:
    """Return one thumbnail per image, by descending mean probability, then by hash."""
    found = []
    for sha256, rows in table.groupby("sha256", sort=True):
        right = int((rows["predicted_id"] == rows["class_id"]).sum())
        predicted, _ = min(Counter(rows["predicted_id"]).items(), key=lambda item: (-item[1], item[0]))
        mean = float(rows["probability"].mean())
        found.append(Thumbnail(str(sha256), mean, right, len(rows), names.get(predicted, str(predicted))))
    return sorted(found, key=lambda t: (-round(t.probability, 9), t.sha256))


@cache
def _space(name: str) -> LabelSpace | None:
    return imagenet_label_space(name) if name.startswith("imagenet-") else None


def _class_names(group: Group) -> dict[str, str]:
    space = _space(group.first.label_space)
    known = dict(zip(space.class_ids, space.class_names, strict=True)) if space else {}
    return known | {c.class_id: c.class_name for c in group.first.classes}


def with_pictures(
    strips: dict[str, tuple[Strip, ...]], group: Group, images: str | Path | None, val: str | None
) -> tuple[dict[str, tuple[Strip, ...]], int]:
    """Read the chosen images and make them small.

    Args:
        strips: What :func:`choose_images` returned.
        group: The same group.
        images: The dataset of spurious images; strips of that side are left out where it is not given.
        val: The validation images; likewise.

    Returns:
        The strips with pictures, and how many chosen images were not found or could not be decoded.

    Raises:
        DataError: A source holds none of the images that the records were made from.
    """
    sources: dict[str, Iterable[bytes]] = {}
    if images is not None:
        sources["spurious"] = (image.data for image in SpuriousDataset(images))
    if val is not None:
        sources["validation"] = _validation_bytes(val, group)
    pictures: dict[str, str] = {}
    for side, source in sources.items():
        wanted = {t.sha256 for rows in strips.values() for s in rows if s.side == side for t in s.images}
        found = _pictures(source, wanted)
        if wanted and not found:
            where = images if side == "spurious" else val
            raise DataError(f"{where} holds none of the {side} images that the records were made from.")
        pictures |= found
    filled = {
        class_id: tuple(_filled(s, pictures) for s in rows if s.side in sources) for class_id, rows in strips.items()
    }
    chosen = sum(len(s.images) for rows in strips.values() for s in rows if s.side in sources)
    return filled, chosen - sum(len(s.images) for rows in filled.values() for s in rows)


def _filled(strip: Strip, pictures: dict[str, str]) -> Strip:
    return replace(
        strip, images=tuple(replace(t, picture=pictures[t.sha256]) for t in strip.images if t.sha256 in pictures)
    )


def _validation_bytes(val: str, group: Group) -> Iterator[bytes]:
    classes = {c.class_id for c in group.first.classes}
    ids = tuple(sorted(classes))
    labels = _space(group.first.label_space) or LabelSpace(group.first.label_space, ids, ids)
    return (image.read() for image in validation_images(val, classes, labels, SeenImages(max_label_problems=1)))


def _pictures(source: Iterable[bytes], wanted: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for data in source:
        digest = hashlib.sha256(data).hexdigest()
        if digest in wanted and digest not in found:
            try:
                found[digest] = thumbnail(data)
            except UndecodableImageError:
                continue
            if len(found) == len(wanted):
                break
    return found


def thumbnail(data: bytes) -> str:
    """Return an image as the data address of a small WebP; equal bytes give equal addresses.

    Raises:
        UndecodableImageError: It is not an image.
    """
    image: Any = Image.fromarray(decode_image(data, DecodeLimits()))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
