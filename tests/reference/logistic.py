"""The objective of a penalised logistic regression on standardised features, image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def objective(
    features: np.ndarray, labels: Sequence[int], weight: np.ndarray, bias: np.ndarray, penalty: float
) -> float:
    """Return mean cross-entropy + penalty / 2 * |w|² of a head on raw features; w is in units of their deviations."""
    deviation = features.std(axis=0)
    total = 0.0
    for row, label in zip(features, labels, strict=True):
        logits = [float(row @ w + b) for w, b in zip(weight, bias, strict=True)]
        highest = max(logits)
        total += highest + math.log(sum(math.exp(z - highest) for z in logits)) - logits[label]
    return total / len(features) + penalty / 2 * float(((weight * deviation) ** 2).sum())
