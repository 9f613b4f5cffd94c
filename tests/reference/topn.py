"""Naive second implementations of top-n: score everything, sort everything."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def top_by_sorting(scores: np.ndarray, ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (M, n) best scores and ids of (B, M) scores, ties by lower id, padded with -inf and -1."""
    best = np.full((scores.shape[1], n), -np.inf, np.float32)
    found = np.full((scores.shape[1], n), -1)
    for m in range(scores.shape[1]):
        ranked = sorted(zip((-scores[:, m]).tolist(), ids.tolist(), strict=True))[:n]
        for place, (negative, image) in enumerate(ranked):
            best[m, place], found[m, place] = -negative, image
    return best, found


def exact_scores(features: np.ndarray, directions: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Score each (image, concept) pair by a correctly rounded sum, then round to float32."""
    scores = np.empty((len(features), len(directions)), np.float32)
    for i, x in enumerate(features.astype(np.float64)):
        for m, d in enumerate(directions.astype(np.float64)):
            scores[i, m] = math.fsum((x * d).tolist()) + float(offsets[m])
    return scores


def top_of_images(
    keys: Sequence[str], scores: np.ndarray, counts: np.ndarray, n: int
) -> tuple[list[list[float]], list[list[str]]]:
    """Rank the images that count (a mask like ``scores``) of each concept; ties keep the order of ``keys``."""
    best: list[list[float]] = []
    names: list[list[str]] = []
    for m in range(scores.shape[1]):
        order = sorted((i for i in range(len(keys)) if counts[i, m]), key=lambda i: (-scores[i, m], i))[:n]
        best.append([float(scores[i, m]) for i in order])
        names.append([keys[i] for i in order])
    return best, names
