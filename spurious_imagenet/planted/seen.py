"""What do the feature visualisations of a planted world show: the cue that was planted, or the class's object?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spurious_imagenet.builders.visualise.npfv import NpfvStore
from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.images import read_picture
from spurious_imagenet.io import atomic_directory, canonical_json
from spurious_imagenet.planted._shapes import SHAPES
from spurious_imagenet.planted.config import WorldConfig
from spurious_imagenet.planted.recogniser import THINGS, Recogniser
from spurious_imagenet.planted.report import PairResult

__all__ = [
    "SeenPair",
    "SeenReport",
    "changed_part",
    "contact_sheet",
    "read_found",
    "read_world_config",
    "seen_in",
    "write_seen",
]

Pixels = NDArray[np.uint8]

_CELL, _TEXT, _ROW = 112, 330, 118


@dataclass(frozen=True)
class SeenPair:
    """What the visualisation of the component that finds a planted cue best shows.

    Attributes:
        class_id: The class.
        cue: The cue planted in it.
        concept_id: The component.
        whole_cue: Probability of the cue for the whole image, by the recogniser.
        whole_object: Probability of the class's object for it.
        whole_top: What the recogniser takes the whole image for, among all cues and objects.
        crop_cue: The same of the part that changed most from grey.
        crop_object: The same.
        crop_top: The same.
        confidence: Probability of the class at the visualisation, by the scoring model.
        chosen_rank: Rank among the class's most confident components; None where it is not among the chosen.
    """

    class_id: str
    cue: str
    concept_id: str
    whole_cue: float
    whole_object: float
    whole_top: str
    crop_cue: float
    crop_object: float
    crop_top: str
    confidence: float
    chosen_rank: int | None

    @property
    def seen(self) -> bool:
        """Whether the cue is likelier than the class's object, in the whole image or in its part."""
        return self.whole_cue > self.whole_object or self.crop_cue > self.crop_object

    @property
    def seen_among_all(self) -> bool:
        """Whether the cue is likeliest of all cues and objects, in the whole image or in its part."""
        return self.cue in {self.whole_top, self.crop_top}


@dataclass(frozen=True)
class SeenReport:
    """All pairs. It informs: how many cues are seen depends on how a network happened to be trained.

    Attributes:
        pairs: One a planted pair.
        recogniser_accuracy: Share of drawings that the recogniser gets right, of those it was not trained on.
    """

    pairs: tuple[SeenPair, ...]
    recogniser_accuracy: float

    @property
    def seen_share(self) -> float:
        """Share of the pairs whose visualisation shows the cue rather than the object; higher is better."""
        return sum(p.seen for p in self.pairs) / len(self.pairs)

    @property
    def seen_among_all_share(self) -> float:
        """Share of the pairs whose visualisation shows the cue rather than any other cue or object."""
        return sum(p.seen_among_all for p in self.pairs) / len(self.pairs)

    @property
    def chosen_share(self) -> float:
        """Share of the pairs whose component is among the chosen ones; higher is better."""
        return sum(p.chosen_rank is not None for p in self.pairs) / len(self.pairs)

    def summary(self) -> str:
        """Return what was seen, in plain words."""
        count = len(self.pairs)
        seen, among_all = (sum(getattr(p, name) for p in self.pairs) for name in ("seen", "seen_among_all"))
        chosen = sum(p.chosen_rank is not None for p in self.pairs)
        return (
            f"For information, nothing is required of it: in the image that maximises its component, {seen} of {count} "
            f"planted cues are seen rather than the object, {among_all} rather than any other cue or object; {chosen} "
            f"of the {count} components are among those chosen for a board. The network that was asked is right on "
            f"{self.recogniser_accuracy:.0%} of drawings."
        )

    def content(self) -> dict[str, object]:
        """Return everything as JSON values."""
        return {
            "pairs": [asdict(p) | {"seen": p.seen, "seen_among_all": p.seen_among_all} for p in self.pairs],
            "recogniser_accuracy": self.recogniser_accuracy,
            "seen_share": self.seen_share,
            "seen_among_all_share": self.seen_among_all_share,
            "chosen_share": self.chosen_share,
        }


