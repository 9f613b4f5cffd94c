"""What can be said of the models of a group beside each other: which differ, and by more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from spurious_imagenet.benchmark.comparison.compare import compare
from spurious_imagenet.benchmark.comparison.record import ModelDifference
from spurious_imagenet.benchmark.metrics.gaps import (
    RobustnessLine,
    effective_robustness,
    gap_correlation,
    variance_ratio,
)
from spurious_imagenet.benchmark.report._groups import Group, MeasuredModel
from spurious_imagenet.errors import UndefinedMetricError

#: The measures whose means are compared, as fields of a record's means.
METRICS = ("spurious_auc", "spurious_ap")


@dataclass(frozen=True)
class Comparison:
    """Comparisons within a group; places are those of ``group.members``.

    Attributes:
        differences: Metric -> (place, later place) -> paired difference of the means over classes.
        line: Least-squares line of accuracy on low over accuracy on high spuriosity, of the unmitigated models (SR
            appendix D); None where it is undefined.
        line_undefined: Why it is.
        robustness: Place -> how far above the line the model is; higher is better.
        correlations: (place, later place) -> Pearson's r of class-wise gaps (SR Fig. 14), None where undefined.
        variances: Variance of gaps across classes and across models, of the unmitigated ones (SR section 4.2).
    """

    differences: dict[str, dict[tuple[int, int], ModelDifference]]
    line: RobustnessLine | None
    line_undefined: str
    robustness: dict[int, float]
    correlations: dict[tuple[int, int], float | None]
    variances: tuple[float, float] | None

    def ties(self, place: int, metric: str) -> list[int]:
        """Places of the members from which this one cannot be told apart."""
        pairs = self.differences[metric].items()
        return sorted(sum(pair) - place for pair, d in pairs if place in pair and not d.distinguishable)


def compare_group(group: Group, *, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compare all members of a group, pair by pair.

    Args:
        group: Records of the same images.
        resamples: Bootstrap resamples of images within each class and side, and of classes.
        seed: Of the bootstrap.

    Raises:
        DataError: Predictions of a group are not of the same images.
    """
    members = group.members
    line, undefined, robustness = _robustness(members)
    places = [i for i, m in enumerate(members) if m.record.gaps is not None]
    correlations = {(i, j): _correlation(members[i], members[j]) for i, j in combinations(places, 2)}
    return Comparison(
        _differences(members, resamples, seed), line, undefined, robustness, correlations, _variances(members)
    )


def _differences(
    members: tuple[MeasuredModel, ...], resamples: int, seed: int
) -> dict[str, dict[tuple[int, int], ModelDifference]]:
    places = {m.label: place for place, m in enumerate(members)}
    compared = compare(((m.label, m.predictions) for m in members), resamples=resamples, seed=seed)
    found: dict[str, dict[tuple[int, int], ModelDifference]] = {metric: {} for metric in METRICS}
    for difference in compared.differences:
        if difference.measure in found:
            found[difference.measure][places[difference.first], places[difference.second]] = difference
    return found


def _robustness(members: tuple[MeasuredModel, ...]) -> tuple[RobustnessLine | None, str, dict[int, float]]:
    points = {
        i: (m.record.gaps.accuracy_high, m.record.gaps.accuracy_low) for i, m in enumerate(members) if m.record.gaps
    }
    bases = [point for i, point in points.items() if members[i].record.mitigation is None]
    try:
        line = effective_robustness([high for high, _ in bases], [low for _, low in bases])
    except UndefinedMetricError as error:
        return None, str(error), {}
    return line, "", {i: low - (line.slope * high + line.intercept) for i, (high, low) in points.items()}


def class_gaps(member: MeasuredModel) -> dict[str, float]:
    """Return the gap of each class that has a spurious concept of its own; empty if none was measured."""
    gaps = member.record.gaps
    return {c.class_id: c.gap for c in gaps.classes if not c.control} if gaps else {}


def _correlation(a: MeasuredModel, b: MeasuredModel) -> float | None:
    first, second = class_gaps(a), class_gaps(b)
    shared = [c for c in first if c in second]
    try:
        return gap_correlation([first[c] for c in shared], [second[c] for c in shared])
    except UndefinedMetricError:
        return None


def _variances(members: tuple[MeasuredModel, ...]) -> tuple[float, float] | None:
    gaps = [g for m in members if m.record.mitigation is None and (g := class_gaps(m))]
    shared = [c for c in gaps[0] if all(c in g for g in gaps)] if gaps else []
    if len(gaps) < 2 or len(shared) < 2:
        return None
    return variance_ratio([[g[c] for c in shared] for g in gaps])
