"""Comparison of models on the same images: what differs, what cannot be told apart, what is the data's doing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.benchmark.comparison.record import (
    ClassMeanGap,
    Measure,
    ModelComparison,
    ModelDifference,
    Robustness,
)
from spurious_imagenet.benchmark.evaluation.gaps import GapSample, gap_sample
from spurious_imagenet.benchmark.evaluation.values import GapRecord
from spurious_imagenet.benchmark.metrics.bootstrap import (
    bootstrap_ap,
    bootstrap_auc,
)
from spurious_imagenet.benchmark.metrics.gaps import effective_robustness, gap_correlation, variance_ratio
from spurious_imagenet.benchmark.metrics.intervals import interval, paired_difference
from spurious_imagenet.benchmark.metrics.resamples import SPURIOUS, VALIDATION, BootstrapResamples
from spurious_imagenet.benchmark.metrics.separation import spurious_ap, spurious_auc
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import ConfigError, DataError, UndefinedMetricError

__all__ = ["compare"]

#: What is undefined where models have gaps in common, but not the images that AP and AUC are of.
_SEPARATION = "spurious AP and AUC"

Resampled = NDArray[np.float64]


class _Mean(NamedTuple):
    """A mean over classes: its value, its resamples, and those in which the classes stay as they are."""

    value: float
    resampled: Resampled
    of_these_classes: Resampled


@dataclass
class _Contenders:
    """What is kept of the models that were read so far: little of each, however many images they saw."""

    gaps: dict[str, GapRecord] = field(default_factory=dict)
    high: dict[str, Resampled] = field(default_factory=dict)
    low: dict[str, Resampled] = field(default_factory=dict)
    class_totals: dict[str, Resampled] = field(default_factory=dict)
    means: dict[Measure, dict[str, _Mean]] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)

    def add_gaps(self, name: str, sample: GapSample) -> None:
        record = sample.record()
        self.gaps[name] = record
        self.high[name] = sample.resampled_mean(c.resampled_high for c in sample.measured)
        self.low[name] = sample.resampled_mean(c.resampled_low for c in sample.measured)
        for c in sample.classes:
            self.class_totals[c.class_id] = self.class_totals.get(c.class_id, 0) + c.resampled_gap
        of_these = np.mean([c.resampled_gap for c in sample.measured], axis=0)
        self.means.setdefault("spurious_gap", {})[name] = _Mean(record.gap, self.high[name] - self.low[name], of_these)

    def drop_separation(self) -> None:
        """Forget AP and AUC, which the models do not share."""
        for measure in ("spurious_ap", "spurious_auc"):
            self.means.pop(measure, None)

    def add_separation(self, name: str, predictions: Predictions, resamples: int, seed: int) -> None:
        self.images[name] = _images_hash(predictions)
        first = next(iter(self.images))
        if self.images[name] != self.images[first]:
            raise DataError(
                f"{name} and {first} were not evaluated on the same images: expected models of one dataset and split."
            )
        for measure, mean in _separation(name, predictions, resamples, seed):
            self.means.setdefault(measure, {})[name] = mean


def compare(
    models: Iterable[tuple[str, Predictions]],
    rankings: Rankings | None = None,
    *,
    k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
    where: str = "the rankings",
) -> ModelComparison:
    """Compare models that were run on the same images.

    Gaps need rankings; AP and AUC need predictions that have a spurious side. Given rankings, models that share the
    ranked images but not the others are compared by gaps alone. All differences are paired: both models
    are measured on the same resamples of images and of classes. Models are read one after another, once.

    Args:
        models: Names and predictions; may be a generator.
        rankings: One split, ranked.
        k: Images on either side of each class's gap.
        resamples: Bootstrap resamples.
        seed: Of the resamples.
        where: Where the rankings are, for the record and for errors.

    Raises:
        ConfigError: There is no model, or two have the same name.
        DataError: The models were not run on the same images, or a ranked image has no prediction.
        UndefinedMetricError: No class has a gap, or there is nothing to compare by.
    """
    found, names, with_spurious = _Contenders(), [], []
    undefined: dict[str, str] = {}
    for name, predictions in models:
        if name in names:
            raise ConfigError(f"two models are named {name!r}: expected each name once.")
        names.append(name)
        if rankings is not None:
            found.add_gaps(name, gap_sample(predictions, rankings, k=k, resamples=resamples, seed=seed, where=where))
        if (predictions.table["side"] == "spurious").any():
            with_spurious.append(name)
            try:
                found.add_separation(name, predictions, resamples, seed)
            except DataError as error:
                if rankings is None:
                    raise
                undefined[_SEPARATION] = str(error)
    if not names:
        raise ConfigError("a comparison of no models: expected at least one.")
    if not found.means:
        raise UndefinedMetricError("nothing to compare by: expected rankings, or predictions of spurious images.")
    if with_spurious and with_spurious != names:
        without = next(name for name in names if name not in with_spurious)
        reason = f"{without} has no predictions of spurious images, {with_spurious[0]} has: expected both alike."
        if rankings is None:
            raise DataError(reason)
        undefined[_SEPARATION] = reason
    if _SEPARATION in undefined:
        found.drop_separation()
    results = _compared_gaps(found, undefined) if rankings is not None else {}
    return ModelComparison(
        models=tuple(names), gaps=found.gaps, differences=tuple(_differences(found)), undefined=undefined, **results
    )


def _compared_gaps(found: _Contenders, undefined: dict[str, str]) -> dict[str, Any]:
    records = list(found.gaps.values())
    gaps = np.array([[c.gap for c in r.classes if not c.control] for r in records])
    return {
        "class_gaps": tuple(_class_gaps(found)),
        **_robustness(found, undefined),
        **_correlations(list(found.gaps), gaps, undefined),
        **_variances(gaps, undefined),
    }


def _class_gaps(found: _Contenders) -> Iterator[ClassMeanGap]:
    records = list(found.gaps.values())
    for place, c in enumerate(records[0].classes):
        yield ClassMeanGap(
            class_id=c.class_id,
            class_name=c.class_name,
            control=c.control,
            gap=float(np.mean([r.classes[place].gap for r in records])),
            interval=interval(found.class_totals[c.class_id] / len(records)),
        )


def _robustness(found: _Contenders, undefined: dict[str, str]) -> dict[str, Any]:
    names, records = list(found.gaps), list(found.gaps.values())
    try:
        line = effective_robustness([r.accuracy_high for r in records], [r.accuracy_low for r in records])
    except UndefinedMetricError as error:
        undefined["effective_robustness"] = str(error)
        return {}
    high, low = np.array([found.high[n] for n in names]), np.array([found.low[n] for n in names])
    try:
        resampled = np.array(
            [effective_robustness(x, y).effective_robustness for x, y in zip(high.T, low.T, strict=True)]
        )
        intervals: list[Interval | None] = [interval(values) for values in resampled.T]
    except UndefinedMetricError:
        undefined["effective_robustness intervals"] = (
            "in some resample of the images all models have the same accuracy on those of highest spuriosity."
        )
        intervals = [None] * len(names)
    rows = zip(names, records, line.effective_robustness, intervals, strict=True)
    return {
        "robustness_slope": line.slope,
        "robustness_intercept": line.intercept,
        "effective_robustness": tuple(
            Robustness(
                model=name,
                accuracy_high=record.accuracy_high,
                accuracy_low=record.accuracy_low,
                effective_robustness=float(value),
                interval=found_interval,
            )
            for name, record, value, found_interval in rows
        ),
    }


def _correlations(names: list[str], gaps: NDArray[np.float64], undefined: dict[str, str]) -> dict[str, Any]:
    table: list[list[float | None]] = [[None] * len(names) for _ in names]
    for i, j in combinations(range(len(names)), 2):
        try:
            table[i][j] = table[j][i] = gap_correlation(gaps[i], gaps[j])
        except UndefinedMetricError as error:
            undefined[f"gap correlation of {names[i]} and {names[j]}"] = str(error)
    for i, name in enumerate(names):
        try:
            table[i][i] = gap_correlation(gaps[i], gaps[i])
        except UndefinedMetricError as error:
            undefined[f"gap correlation of {name} with itself"] = str(error)
    pairs = [table[i][j] for i, j in combinations(range(len(names)), 2)]
    defined = [r for r in pairs if r is not None]
    if not pairs or len(defined) < len(pairs):
        undefined["mean gap correlation"] = f"{len(defined)} of {len(pairs)} pairs of models have a correlation."
    return {
        "gap_correlations": tuple(map(tuple, table)),
        "mean_gap_correlation": float(np.mean(defined)) if pairs and len(defined) == len(pairs) else None,
    }


def _variances(gaps: NDArray[np.float64], undefined: dict[str, str]) -> dict[str, Any]:
    try:
        over_classes, over_models = variance_ratio(gaps)
    except UndefinedMetricError as error:
        undefined["variance ratio"] = str(error)
        return {}
    if over_models < 1e-24:
        undefined["variance ratio"] = "all models have the same mean gap."
    ratio = over_classes / over_models if over_models >= 1e-24 else None
    return {"class_variance": over_classes, "model_variance": over_models, "variance_ratio": ratio}


def _differences(found: _Contenders) -> Iterator[ModelDifference]:
    for measure, means in found.means.items():
        for first, second in combinations(means, 2):
            a, b = means[first], means[second]
            difference = paired_difference(a.value, b.value, a.resampled, b.resampled)
            yield ModelDifference(
                measure=measure,
                first=first,
                second=second,
                interval_of_these_classes=interval(a.of_these_classes - b.of_these_classes),
                **difference.model_dump(),
            )


def _separation(name: str, predictions: Predictions, resamples: int, seed: int) -> Iterator[tuple[Measure, _Mean]]:
    """Yield the mean AP and AUC over the classes that have spurious images, with their resamples."""
    draws = BootstrapResamples(resamples, seed)
    sides = {
        (str(class_id), str(side)): group["probability"].to_numpy()
        for (class_id, side), group in predictions.ordered().table.groupby(["class_id", "side"])
    }
    values: dict[Measure, list[float]] = {"spurious_ap": [], "spurious_auc": []}
    resampled: dict[Measure, list[Resampled]] = {"spurious_ap": [], "spurious_auc": []}
    for class_id in sorted(c for c, side in sides if side == "spurious"):
        if (class_id, "validation") not in sides:
            raise DataError(f"{name} has no predictions of validation images of class {class_id}: expected some.")
        v, s = sides[class_id, "validation"], sides[class_id, "spurious"]
        counts = [draws.counts(len(x), class_id, side) for side, x in ((VALIDATION, v), (SPURIOUS, s))]
        values["spurious_ap"].append(spurious_ap(v, s))
        values["spurious_auc"].append(spurious_auc(v, s))
        resampled["spurious_ap"].append(bootstrap_ap(v, s, *counts))
        resampled["spurious_auc"].append(bootstrap_auc(v, s, *counts))
    for measure, of_classes in values.items():
        mean = draws.mean_over_classes(resampled[measure])
        yield measure, _Mean(float(np.mean(of_classes)), mean, np.mean(resampled[measure], axis=0))


def _images_hash(predictions: Predictions) -> str:
    columns = predictions.table[["side", "class_id", "concept_id", "sha256"]].fillna("")
    digest = hashlib.sha256()
    for line in sorted("\t".join(row) for row in columns.itertuples(index=False)):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
