"""Naive second implementations of the comparison of components with neurons: sets, pairs, and angles by definition."""

from __future__ import annotations

import math

import numpy as np


def top_sets(scores: np.ndarray, count: int) -> list[set[int]]:
    """The images of the highest scores of each concept, ties by place."""
    return [set(sorted(range(len(scores)), key=lambda i: (-scores[i, m], i))[:count]) for m in range(scores.shape[1])]


def shared(first: set[int], second: set[int]) -> float:
    """Share of its images that a set has in common with another of the same size."""
    return len(first & second) / len(first)


def mean_shared(sets: list[set[int]]) -> float:
    """Mean over unordered pairs of different sets."""
    pairs = [(a, b) for i, a in enumerate(sets) for b in sets[i + 1 :]]
    return sum(shared(a, b) for a, b in pairs) / len(pairs)


def distinct(sets: list[set[int]]) -> float:
    """Different images by images."""
    return len(set().union(*sets)) / sum(map(len, sets))


def angles(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Principal angles by their definition: the closest pair of unit vectors, then the closest orthogonal to them.

    The closest vectors of two spans are eigenvectors of the product of their projections.
    """
    projections = [(m.T @ np.linalg.pinv(m.T)) for m in (first.astype(float), second.astype(float))]
    ranks = [round(float(np.trace(p))) for p in projections]
    squared = np.sort(np.linalg.eigvals(projections[0] @ projections[1]).real)[::-1][: min(ranks)]
    return [math.degrees(math.acos(min(1.0, math.sqrt(max(0.0, float(c)))))) for c in squared]


def auc(positive: list[float], negative: list[float]) -> float:
    """Share of pairs in the right order, ties counting half."""
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return wins / (len(positive) * len(negative))
