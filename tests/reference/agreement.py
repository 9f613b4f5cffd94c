"""Agreement beyond chance, written out from the definitions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Observed agreement over what the two margins would give."""
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    expected = sum(list(first).count(v) * list(second).count(v) for v in set(first) | set(second)) / n**2
    return (observed - expected) / (1 - expected)


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float:
    """One minus observed over expected disagreement, nominal, pair by pair."""
    units = [u for u in units if len(u) > 1]
    values = [v for u in units for v in u]
    n = len(values)
    observed = sum(sum(a != b for a, b in permutations(u, 2)) / (len(u) - 1) for u in units) / n
    expected = sum(a != b for a, b in permutations(values, 2)) / (n * (n - 1))
    return 1 - observed / expected
