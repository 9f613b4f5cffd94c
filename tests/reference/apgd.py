"""Naive second implementation of L2 Auto-PGD: one float64 vector at a time, projections by bisection."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]


def nearest(point: np.ndarray, centre: np.ndarray, eps: float) -> np.ndarray:
    """Return the point of ball and box nearest to ``point``: the multiplier of the ball's constraint by bisection."""

    def shrunk(multiplier: float) -> np.ndarray:
        return np.clip(centre + (point - centre) / (1 + multiplier), 0, 1)

    if np.linalg.norm(shrunk(0) - centre) <= eps:
        return shrunk(0)
    low, high = 0.0, 1.0
    while np.linalg.norm(shrunk(high) - centre) > eps:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(shrunk(middle) - centre) > eps else (low, middle)
    return shrunk(high)


def apgd(function: Function, start: np.ndarray, eps: float, steps: int) -> tuple[np.ndarray, float]:
    """Maximise ``function`` (value, gradient) as Croce & Hein 2020, algorithm 1, prints it."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    marks = [math.ceil(round(share * steps, 6)) for share in shares]

    def stepped(point: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        return nearest(point + size * gradient / max(np.linalg.norm(gradient), 1e-30), start, eps)

    size, points, values, rises = 2 * eps, [start], [], []
    value, gradient = function(start)
    values.append(value)
    best, best_value, best_gradient = start, value, gradient
    history = [(size, best_value)]
    for k in range(steps):
        new = stepped(points[k], gradient)
        if k > 0:
            new = nearest(points[k] + 0.75 * (new - points[k]) + 0.25 * (points[k] - points[k - 1]), start, eps)
        value, gradient = function(new)
        points.append(new)
        rises.append(value > values[-1])
        values.append(value)
        if value > best_value:
            best, best_value, best_gradient = new, value, gradient
        if k + 1 in marks[1:]:
            last = max(m for m in marks if m < k + 1)
            few = sum(rises[last:]) < 0.75 * (k + 1 - last)
            stuck = history[last][0] == size and history[last][1] == best_value
            if few or (stuck and last > 0):
                size /= 2
                points[-1], values[-1], gradient = best, best_value, best_gradient
        history.append((size, best_value))
    return best, best_value
