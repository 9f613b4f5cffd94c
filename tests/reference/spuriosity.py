"""Naive second implementation of spuriosity and of ranked splits, from their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def spuriosity_by_definition(scores: Sequence[Sequence[float]]) -> list[float]:
    """Mean over the concepts of (score - mean) / standard deviation, all of one class; exact up to the square root."""
    values = [[Fraction(s) for s in image] for image in scores]
    total = [0.0] * len(values)
    concepts = len(values[0])
    for i in range(concepts):
        column = [image[i] for image in values]
        mean = sum(column) / len(column)
        variance = sum((s - mean) ** 2 for s in column) / len(column)
        if variance == 0:
            continue
        for n, s in enumerate(column):
            total[n] += float(s - mean) / math.sqrt(variance)
    return [t / concepts for t in total]


def ranked_splits_by_distance(count: int, ends: int) -> list[str | None]:
    """Low and high by rank; middle by distance from the median rank, the lower rank first."""
    median = Fraction(count + 1, 2)
    name: dict[int, str] = {}
    for rank in range(1, count + 1):
        if rank <= ends:
            name[rank] = "low"
        elif rank > count - ends:
            name[rank] = "high"
    between = sorted((r for r in range(1, count + 1) if r not in name), key=lambda r: (abs(r - median), r))
    if len(between) >= ends:
        name |= dict.fromkeys(between[:ends], "middle")
    return [name.get(rank) for rank in range(1, count + 1)]
