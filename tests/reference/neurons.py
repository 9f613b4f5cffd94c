"""Neural features of a class, computed image by image and feature by feature."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def most_important(images: Sequence[Sequence[float]], weight: Sequence[float], top: int) -> list[tuple[int, float]]:
    """Return (feature, importance) of the ``top`` features, the most important first."""
    found = []
    for i, w in enumerate(weight):
        activations = [float(image[i]) for image in images]
        found.append((i, math.fsum(activations) / len(activations) * float(w)))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:top]


def spread(values: Sequence[float]) -> float:
    """Return the population standard deviation."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


def highest(values: Sequence[float], n: int) -> list[int]:
    """Return the places of the ``n`` highest values, ties by place."""
    return sorted(range(len(values)), key=lambda i: (-float(np.float32(values[i])), i))[:n]
