"""The board as one picture: what a labeler looks at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spurious_imagenet.builders.boards._evidence import Board, Example, Histogram
from spurious_imagenet.builders.boards._words import component_words, describe, score_word, short_number, verdict_words

__all__ = ["draw_board", "draw_tiles", "overlay", "tile_rows"]

_TILE, _GAP, _MARGIN, _GUTTER = 192, 6, 28, 32
_COLUMNS = 5
_SIDE = 2 * _TILE + _GAP
_HEADER, _LABEL, _CAPTION, _PLOT = 84, 30, 40, 190
_PAPER, _INK, _SOFT = (255, 255, 255), (24, 27, 33), (104, 112, 124)
_BAR, _MOST, _LEAST = (150, 166, 190), (196, 68, 28), (38, 104, 168)
_VERDICTS = {"spurious": (190, 40, 40), "core": (28, 128, 74)}

# The image below the heat is grey, so that every colour is heat; half-transparent, it stays readable at its hottest.
_OPACITY, _BRIGHTNESS = 0.6, 0.85

Color = tuple[int, int, int]
Pixels = NDArray[np.uint8]


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib as mpl  # ships a font that has letters of most scripts, on every machine

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / name, size)


@cache
def _palette() -> NDArray[np.float32]:
    import matplotlib as mpl

    return np.asarray(mpl.colormaps["turbo"](np.linspace(0.1, 0.95, 256))[:, :3] * 255, np.float32)


def overlay(pixels: Pixels, heatmap: NDArray[np.float32]) -> Pixels:
    """Lay a heat map over an image: grey where it is cold, from blue to red where it is warm.

    Args:
        pixels: (S, S, 3) uint8.
        heatmap: (S, S) float32 in [0, 1].

    Returns:
        (S, S, 3) uint8.
    """
    grey = (pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None] * _BRIGHTNESS
    color = _palette()[(heatmap * 255).astype(np.uint8)]
    opacity = _OPACITY * np.sqrt(heatmap)[..., None]
    return (grey + (color - grey) * opacity).round().clip(0, 255).astype(np.uint8)


def _rows(board: Board) -> list[tuple[str, list[Pixels]]]:
    """Return the board's rows of tiles, top to bottom."""
    rows = [("npfv", [board.npfv.pixels, overlay(board.npfv.pixels, board.npfv.heatmap)])] if board.npfv else []
    for name, examples in (("most", board.most), ("least", board.least)):
        rows.append((name, [e.pixels for e in examples]))
        rows.append((f"{name}-heat", [overlay(e.pixels, e.heatmap) for e in examples]))
        attacked = [e.attacked for e in examples if e.attacked is not None]
        rows += [(f"{name}-attacked", attacked)] if attacked else []
    return [row for row in rows if row[1]]


def tile_rows(board: Board) -> list[str]:
    """Name the rows of :func:`draw_tiles`, top to bottom."""
    return [name for name, _ in _rows(board)]


def draw_tiles(board: Board) -> Image.Image:
    """Put a board's images at their own size into one picture of 5 columns, from which a page cuts them out."""
    rows, size = _rows(board), len(board.most[0].pixels)
    sheet = np.zeros((len(rows) * size, _COLUMNS * size, 3), np.uint8)
    for y, (_, tiles) in enumerate(rows):
        for x, pixels in enumerate(tiles):
            sheet[y * size : (y + 1) * size, x * size : (x + 1) * size] = pixels
    return Image.fromarray(sheet)


def draw_board(board: Board, references: Pixels) -> Image.Image:
    """Draw a board: NPFV, spread of the scores and the class on the left, images with heat maps on the right.

    Args:
        board: What it shows.
        references: (r, S, S, 3) uint8 images of the class.
    """
    attacked = any(e.attacked is not None for e in board.most)
    strips = (2 + attacked) * (_TILE + _GAP) + 2 * (_TILE + _GAP) + 2 * (_LABEL + _CAPTION)
    width = 2 * _MARGIN + _SIDE + _GUTTER + _COLUMNS * (_TILE + _GAP) - _GAP
    sheet = _Sheet(width, _HEADER + strips + _MARGIN)
    sheet.header(board)
    sheet.left(board, references)
    left, y = _MARGIN + _SIDE + _GUTTER, _HEADER
    symbol = score_word(board.concept)
    y = sheet.strip(f"{len(board.most)} most activating training images", board.most, _MOST, symbol, left, y)
    sheet.strip(f"{len(board.least)} least activating training images", board.least, _LEAST, symbol, left, y)
    return sheet.image


