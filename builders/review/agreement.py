"""How far labelers agree beyond chance: Cohen's κ of two, Krippendorff's α of any number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from spurious_imagenet.builders.review.consensus import Consensus
from spurious_imagenet.errors import ConfigError, UndefinedMetricError

__all__ = ["Agreement", "agreement", "cohen_kappa", "krippendorff_alpha"]


@dataclass(frozen=True)
class Agreement:
    """Agreement on a set of items.

    Attributes:
        scope: ``all``, a concept or class, or two labelers.
        items: Items that all their labelers have answered.
        agreed: Those of them on which the outcomes are the same.
        measure: ``kappa`` or ``alpha``.
        value: Cohen's κ or Krippendorff's α: 1 is full agreement, 0 what chance gives, below 0 worse than chance.
            None where it is undefined.
        undefined: Why it is undefined.
    """

    scope: str
    items: int
    agreed: int
    measure: str
    value: float | None
    undefined: str | None


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Return Cohen's κ of two labelers' outcomes on the same items, in [-1, 1]; higher is better.

    Raises:
        UndefinedMetricError: There are no items, or both gave one and the same outcome throughout.
    """
    if not first:
        raise UndefinedMetricError("undefined: no item has two complete verdicts")
    if len(only := {*first, *second}) == 1:
        raise UndefinedMetricError(f"undefined: one outcome only, all {2 * len(first)} verdicts are {only.pop()!r}")
    from sklearn.metrics import cohen_kappa_score  # seconds to import, and few need it

    return float(cohen_kappa_score(first, second))


def krippendorff_alpha(outcomes: Iterable[Sequence[str]]) -> float:
    """Return Krippendorff's α (nominal) of items that different labelers judged, in [-1, 1]; higher is better.

    Args:
        outcomes: The outcomes given to each item, by whomever.

    Raises:
        UndefinedMetricError: There are no items with two outcomes, or all outcomes are the same.
        ConfigError: The library that computes it is not installed.
    """
    try:
        import krippendorff
    except ImportError:
        raise ConfigError(
            "Krippendorff's alpha needs the extra `review`: pip install spurious-imagenet[review]."
        ) from None
    units = [unit for unit in outcomes if len(unit) > 1]
    values = sorted({outcome for unit in units for outcome in unit})
    if not units:
        raise UndefinedMetricError("undefined: no item has two complete verdicts")
    if len(values) == 1:
        raise UndefinedMetricError(f"undefined: one outcome only, all verdicts are {values[0]!r}")
    counts = np.array([[unit.count(value) for value in values] for unit in map(list, units)])
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def agreement(found: Iterable[Consensus], batches: dict[str, str], labelers: Sequence[str]) -> list[Agreement]:
    """Measure agreement over all items, in each batch and, with more than two labelers, of each pair of them.

    Two labelers are measured by κ; where more share the items out, α measures all of them and κ each pair.

    Args:
        found: What is said of each item; open ones do not count.
        batches: Item id → its batch: the concept or class that it is about.
        labelers: The review's labelers.

    Returns:
        The overall agreement first, then the batches by name, then the pairs.
    """
    done = [c for c in found if len(c.verdicts) > 1 and c.state != "open"]
    groups: dict[str, list[Consensus]] = {}
    for consensus in done:
        groups.setdefault(batches[consensus.item_id], []).append(consensus)
    measured = [_measure("all", done, labelers)]
    measured += [_measure(name, groups[name], labelers) for name in sorted(groups)]
    if len(labelers) > 2:
        measured += [_measure_pair(done, a, b) for a, b in combinations(labelers, 2)]
    return measured


def _measure(scope: str, items: Sequence[Consensus], labelers: Sequence[str]) -> Agreement:
    if len(labelers) == 2:
        return _measure_pair(items, labelers[0], labelers[1], scope)
    value, reason = None, None
    try:
        value = krippendorff_alpha([v.outcome or "" for v in c.verdicts] for c in items)
    except UndefinedMetricError as error:
        reason = str(error)
    return Agreement(scope, len(items), _same(items), "alpha", value, reason)


def _measure_pair(items: Sequence[Consensus], a: str, b: str, scope: str | None = None) -> Agreement:
    shared = []
    for consensus in items:
        outcomes = {v.labeler: v.outcome or "" for v in consensus.verdicts}
        if a in outcomes and b in outcomes:
            shared.append((outcomes[a], outcomes[b]))
    value, reason = None, None
    try:
        value = cohen_kappa([x for x, _ in shared], [y for _, y in shared])
    except UndefinedMetricError as error:
        reason = str(error)
    return Agreement(scope or f"{a} and {b}", len(shared), sum(x == y for x, y in shared), "kappa", value, reason)


def _same(items: Sequence[Consensus]) -> int:
    return sum(len({v.outcome for v in c.verdicts}) == 1 for c in items)
