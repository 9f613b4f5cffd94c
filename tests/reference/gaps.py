"""Naive second implementations of spurious gaps and what is made of them, from SR section 4.2 and appendix D."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def gap_by_sorting(correct: Sequence[bool], spuriosity: Sequence[float], ties: Sequence[str], k: int) -> float:
    """Accuracy on the k images of highest spuriosity minus that on the k of lowest."""
    ordered = sorted(zip(spuriosity, ties, correct, strict=True), key=lambda image: image[:2])
    low = [right for _, _, right in ordered[:k]]
    high = [right for _, _, right in ordered[len(ordered) - k :]]
    return sum(high) / k - sum(low) / k


def control_gaps(
    correct: Sequence[bool], scores: Sequence[Sequence[float]], ties: Sequence[str], k: int
) -> list[float]:
    """The gap by each concept alone; ``scores`` has one row per image."""
    return [gap_by_sorting(correct, [row[m] for row in scores], ties, k) for m in range(len(scores[0]))]


def resampled_control_gaps(
    correct: Sequence[bool], scores: Sequence[Sequence[float]], ties: Sequence[str], k: int, times: int, seed: int
) -> list[float]:
    """Draw as many concepts, and k of the highest and k of the lowest images of each, all with replacement."""
    rng = np.random.default_rng(seed)
    sides = []
    for m in range(len(scores[0])):
        order = sorted(range(len(correct)), key=lambda i: (scores[i][m], ties[i]))
        sides.append(([correct[i] for i in order[-k:]], [correct[i] for i in order[:k]]))
    found = []
    for _ in range(times):
        drawn = [rng.choice(high, k).mean() - rng.choice(low, k).mean() for high, low in sides]
        found.append(float(np.mean([drawn[m] for m in rng.integers(0, len(sides), len(sides))])))
    return found


def distance_from_line(accuracy_high: Sequence[float], accuracy_low: Sequence[float]) -> list[float]:
    """acc_bot - beta(acc_top), beta the least-squares line over models (SR appendix D)."""
    design = np.stack([accuracy_high, np.ones(len(accuracy_high))], axis=1)
    solution = np.linalg.lstsq(design, np.asarray(accuracy_low), rcond=None)[0]
    return [low - (solution[0] * high + solution[1]) for high, low in zip(accuracy_high, accuracy_low, strict=True)]


def pearson(x: Sequence[float], y: Sequence[float]) -> float:
    """Covariance over the product of standard deviations."""
    mx, my = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return float(covariance / (sum((a - mx) ** 2 for a in x) ** 0.5 * sum((b - my) ** 2 for b in y) ** 0.5))


def sample_variance(values: Sequence[float]) -> float:
    """Sum of squared deviations over n - 1."""
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def accuracy_in(correct: Sequence[bool], percentile: Sequence[float], low: float, high: float) -> tuple[int, float]:
    """Count the images whose percentile is in [low, high), or [low, 1], and their accuracy."""
    inside = [r for r, p in zip(correct, percentile, strict=True) if low <= p < high or (high == 1 and p == 1)]
    return len(inside), sum(inside) / len(inside)
