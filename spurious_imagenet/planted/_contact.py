"""A sheet of examples by which a person sees a planted world at a glance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

from spurious_imagenet.planted._plan import ImagePlan
from spurious_imagenet.planted._shapes import SHAPES
from spurious_imagenet.planted.config import WorldConfig

_CELL, _GAP, _MARGIN, _HEADER, _EXAMPLES = 112, 4, 150, 44, 2
_PAPER, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (238, 238, 238)

Wanted = Callable[[ImagePlan, str, WorldConfig], bool]


def _object_only(plan: ImagePlan, name: str, config: WorldConfig) -> bool:
    return plan.split == "train" and plan.name == name and plan.cue is None


def _with_cue(plan: ImagePlan, name: str, config: WorldConfig) -> bool:
    return plan.split == "train" and plan.name == name and plan.cue is not None


def _cue_only(plan: ImagePlan, name: str, config: WorldConfig) -> bool:
    pair = config.pair_of(name)
    return pair is not None and plan.split == "pool" and plan.name is None and plan.cue == pair.cue


_ROWS: tuple[tuple[str, Wanted], ...] = (
    ("train:\nobject alone", _object_only),
    ("train:\nobject and cue", _with_cue),
    ("pool:\ncue alone", _cue_only),
)


def contact_sheet(
    plans: Sequence[ImagePlan], config: WorldConfig, render: Callable[[ImagePlan], Image.Image]
) -> Image.Image:
    """Lay out examples of every class: its object alone, with its cue, and the cue alone.

    Args:
        plans: The world's images.
        config: The world.
        render: Draws one image.

    Returns:
        An RGB image with a column per class and two rows per situation; a class without a cue leaves its cells empty.
    """
    step = _CELL + _GAP
    size = (_MARGIN + len(SHAPES) * step, _HEADER + len(_ROWS) * _EXAMPLES * step)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    small = ImageFont.load_default(11)
    for row, (label, _) in enumerate(_ROWS):
        draw.multiline_text((8, _HEADER + (row * _EXAMPLES + 0.75) * step), label, _INK, font)
    for column, name in enumerate(SHAPES):
        left = _MARGIN + column * step
        pair = config.pair_of(name)
        draw.text((left + 2, 4), name, _INK, font)
        draw.text((left + 2, 25), f"{pair.cue} {pair.share:.0%}" if pair else "no cue", _INK, small)
        for row, (_, wanted) in enumerate(_ROWS):
            examples = [plan for plan in plans if wanted(plan, name, config)][:_EXAMPLES]
            for i in range(_EXAMPLES):
                place = (left, _HEADER + (row * _EXAMPLES + i) * step)
                if i < len(examples):
                    sheet.paste(render(examples[i]).resize((_CELL, _CELL), Image.Resampling.LANCZOS), place)
                else:
                    draw.rectangle((*place, place[0] + _CELL - 1, place[1] + _CELL - 1), fill=_FAINT)
    return sheet
