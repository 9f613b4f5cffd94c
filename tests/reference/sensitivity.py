"""Naive second implementations of SR appendix B: one pixel, one image, one resample at a time."""

from __future__ import annotations

import math

import numpy as np


def grey(image: np.ndarray) -> np.ndarray:
    """Luma of ITU-R 601-2 in 16-bit fixed point, in all three channels."""
    result = np.empty_like(image)
    for y, x in np.ndindex(image.shape[:2]):
        r, g, b = (int(v) for v in image[y, x])
        result[y, x] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
    return result


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian by its definition, rows then columns, the border repeated; float64."""
    reach = math.ceil(4 * sigma)
    weights = np.array([math.exp(-(d**2) / (2 * sigma**2)) for d in range(-reach, reach + 1)])
    weights /= weights.sum()
    result = image.astype(np.float64)
    for axis in (0, 1):
        length = image.shape[axis]
        total = np.zeros_like(result)
        for weight, d in zip(weights, range(-reach, reach + 1), strict=True):
            total += weight * np.take(result, np.clip(np.arange(length) + d, 0, length - 1), axis=axis)
        result = total
    return result


def patch_rotate(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Turn each patch counter-clockwise by its number of quarter turns, pixel by pixel."""
    count = len(image) // side
    first = (len(image) - count * side) // 2
    turns = rng.integers(0, 4, (count, count))
    result = image.copy()
    for row, column in np.ndindex(count, count):
        top, left = first + row * side, first + column * side
        for y, x in np.ndindex(side, side):
            to_y, to_x = y, x
            for _ in range(turns[row, column]):
                to_y, to_x = side - 1 - to_x, to_y
            result[top + to_y, left + to_x] = image[top + y, left + x]
    return result


def blend(image: np.ndarray, corrupted: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mix by weights in [0, 1], in float64, rounded to nearest."""
    result = np.empty_like(image)
    for y, x, c in np.ndindex(image.shape):
        weight = mask[y, x] / 255
        result[y, x, c] = math.floor(float(image[y, x, c]) * (1 - weight) + float(corrupted[y, x, c]) * weight + 0.5)
    return result


def without_core(mask: np.ndarray, cores: list[np.ndarray]) -> np.ndarray:
    """Take from each pixel what it shares with the strongest core mask there."""
    result = mask.copy()
    for y, x in np.ndindex(mask.shape):
        strongest = max((int(core[y, x]) for core in cores), default=0)
        result[y, x] = int(mask[y, x]) - min(int(mask[y, x]), strongest)
    return result


def bootstrapped_drop(clean: list[bool], corrupted: list[bool], counts: np.ndarray) -> list[float]:
    """Drop in accuracy of every resample, each image repeated as often as it was drawn."""
    found = []
    for drawn in counts:
        images = [i for i, times in enumerate(drawn) for _ in range(times)]
        found.append(sum(clean[i] for i in images) / len(images) - sum(corrupted[i] for i in images) / len(images))
    return found


def pearson(a: list[float], b: list[float]) -> float:
    """Correlation by its definition."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    above = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return above / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
