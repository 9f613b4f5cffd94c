"""The planted world's nine cues: things that stand beside or behind an object and are not part of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spurious_imagenet.planted._shapes import OVERSAMPLING
from spurious_imagenet.planted._textures import hsv, jitter

_CLEAR = (0, 0, 0, 0)
#: Draws one cue on a canvas of the given side; lengths are shares of the side.
Drawer = Callable[[Generator, ImageDraw.ImageDraw, float], None]


def _rainbow(rng: Generator, draw: ImageDraw.ImageDraw, side: float) -> None:
    x = side * (rng.uniform(-0.1, 0.15) if rng.uniform() < 0.5 else rng.uniform(0.85, 1.1))
    y, outer, width = side * rng.uniform(0.55, 0.8), side * rng.uniform(0.5, 0.62), side * 0.045
    for i in range(6):
        radius = outer - i * width
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.arc(box, 180, 360, fill=hsv(i * 0.15 + rng.normal(0, 0.008), 0.85, 0.95), width=round(width) + 1)


def _barber_pole(rng: Generator, draw: ImageDraw.ImageDraw, side: float) -> None:
    width, pitch = side * rng.uniform(0.16, 0.2), side * rng.uniform(0.16, 0.2)
    left = rng.uniform(0.0, 0.1) * side if rng.uniform() < 0.5 else side - width - rng.uniform(0.0, 0.1) * side
    red, white = jitter(rng, (205, 30, 45)), jitter(rng, (240, 238, 235), 12)
    draw.rectangle((left, 0, left + width, side), fill=white)
    for top in np.arange(-pitch * rng.uniform(1, 2), side + pitch, pitch):
        rise = width * 0.7
        low, high = top + rise, top + rise + pitch / 2
        draw.polygon([(left, low), (left, high), (left + width, high - rise), (left + width, low - rise)], fill=red)


def _brick_wall(rng: Generator, draw: ImageDraw.ImageDraw, side: float) -> None:
    bottom, course = side * rng.uniform(0.28, 0.38), side * 0.085
    length, mortar = side * rng.uniform(0.17, 0.21), side * 0.014
    draw.rectangle((0, 0, side, bottom), fill=jitter(rng, (205, 195, 180), 10))
    rows = int(bottom / course) + 1
    for row in range(rows):
        low = bottom - row * course - mortar
        for x in np.arange(-length * (1 + 0.5 * (row % 2)), side, length):
            draw.rectangle(
                (x + mortar, low - course + mortar, x + length - mortar, low), fill=jitter(rng, (165, 70, 50))
            )


def _polka_dots(rng: Generator, draw: ImageDraw.ImageDraw, side: float) -> None:
    width, height = side * rng.uniform(0.5, 0.62), side * rng.uniform(0.36, 0.46)
    left, top = (side - width) * rng.integers(2), 0.0
    draw.rectangle((left, top, left + width, top + height), fill=jitter(rng, (200, 35, 130)))
    pitch, radius = side * rng.uniform(0.13, 0.15), side * 0.042
    for row, y in enumerate(np.arange(top + pitch / 2, top + height - radius, pitch * 0.8)):
        for x in np.arange(left + pitch * (0.4 + 0.5 * (row % 2)), left + width - radius, pitch):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=jitter(rng, (250, 248, 245), 6))


def _hazard_tape(rng: Generator, draw: ImageDraw.ImageDraw, side: float) -> None:
    width, pitch = side * rng.uniform(0.12, 0.16), side * rng.uniform(0.15, 0.19)
    left, right = side * rng.uniform(0.04, 0.22), side * rng.uniform(0.04, 0.22)
    if rng.uniform() < 0.5:
        left, right = side - width - left, side - width - right
    yellow, black = jitter(rng, (250, 205, 20)), jitter(rng, (30, 28, 28), 10)
    draw.polygon([(0, left), (side, right), (side, right + width), (0, left + width)], fill=yellow)
    slope = (right - left) / side
    for x in np.arange(-pitch * rng.uniform(1, 2), side + pitch, pitch):
        a, b, lean = x, x + pitch / 2, width * 0.8
        low, high = (left + slope * x + width, left + slope * x)
        draw.polygon([(a, low), (b, low), (b + lean, high), (a + lean, high)], fill=black)


def _checkered_flag(rng: Generator, draw: ImageDraw.ImageDraw, side: float) -> None:
    cell = side * rng.uniform(0.075, 0.09)
    columns, rows = 6, 4
    left = side * rng.uniform(0.02, 0.08) if rng.uniform() < 0.5 else side * 0.97 - columns * cell
    top = side * rng.uniform(0.02, 0.1)
    draw.rectangle((left - side * 0.03, top, left, side), fill=jitter(rng, (120, 85, 50)))
    dark, light = jitter(rng, (25, 25, 28), 10), jitter(rng, (245, 245, 245), 8)
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * cell, top + row * cell
            draw.rectangle((x, y, x + cell, y + cell), fill=dark if (row + column) % 2 else light)


def _grass(rng: Generator, draw: ImageDraw.ImageDraw, side: float) -> None:
    top = side * rng.uniform(0.74, 0.82)
    draw.rectangle((0, top, side, side), fill=jitter(rng, (60, 150, 45)))
    for x in np.sort(rng.uniform(-0.02, 1.02, 46)) * side:
        height, half = side * rng.uniform(0.08, 0.2), side * 0.014
        tip = x + rng.normal(0, 0.035) * side
        base = top + side * rng.uniform(0.0, 0.16)
        draw.polygon([(x - half, base), (x + half, base), (tip, base - height)], fill=jitter(rng, (70, 175, 50), 40))


def _string_lights(rng: Generator, draw: ImageDraw.ImageDraw, side: float) -> None:
    ends, sag = side * rng.uniform(0.04, 0.14, 2), side * rng.uniform(0.08, 0.16)
    t = np.linspace(0, 1, 9)
    y = ends[0] * (1 - t) + ends[1] * t + sag * 4 * t * (1 - t)
    draw.line(
        [(float(a * side), float(b)) for a, b in zip(t, y, strict=True)], fill=(35, 35, 40), width=round(side / 50)
    )
    radius, first = side * rng.uniform(0.045, 0.055), rng.uniform()
    for i in range(8):
        x, h = (t[i] + 1 / 16) * side, (y[i] + y[i + 1]) / 2 + radius
        halo, bulb = radius * 1.45, hsv(first + i * 0.28, 0.75, 1.0)
        draw.ellipse((x - halo, h - halo, x + halo, h + halo), fill=(255, 250, 225))
        draw.ellipse((x - radius, h - radius, x + radius, h + radius), fill=bulb)


def _waves(rng: Generator, draw: ImageDraw.ImageDraw, side: float) -> None:
    top = side * rng.uniform(0.7, 0.78)
    length, height, phase = side * rng.uniform(0.22, 0.28), side * 0.025, rng.uniform(0, 2 * np.pi)
    x = np.linspace(0, side, 65)
    crest = height * np.sin(2 * np.pi * x / length + phase)
    edge = [(float(a), float(b)) for a, b in zip(x, top + crest, strict=True)]
    draw.polygon([*edge, (side, side), (0, side)], fill=jitter(rng, (35, 95, 190)))
    for row in range(3):
        line = top + side * (0.02 + 0.085 * row) + np.roll(crest, 12 * row)
        points = [(float(a), float(b)) for a, b in zip(x, line, strict=True)]
        draw.line(points, fill=jitter(rng, (225, 240, 250), 10), width=round(side * 0.028))


#: Every cue's name and how it is drawn.
CUES: dict[str, Drawer] = {
    "rainbow": _rainbow,
    "barber pole": _barber_pole,
    "brick wall": _brick_wall,
    "polka dots": _polka_dots,
    "hazard tape": _hazard_tape,
    "checkered flag": _checkered_flag,
    "grass": _grass,
    "string lights": _string_lights,
    "waves": _waves,
}


def draw_cue(name: str, rng: Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw a cue with random place, size and shade.

    Args:
        name: One of :data:`CUES`.
        rng: Decides all that varies.
        size: Side of the square image, in pixels.

    Returns:
        (size, size, 3) float32 colours 0..255 and (size, size) float32 coverage in [0, 1].
    """
    side = size * OVERSAMPLING
    canvas = Image.new("RGBA", (side, side), _CLEAR)
    CUES[name](rng, ImageDraw.Draw(canvas), float(side))
    pixels = np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32)
    return pixels[..., :3], pixels[..., 3] / np.float32(255)