def read_found(check: str | Path) -> tuple[PairResult, ...]:
    """Read which component finds each planted cue best from the folder of a check.

    Raises:
        DataError: It holds no readable ``check.json``.
    """
    file = Path(check) / "check.json"
    try:
        return tuple(PairResult(**pair) for pair in json.loads(file.read_text(encoding="utf-8"))["pairs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be read as the check of a planted world: {error}") from error


def read_world_config(world: str | Path) -> WorldConfig:
    """Read the configuration that a planted world was drawn with.

    Raises:
        DataError: The folder is not a planted world.
    """
    file = Path(world) / "truth" / "world.json"
    try:
        return WorldConfig.model_validate(json.loads(file.read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{world} is not a readable planted world: {one_line(error)}") from error


def changed_part(image: Pixels) -> Pixels:
    """Cut out the square of half the side that changed most from grey, and enlarge it to the whole side.

    Args:
        image: (S, S, 3) uint8.
    """
    side = image.shape[0]
    half = side // 2
    change = np.square(image.astype(np.float64) - 127.5).sum(axis=2)
    total = np.pad(change.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[half:, half:] - total[:-half, half:] - total[half:, :-half] + total[:-half, :-half]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    part = np.ascontiguousarray(image[top : top + half, left : left + half])  # cut first: a resize would look beyond
    return np.asarray(Image.fromarray(part).resize((side, side), Image.Resampling.BICUBIC))


def _image_of(npfv: NpfvStore, pair: PairResult) -> Pixels:
    path = npfv.image_path(pair.concept_id)
    if path is None:
        raise DataError(f"{npfv.path} has no image of {pair.concept_id}, the component that finds {pair.cue!r} best.")
    return np.asarray(read_picture(path).convert("RGB"))


def seen_in(npfv: NpfvStore, found: Sequence[PairResult], recogniser: Recogniser) -> SeenReport:
    """Judge the visualisations of the components that find the planted cues best.

    Args:
        npfv: Visualisations of the world's scoring model.
        found: The components, as ``spurious planted check`` found them.
        recogniser: Judges.

    Raises:
        DataError: A component has no visualisation, or there is none to judge.
    """
    if not found:
        raise DataError("there is no planted pair to judge: expected the pairs of a check.")
    about = {row["concept_id"]: row for row in npfv.table().to_dict("records")}
    pairs = []
    for pair in found:
        image = _image_of(npfv, pair)
        whole, crop = recogniser.probabilities(np.stack([image, changed_part(image)]))
        cue, thing = THINGS.index(pair.cue), THINGS.index(_name_of(pair.class_id))
        chosen = list(npfv.chosen(int(about[pair.concept_id]["class_index"])))
        pairs.append(
            SeenPair(
                class_id=pair.class_id,
                cue=pair.cue,
                concept_id=pair.concept_id,
                whole_cue=float(whole[cue]),
                whole_object=float(whole[thing]),
                whole_top=THINGS[int(whole.argmax())],
                crop_cue=float(crop[cue]),
                crop_object=float(crop[thing]),
                crop_top=THINGS[int(crop.argmax())],
                confidence=float(about[pair.concept_id]["confidence"]),
                chosen_rank=chosen.index(pair.concept_id) + 1 if pair.concept_id in chosen else None,
            )
        )
    return SeenReport(tuple(pairs), recogniser.record.val_accuracy)


def _name_of(class_id: str) -> str:
    name = class_id.rsplit("-", 1)[-1]
    if name not in SHAPES:
        raise DataError(f"class {class_id!r} is not one of a planted world: expected an id that ends in an object.")
    return name


def contact_sheet(
    report: SeenReport, npfv: NpfvStore, examples: Sequence[tuple[Image.Image, Image.Image]]
) -> Image.Image:
    """Lay out, a row per pair: the object, the cue, the visualisation, its most changed part, and the verdict.

    Args:
        report: The verdicts.
        npfv: The images.
        examples: A drawing of the object and one of the cue, a pair each.
    """
    size = (4 * (_CELL + 6) + _TEXT, _ROW * len(report.pairs) + 24)
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, header in enumerate(("object", "cue", "NPFV", "its changed part")):
        draw.text((i * (_CELL + 6) + 4, 4), header, (30, 30, 30), font)
    for row, (pair, drawn) in enumerate(zip(report.pairs, examples, strict=True)):
        path = npfv.image_path(pair.concept_id)
        pixels = np.asarray(read_picture(str(path)).convert("RGB"))
        top = 24 + row * _ROW
        for i, cell in enumerate((*drawn, Image.fromarray(pixels), Image.fromarray(changed_part(pixels)))):
            sheet.paste(cell.resize((_CELL, _CELL), Image.Resampling.LANCZOS), (i * (_CELL + 6), top))
        draw.multiline_text((4 * (_CELL + 6) + 6, top + 6), _words(pair), (30, 30, 30), font, spacing=5)
    return sheet


def _words(pair: SeenPair) -> str:
    rank = "not chosen" if pair.chosen_rank is None else f"chosen, rank {pair.chosen_rank}"
    name = _name_of(pair.class_id)
    return "\n".join(
        (
            f"{pair.concept_id}: {'seen' if pair.seen else 'not seen'}",
            f"whole: {pair.cue} {pair.whole_cue:.2f}, {name} {pair.whole_object:.2f}; first {pair.whole_top}",
            f"part: {pair.cue} {pair.crop_cue:.2f}, {name} {pair.crop_object:.2f}; first {pair.crop_top}",
            f"class confidence {pair.confidence:.2f}, {rank}",
        )
    )


def write_seen(path: str | Path, report: SeenReport, sheet: Image.Image) -> None:
    """Write ``seen.json`` and ``seen.png`` into a new folder, whole or not at all."""
    with atomic_directory(path) as folder:
        (folder / "seen.json").write_text(canonical_json(report.content()), encoding="utf-8")
        sheet.save(folder / "seen.png")
