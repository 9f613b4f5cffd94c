"""The planted world's twelve objects: silhouettes in unit coordinates, drawn anti-aliased at any place and angle."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

#: Everything is drawn this many times larger and then averaged down: anti-aliasing.
OVERSAMPLING = 4

Points = NDArray[np.float64]
#: Polygons in [-1, 1]² (x right, y down) with the ink they are filled with: 1 draws, 0 cuts out.
Silhouette = tuple[tuple[Points, int], ...]


def _polar(radius: NDArray[np.float64] | float, angle: NDArray[np.float64]) -> Points:
    """Return the (n, 2) points at ``radius`` and ``angle``, angle 0 upwards and clockwise."""
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


def _circle(x: float, y: float, radius: float) -> Points:
    outline: Points = _polar(radius, np.linspace(0, 2 * np.pi, 48, endpoint=False)) + np.array([x, y])
    return outline


def _points(*xy: tuple[float, float]) -> Points:
    return np.array(xy, dtype=np.float64)


def _star() -> Silhouette:
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return ((_polar(radius, np.arange(10) * np.pi / 5), 1),)


def _ring() -> Silhouette:
    return ((_circle(0, 0, 0.95), 1), (_circle(0, 0, 0.55), 0))


def _cross() -> Silhouette:
    arm = 0.32
    bar = _points((-arm, -0.95), (arm, -0.95), (arm, 0.95), (-arm, 0.95))
    return ((bar, 1), (bar[:, ::-1], 1))


def _heart() -> Silhouette:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return ((np.stack([x, y + 2.5], axis=1) / 16.5, 1),)


def _crescent() -> Silhouette:
    return ((_circle(0, 0, 0.98), 1), (_circle(0.48, 0, 0.8), 0))


def _arrow() -> Silhouette:
    up = _points((0, -1), (0.8, -0.1), (0.3, -0.1), (0.3, 1), (-0.3, 1), (-0.3, -0.1), (-0.8, -0.1))
    return ((up, 1),)


def _gear() -> Silhouette:
    tooth = np.arange(32) % 4
    radius = np.where((tooth == 0) | (tooth == 3), 0.68, 1.0)
    return ((_polar(radius, np.arange(32) * np.pi / 16), 1), (_circle(0, 0, 0.3), 0))


def _flower() -> Silhouette:
    centers = _polar(0.6, np.arange(5) * 2 * np.pi / 5)
    petals = tuple((_circle(float(x), float(y), 0.4), 1) for x, y in centers)
    return (*petals, (_circle(0, 0, 0.25), 0))


def _bolt() -> Silhouette:
    return ((_points((0.15, -1), (-0.6, 0.15), (-0.08, 0.15), (-0.25, 1), (0.6, -0.25), (0.05, -0.25), (0.5, -1)), 1),)


def _fish() -> Silhouette:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    body = np.stack([-0.25 + 0.72 * np.cos(t), 0.5 * np.sin(t)], axis=1)
    return ((body, 1), (_points((0.25, 0), (1, -0.6), (0.8, 0), (1, 0.6)), 1), (_circle(-0.6, -0.12, 0.1), 0))


def _boat() -> Silhouette:
    hull = _points((-1, 0.35), (1, 0.35), (0.6, 0.9), (-0.6, 0.9))
    sails = (_points((-0.1, -1), (-0.1, 0.2), (-0.85, 0.2)), _points((0.08, -0.75), (0.08, 0.2), (0.8, 0.2)))
    return ((hull, 1), (sails[0], 1), (sails[1], 1))


def _hourglass() -> Silhouette:
    glass = _points((-0.7, -0.95), (0.7, -0.95), (0.12, 0), (0.7, 0.95), (-0.7, 0.95), (-0.12, 0))
    return ((glass, 1),)


#: Every object's name and silhouette; the order is that of the classes.
SHAPES: dict[str, Callable[[], Silhouette]] = {
    "star": cache(_star),
    "ring": cache(_ring),
    "cross": cache(_cross),
    "heart": cache(_heart),
    "crescent": cache(_crescent),
    "arrow": cache(_arrow),
    "gear": cache(_gear),
    "flower": cache(_flower),
    "bolt": cache(_bolt),
    "fish": cache(_fish),
    "boat": cache(_boat),
    "hourglass": cache(_hourglass),
}


def draw_shape(
    name: str, size: int, center: tuple[float, float], radius: float, angle: float, mirrored: bool
) -> NDArray[np.float32]:
    """Draw an object's silhouette.

    Args:
        name: One of :data:`SHAPES`.
        size: Side of the square image, in pixels.
        center: Where the silhouette's origin lies (x, y), in pixels.
        radius: Length of one unit, in pixels.
        angle: Clockwise rotation in radians.
        mirrored: Swap left and right first.

    Returns:
        (size, size) float32 coverage of each pixel in [0, 1].
    """
    cos, sin = np.cos(angle), np.sin(angle)
    turn = radius * np.array([[cos, sin], [-sin, cos]]) * (np.array([[-1.0], [1.0]]) if mirrored else 1.0)
    canvas = Image.new("L", (size * OVERSAMPLING, size * OVERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for points, ink in SHAPES[name]():
        placed = (points @ turn + center) * OVERSAMPLING
        draw.polygon([(float(x), float(y)) for x, y in placed], fill=255 * ink)
    return np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32) / np.float32(255)
