"""Naive second implementations of the benchmark's metrics, from their definitions."""

from __future__ import annotations

from collections.abc import Sequence


def auc_by_counting(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Share of (positive, negative) pairs in the right order; a tie counts one half."""
    wins = 0.0
    for p in positives:
        for n in negatives:
            wins += 1.0 if p > n else 0.5 if p == n else 0.0
    return wins / (len(positives) * len(negatives))


def average_precision_by_thresholds(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Sum over distinct thresholds, from the highest, of precision times the recall gained there."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted({*positives, *negatives}, reverse=True):
        hits = sum(p >= threshold for p in positives)
        false = sum(n >= threshold for n in negatives)
        recall = hits / len(positives)
        total += (recall - recall_before) * hits / (hits + false)
        recall_before = recall
    return total
