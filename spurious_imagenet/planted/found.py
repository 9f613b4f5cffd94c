"""A sheet by which a person sees what was mined from a planted world's pool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont, ImageOps

from spurious_imagenet.planted.report import CheckReport, PairResult
from spurious_imagenet.planted.truth import PlantedTruth

__all__ = ["found_sheet"]

_CELL, _GAP, _TEXT, _HEADER, _FRAME = 96, 6, 250, 30, 4
_EXAMPLES, _MINED = 2, 7
_PAPER, _INK, _GREY = (255, 255, 255), (30, 30, 30), (150, 150, 150)
_RIGHT, _WRONG = (40, 150, 70), (200, 40, 40)


def found_sheet(report: CheckReport, truth: PlantedTruth, candidates: pd.DataFrame, world: str | Path) -> Image.Image:
    """Lay out, a row a planted pair: training images that show object and cue, and the images of highest α kept.

    Args:
        report: The verdict on each pair.
        truth: What the world's images show.
        candidates: One row a candidate, the highest α of a concept first: ``concept_id``, ``sha256``, ``status``.
        world: The world's folder.

    Returns:
        An RGB image; a mined image has a green frame where it shows the cue without the object, else a red one.
    """
    step = _CELL + _GAP
    size = (_TEXT + (_EXAMPLES + _MINED) * step + 2 * _GAP, _HEADER + len(report.pairs) * step)
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    mined_at = _TEXT + _EXAMPLES * step + 2 * _GAP
    draw.text((8, 6), "what was planted", _INK, font)
    draw.text((_TEXT, 6), "in training images", _INK, font)
    draw.text((mined_at, 6), "mined from unlabelled images (green: the cue without the object)", _INK, font)
    kept = candidates[candidates["status"] == "kept"]
    for row, pair in enumerate(report.pairs):
        top = _HEADER + row * step
        draw.multiline_text((8, top + 18), _words(report, pair), _INK, font, spacing=5)
        train = truth.table[(truth.table["split"] == "train") & (truth.table["class_id"] == pair.class_id)]
        shown = train[train["own_cue"].astype(bool)].iloc[:_EXAMPLES]
        _paste(sheet, world, shown, [_GREY] * len(shown), _TEXT, top)
        images = truth.table.loc[list(kept["sha256"][kept["concept_id"] == pair.concept_id])[:_MINED]]
        colours = [
            _RIGHT if pair.cue in cues and class_id != pair.class_id else _WRONG
            for cues, class_id in zip(images["cues"], images["class_id"], strict=True)
        ]
        _paste(sheet, world, images, colours, mined_at, top)
    return sheet


def _words(report: CheckReport, pair: PairResult) -> str:
    name = pair.class_id.rsplit("-", 1)[-1]
    found = f"found (AUC {pair.auc:.3f})" if report.found(pair) else f"not found (AUC {pair.auc:.3f})"
    return f"{name}: {pair.cue}\n{found}\n{pair.pure} of {pair.kept} without {name}"


def _paste(
    sheet: Image.Image,
    world: str | Path,
    images: pd.DataFrame,
    colours: Sequence[tuple[int, int, int]],
    left: int,
    top: int,
) -> None:
    inside = _CELL - 2 * _FRAME
    for i, (file, colour) in enumerate(zip(images["file"], colours, strict=True)):
        with Image.open(Path(world) / file) as image:
            small = image.convert("RGB").resize((inside, inside), Image.Resampling.LANCZOS)
        sheet.paste(ImageOps.expand(small, _FRAME, colour), (left + i * (_CELL + _GAP), top))
