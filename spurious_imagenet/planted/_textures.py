"""Backgrounds, clutter and surfaces of the planted world: what surrounds and covers the objects."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spurious_imagenet.planted._shapes import OVERSAMPLING

Pixels = NDArray[np.float32]
#: Red, green and blue, each 0..255.
Color = tuple[int, int, int]


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Convert hue (turns, wrapped), saturation and value (0..1) to a colour."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def jitter(rng: Generator, color: Color, amount: int = 18) -> Color:
    """Shift each channel of a colour by up to ``amount``."""
    red, green, blue = (min(max(c + d, 0), 255) for c, d in zip(color, _offsets(rng, amount), strict=True))
    return red, green, blue


def _offsets(rng: Generator, amount: int) -> list[int]:
    offsets: list[int] = rng.integers(-amount, amount + 1, 3).tolist()
    return offsets


def paint(image: Pixels, color: Pixels | Color, coverage: Pixels) -> None:
    """Lay a colour or a surface over an image, in place.

    Args:
        image: (H, W, 3) float32 pixels, 0..255.
        color: (H, W, 3) surface or one colour.
        coverage: (H, W) float32 opacity in [0, 1].
    """
    image += (np.asarray(color, dtype=np.float32) - image) * coverage[..., None]


def _smooth_noise(rng: Generator, size: int, cells: int, channels: int) -> Pixels:
    """Return (size, size, channels) noise in [-1, 1] that varies over ``size / cells`` pixels."""
    grid = rng.uniform(-1, 1, (channels, cells, cells)).astype(np.float32)
    planes = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BICUBIC)) for p in grid]
    return np.stack(planes, axis=-1)


def background(rng: Generator, size: int) -> Pixels:
    """Return a (size, size, 3) background: a gradient between two muted colours under noise at two scales."""
    muted = [hsv(rng.uniform(), rng.uniform(0.05, 0.45), rng.uniform(0.35, 0.9)) for _ in range(2)]
    start, end = np.array(muted, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / (size - 1) - 0.5
    ramp = np.clip(x * np.cos(angle) + y * np.sin(angle) + 0.5, 0, 1)[..., None].astype(np.float32)
    image: Pixels = start + (end - start) * ramp
    image += 22 * _smooth_noise(rng, size, 5, 3) + 12 * _smooth_noise(rng, size, 16, 1)
    image += rng.normal(0, 5, (size, size, 1)).astype(np.float32)
    return image


def add_clutter(rng: Generator, image: Pixels, pieces: int) -> None:
    """Scatter ``pieces`` ellipses, triangles, rectangles and strokes of random colour over an image, in place."""
    side = image.shape[0] * OVERSAMPLING
    canvas = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(canvas)
    for _ in range(pieces):
        color = (*hsv(rng.uniform(), rng.uniform(0.2, 0.9), rng.uniform(0.3, 1.0)), int(rng.integers(130, 240)))
        x, y = rng.uniform(0, side, 2).tolist()
        half, slim = rng.uniform(0.03, 0.12) * side, rng.uniform(0.3, 1)
        box = (x - half, y - half * slim, x + half, y + half * slim)
        corners = [(x + half * np.cos(a), y + half * np.sin(a)) for a in rng.uniform(0, 2 * np.pi, 3).tolist()]
        match int(rng.integers(4)):
            case 0:
                draw.ellipse(box, fill=color)
            case 1:
                draw.polygon(corners, fill=color)
            case 2:
                draw.rectangle(box, fill=color)
            case _:
                draw.line(corners[:2], fill=color, width=side // 40)
    pixels = np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32)
    paint(image, pixels[..., :3], pixels[..., 3] / np.float32(255))


def object_surface(rng: Generator, size: int, hue: float) -> Pixels:
    """Return a (size, size, 3) surface around ``hue``: stripes, spots or marbling of two related colours."""
    tone = hue + rng.normal(0, 0.03)
    light = np.array(hsv(tone, rng.uniform(0.45, 0.8), rng.uniform(0.75, 1.0)), dtype=np.float32)
    dark = np.array(hsv(tone + rng.normal(0, 0.04), rng.uniform(0.6, 1.0), rng.uniform(0.35, 0.6)), dtype=np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    kind = rng.integers(3)
    if kind == 2:
        pattern = _smooth_noise(rng, size, 12, 1)[..., 0]
    else:
        angle, frequency = rng.uniform(0, np.pi), 2 * np.pi / rng.uniform(4, 8)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        pattern = np.sin(frequency * u) if kind == 0 else np.sin(frequency * u) * np.sin(frequency * v)
    mix = np.clip(0.35 + 0.45 * pattern, 0, 1)[..., None].astype(np.float32)
    surface: Pixels = light + (dark - light) * mix
    return surface