class _Sheet:
    """A picture under way."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), _PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, text: str, size: int, color: Color = _INK, **options: Any) -> float:
        """Write one line, cut to ``room`` pixels; return where it ends."""
        font = _font(size, options.get("bold", False))
        line = _fitting(" ".join(text.split()), font, options.get("room", self.image.width))
        self._draw.text((x, y), line, color, font, anchor=options.get("anchor", "la"))
        return x + font.getlength(line)

    def header(self, board: Board) -> None:
        concept, right = board.concept, self.image.width - _MARGIN
        verdict = verdict_words(concept)
        room = right - _MARGIN - 260
        end = self.text(_MARGIN, 20, str(concept["class_name"]), 25, bold=True, room=room)
        name = f"  {concept['name']}" if concept["name"] else ""
        self.text(end + 14, 27, f"{component_words(concept)}{name and '  ·' + name}", 18, _SOFT, room=right - end - 240)
        if verdict:
            color = _VERDICTS.get(str(concept.get("verdict")), _SOFT)
            self.text(right, 20, verdict, 20, color, bold=True, anchor="ra")
        self.text(right, 50, str(concept["concept_id"]), 13, _SOFT, anchor="ra", room=480)
        self.text(_MARGIN, 54, describe(board), 13, _SOFT, room=right - _MARGIN - 500)

    def left(self, board: Board, references: Pixels) -> None:
        y = _HEADER
        if board.npfv:
            self.text(_MARGIN, y, "Feature visualisation (NPFV)", 15, bold=True)
            y += _LABEL
            tiles = (board.npfv.pixels, overlay(board.npfv.pixels, board.npfv.heatmap))
            for column, pixels in enumerate(tiles):
                self.tile(pixels, _MARGIN + column * (_TILE + _GAP), y)
            y += _TILE + 6
            said = f"{score_word(board.concept)} {board.npfv.score:.2f} · p(class) {board.npfv.confidence:.2f}"
            self.text(_MARGIN, y, said, 13, _SOFT)
            y += _CAPTION
        self.text(_MARGIN, y, f"Scores of the {board.images} training images", 15, bold=True)
        y = self.plot(board, y + _LABEL)
        y = self.percentiles(board.scores, y)
        self.text(_MARGIN, y, "Other training images of the class", 15, bold=True)
        side = (_SIDE - 2 * _GAP) // 3
        for i, pixels in enumerate(references):
            x, below = _MARGIN + i % 3 * (side + _GAP), y + _LABEL + i // 3 * (side + _GAP)
            self.tile(pixels, x, below, side)

    def strip(self, title: str, examples: Sequence[Example], color: Color, symbol: str, left: int, y: int) -> int:
        """Draw one row of images, their heat maps and captions; return where the next one begins."""
        the = "" if symbol == "α" else "the "
        self._draw.rectangle((left, y + 3, left + 5, y + 17), color)
        end = self.text(left + 14, y, title, 15, bold=True)
        note = f"with GradCAM of {the}{symbol}; grey: nothing raises it"
        attacked = "; below, changed so that it rises" if any(e.attacked is not None for e in examples) else ""
        self.text(end + 10, y + 2, note + attacked, 13, _SOFT)
        y += _LABEL
        below = y
        for column, example in enumerate(examples):
            x = left + column * (_TILE + _GAP)
            tiles = [example.pixels, overlay(example.pixels, example.heatmap)]
            tiles += [example.attacked] if example.attacked is not None else []
            for row, pixels in enumerate(tiles):
                self.tile(pixels, x, y + row * (_TILE + _GAP))
            below = y + len(tiles) * (_TILE + _GAP)
            end = self.text(x, below, f"{symbol} {example.score:.2f}", 13, bold=True)
            self.text(end + 8, below, f"p {example.confidence:.2f}", 13, _SOFT)
            if example.predicted:
                self.text(x, below + 17, f"taken for {example.predicted}", 11, _SOFT, room=_TILE)
        return below + _CAPTION

    def tile(self, pixels: Pixels, x: int, y: int, side: int = _TILE) -> None:
        self.image.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS), (x, y))

    def plot(self, board: Board, y: int) -> int:
        """Draw the histogram with its percentiles; return where it ends."""
        scores, bottom = board.scores, y + _PLOT
        low, high = scores.edges[0], scores.edges[-1]
        scale = _SIDE / (high - low)
        tallest = max(scores.counts)
        for count, start, end in zip(scores.counts, scores.edges, scores.edges[1:], strict=False):
            top = bottom - round((_PLOT - 24) * count / tallest)
            if count:
                x0, x1 = _MARGIN + (start - low) * scale, _MARGIN + (end - low) * scale
                self._draw.rectangle((x0, top, max(x1 - 1.5, x0), bottom), _BAR)
        for percent in (5, 50, 95):
            x = _MARGIN + (scores.percentiles[percent] - low) * scale
            self._draw.line((x, y + 16, x, bottom), _INK, 1)
            self.text(x, y, f"{percent}%", 11, _SOFT, anchor="ma")
        for examples, color in ((board.most, _MOST), (board.least, _LEAST)):
            for example in examples:
                x = _MARGIN + (min(max(example.score, low), high) - low) * scale
                self._draw.polygon([(x, bottom + 3), (x - 4, bottom + 11), (x + 4, bottom + 11)], color)
        self._draw.line((_MARGIN, bottom, _MARGIN + _SIDE, bottom), _INK, 1)
        for x, value, anchor in ((_MARGIN, low, "la"), (_MARGIN + _SIDE, high, "ra")):
            self.text(x, bottom + 14, f"{value:.2f}", 12, _SOFT, anchor=anchor)
        self.text(_MARGIN + _SIDE / 2, bottom + 14, score_word(board.concept), 12, _SOFT, anchor="ma")
        return bottom + 44

    def percentiles(self, scores: Histogram, y: int) -> int:
        step = _SIDE / len(scores.percentiles)
        for column, (percent, value) in enumerate(scores.percentiles.items()):
            x = _MARGIN + (column + 0.5) * step
            self.text(x, y, f"{percent}%", 11, _SOFT, anchor="ma")
            self.text(x, y + 17, short_number(value), 12, anchor="ma")
        return y + 52


def _fitting(line: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Cut a line that is too long, and say so by an ellipsis."""
    if font.getlength(line) <= room:
        return line
    while line and font.getlength(line + "…") > room:
        line = line[: int(len(line) * 0.9)]
    return line + "…"
