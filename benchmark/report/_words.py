"""What a report says in sentences: what was measured on what, what differs, and what cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.benchmark.report._comparison import Comparison, class_gaps
from spurious_imagenet.benchmark.report._groups import Group

_FEW = 10
_PROTOCOLS = {"paper": "the paper's protocol", "standard": "each model's own transform"}


def name_list(names: Sequence[str], most: int = 4) -> str:
    """Join names as English does; of many, say how many more there are."""
    shown = [*names[:most], f"{len(names) - most} more"] if len(names) > most + 1 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def short_source(source: str) -> str:
    """Name a dataset or file without the folders above it; a Hub id stays whole."""
    is_path = source.startswith(("/", "~", ".")) or source.count("/") > 1
    return source.rstrip("/").rpartition("/")[2] if is_path else source


def group_title(group: Group) -> str:
    """Name a group by its images and how they were prepared."""
    return f"{short_source(group.first.dataset)}, {_PROTOCOLS[group.first.protocol.value]}"


def summary(group: Group, comparison: Comparison) -> list[str]:
    """Say first what a reader came for: which model is best, and whether that is more than chance."""
    records = [m.record for m in group.members]
    classes, spurious = len(group.first.classes), sum(c.spurious_images for c in group.first.classes)
    sentences = [
        f"{_count(len(records), 'record')} of {_count(len({m.network for m in group.members}), 'model')} on "
        f"{_count(classes, 'class', 'classes')}: {spurious:,} images that show only a spurious feature, against "
        f"{sum(c.validation_images for c in group.first.classes):,} validation images of the same classes."
    ]
    best = int(np.argmax([r.mean.spurious_auc for r in records]))
    interval = records[best].mean_intervals.get("spurious_auc")
    ends = f" (95 %: {interval.low:.3f} to {interval.high:.3f})" if interval else ""
    said = f"Highest mean spurious AUC: {group.members[best].label}, {records[best].mean.spurious_auc:.3f}{ends}"
    ties = [group.members[i].label for i in comparison.ties(best, "spurious_auc")]
    if len(records) > 1:
        said += f"; it cannot be told apart from {name_list(ties)}" if ties else "; every other record differs from it"
    return [*sentences, f"{said}."]


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if not text.strip("+−0.") else text


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def separation_words(groups: int) -> str:
    """Say why records stand in several tables."""
    return (
        f"The records fall into {groups} groups, which are not compared with each other: they differ in their images, "
        "in how images are prepared, or in the rankings of their gaps."
    )


def mitigation_words(group: Group, comparison: Comparison) -> list[str]:
    """Say what each mitigation changed."""
    said = []
    for base, fixed in group.pairs:
        i, j = (group.members.index(m) for m in (base, fixed))
        for metric, name in (("spurious_auc", "AUC"), ("spurious_ap", "AP")):
            found = comparison.differences[metric][min(i, j), max(i, j)]
            sign = 1 if j < i else -1  # differences are first minus second
            change = f"{signed(sign * found.difference)} {name} (95 %: {_span(found.interval, sign)})"
            if not found.distinguishable:
                own = found.interval_of_these_classes
                of_these = own.low > 0 or own.high < 0
                change += f", on these classes alone {_span(own, sign)}" if of_these else ", which may be chance"
            said.append(f"{fixed.label}: {change}" if metric == "spurious_auc" else change)
        points = 100 * (fixed.record.accuracy - base.record.accuracy)
        said[-2:] = [f"{said[-2]}; {said[-1]}; accuracy {signed(points, 1)} points."]
    return said


def _span(of: Interval, sign: int) -> str:
    low, high = sorted((sign * of.low, sign * of.high))
    return f"{signed(low)} to {signed(high)}"


def gap_words(group: Group, comparison: Comparison) -> list[str]:
    """Say what the gaps are of, how many are negative, and what the line is."""
    members = group.with_gaps
    gaps = [m.record.gaps for m in members if m.record.gaps]
    first = gaps[0]
    controls = sum(c.control for c in first.classes)
    said = [
        f"Each of {_count(len(first.classes) - controls, 'class', 'classes')} gives its {first.k} images of highest "
        f"and its {first.k} of lowest spuriosity in the {first.split} images of {short_source(first.rankings)}."
    ]
    if first.refused:
        said.append(f"{_count(len(first.refused), 'class', 'classes')} with fewer than {2 * first.k} images left out.")
    if controls:
        said.append(f"{_count(controls, 'control class', 'control classes')} without a spurious concept: in no mean.")
    per_class = [class_gaps(m) for m in members]
    means = [float(np.mean([g[c] for g in per_class])) for c in per_class[0] if all(c in g for g in per_class)]
    negative = sum(mean < 0 for mean in means)
    if means:
        said.append(f"Mean gap over the models is negative in {negative} of {len(means)} classes.")
    if comparison.line is not None:
        line = comparison.line
        models = sum(m.record.mitigation is None for m in members)
        few = "; of so few models it says little" if models < _FEW else ""
        said.append(
            f"Line over the {models} models without mitigation: {line.slope:.2f} × accuracy with cues "
            f"{line.intercept:+.2f}{few}. Effective robustness is the distance above it."
        )
    else:
        said.append(f"Effective robustness has no value here: {comparison.line_undefined}")
    return [sentence.replace(" -", " −") for sentence in said]


def correlation_words(group: Group, comparison: Comparison) -> list[str]:
    """Say how alike models' class-wise gaps are, and how much more classes differ than models do."""
    defined = [r for r in comparison.correlations.values() if r is not None]
    undefined = len(comparison.correlations) - len(defined)
    said = []
    if defined:
        pairs = _count(len(defined), "pair")
        said.append(f"Mean of {pairs}: r = {np.mean(defined):.2f}. 1: both models lose accuracy on the same classes.")
    if undefined:
        said.append(
            f"Hatched: {_count(undefined, 'pair')} without a value, as a model has the same gap on every class."
        )
    if comparison.variances is not None and comparison.variances[1] > 1e-12:
        across_classes, across_models = comparison.variances
        said.append(
            f"Variance of gaps across classes over that across models: {across_classes / across_models:.1f} "
            f"({_count(sum(m.record.mitigation is None for m in group.with_gaps), 'model')} without mitigation)."
        )
    return said
