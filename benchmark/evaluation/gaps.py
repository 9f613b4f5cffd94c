"""The spurious gaps of a model: predictions joined with rankings, with intervals (SR section 4.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.evaluation.values import ClassGap, GapRecord
from spurious_imagenet.benchmark.metrics.bootstrap import bootstrap_counts, bootstrap_mean, class_rng, mean_over_classes
from spurious_imagenet.benchmark.metrics.gaps import accuracy_by_percentile, mean_gap, pooled_gap, top_and_bottom_k
from spurious_imagenet.benchmark.metrics.intervals import interval
from spurious_imagenet.benchmark.metrics.values import CurvePoint
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.datasets.stored_predictions import predictions_of_store
from spurious_imagenet.errors import DataError, UndefinedMetricError

__all__ = ["ClassExtremes", "GapSample", "gap_record", "gap_sample", "predictions_of_store"]

_HIGH, _LOW, _CLASSES, _CONCEPTS = 2, 3, 4, 5  # sides of `class_rng`
_CURVE_BINS = 10


@dataclass(frozen=True, eq=False)
class ClassExtremes:
    """One model on one class's k images of highest and k of lowest spuriosity.

    Attributes:
        class_id: The class.
        class_name: Its name.
        control: It has no spurious concept, and was ranked by those of others.
        images: Ranked images of the class.
        high: (k,) bool, whether each of the highest was classified as the class. (concepts, k) of a control: the
            highest by each concept alone.
        low: The same of the lowest.
        resampled_high: (resamples,) float64 accuracy on resamples of the highest, the same images for every model.
        resampled_low: (resamples,) float64, the same of the lowest.
    """

    class_id: str
    class_name: str
    control: bool
    images: int
    high: NDArray[np.bool_]
    low: NDArray[np.bool_]
    resampled_high: NDArray[np.float64]
    resampled_low: NDArray[np.float64]

    @property
    def gap(self) -> float:
        """Accuracy on the highest less that on the lowest, of a control the mean over concepts."""
        return float(self.high.mean() - self.low.mean())

    @property
    def resampled_gap(self) -> NDArray[np.float64]:
        """(resamples,) the gap in each resample."""
        return self.resampled_high - self.resampled_low


@dataclass(frozen=True, eq=False)
class GapSample:
    """One model on the top and bottom k of every ranked class.

    Attributes:
        classes: Classes by id, controls among them.
        refused: Class id -> its images, where there are fewer than 2k.
        ranked: The ranked images with ``correct``, by class and rank.
        k: Images on either side of each class.
        seed: Of the resamples.
        where: Where the rankings are.
    """

    classes: tuple[ClassExtremes, ...]
    refused: dict[str, int]
    ranked: pd.DataFrame
    k: int
    seed: int
    where: str

    @property
    def measured(self) -> tuple[ClassExtremes, ...]:
        """The classes that count in means: those that are not controls."""
        return tuple(c for c in self.classes if not c.control)

    def resampled_mean(self, values: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Average resampled values of the measured classes, classes resampled too, alike for every model."""
        return mean_over_classes(list(values), class_rng(self.seed, "", _CLASSES))

    def record(self) -> GapRecord:
        """Say what was measured."""
        measured = self.measured
        return GapRecord(
            rankings=self.where,
            rankings_sha256=_rankings_hash(self.ranked),
            split=str(self.ranked["split"].iloc[0]),
            k=self.k,
            gap=mean_gap([c.gap for c in measured]),
            gap_interval=interval(self.resampled_mean(c.resampled_gap for c in measured)),
            pooled_gap=pooled_gap([c.high for c in measured], [c.low for c in measured]),
            accuracy_high=float(np.mean([c.high.mean() for c in measured])),
            accuracy_low=float(np.mean([c.low.mean() for c in measured])),
            classes=tuple(map(_class_gap, self.classes)),
            refused=self.refused,
            curve=tuple(_curve(self)),
        )


def gap_record(
    predictions: Predictions,
    rankings: Rankings,
    *,
    k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
    where: str,
) -> GapRecord:
    """Measure how much accuracy drops from the k images of highest to the k of lowest spuriosity.

    Classes of fewer than 2k images are refused by name. Controls get gaps of their own and count in no mean: each the
    mean of its gaps by single concepts of other classes, with an interval over resampled concepts and images. By their
    mean score alone, as in rankings without these scores, a control is one draw whose error no interval shows.

    Args:
        predictions: Of one model; their validation side counts. Rows are matched by class and image hash.
        rankings: One split, ranked.
        k: Images on either side of each class; 10 in SR.
        resamples: Bootstrap resamples.
        seed: Of the resamples; with the same one, models are resampled alike.
        where: Where the rankings are, for the record and for errors.

    Raises:
        DataError: A ranked image has no prediction, or the rankings are of several splits.
        UndefinedMetricError: No class that is not a control has 2k images, or ``k`` is below 1.
    """
    return gap_sample(predictions, rankings, k=k, resamples=resamples, seed=seed, where=where).record()


def gap_sample(
    predictions: Predictions, rankings: Rankings, *, k: int, resamples: int, seed: int, where: str
) -> GapSample:
    """Find every class's top_and_bottom_k, and how the model does on them and on resamples of them.

    Arguments and errors are those of :func:`gap_record`.
    """
    ranked = _joined(predictions, rankings, where)
    found, refused = [], {}
    for class_id, images in ranked.groupby("class_id", sort=True):
        name = str(class_id)
        if len(images) < 2 * k:
            refused[name] = len(images)
            continue
        found.append(_class_extremes(name, images, k, resamples, seed))
    sample = GapSample(tuple(found), refused, ranked, k, seed, where)
    if not sample.measured:
        raise UndefinedMetricError(
            f"no class with a spurious concept has {2 * k} ranked images in {where}, as a gap between the {k} highest "
            f"and the {k} lowest needs: {len(refused)} classes have fewer."
        )
    return sample


def _joined(predictions: Predictions, rankings: Rankings, where: str) -> pd.DataFrame:
    splits = sorted(set(rankings.table["split"]))
    if len(splits) != 1:
        raise DataError(f"{where} gives ranked images of the splits {splits}: expected those of one split.")
    keys = ["class_id", "sha256"]
    results = predictions.of("validation")[[*keys, "predicted_id"]].drop_duplicates(keys)
    results = results.assign(correct=results["predicted_id"] == results["class_id"]).drop(columns="predicted_id")
    columns = ["split", *keys, "class_name", "control", "rank", "percentile", "concept_scores"]
    ranked = rankings.table[columns].merge(results, how="left", on=keys, validate="many_to_one")
    missing = ranked["correct"].isna()
    if missing.any():
        first = ranked[missing].iloc[0]
        raise DataError(
            f"{int(missing.sum())} of {len(ranked)} images ranked in {where} have no prediction, the first of class "
            f"{first['class_id']} with SHA-256 {str(first['sha256'])[:12]}: expected predictions of the same images."
        )
    ranked = ranked.astype({"correct": bool, "control": bool})
    return ranked.sort_values(["class_id", "rank", "sha256"], ignore_index=True)


def _class_extremes(class_id: str, images: pd.DataFrame, k: int, resamples: int, seed: int) -> ClassExtremes:
    correct, hashes = images["correct"].to_numpy(), images["sha256"].to_numpy(str)
    control = bool(images["control"].any())
    alone = _single_scores(images, class_id) if control else None
    orders = images["rank"].to_numpy()[None] if alone is None else alone
    ends = [top_and_bottom_k(order, hashes, k, f"class {class_id}") for order in orders]
    high, low = (np.stack([correct[side] for side in sides]) for sides in zip(*ends, strict=True))
    resampled = [_resampled(right, resamples, seed, class_id, side) for right, side in ((high, _HIGH), (low, _LOW))]
    if alone is None:
        high, low = high[0], low[0]
    return ClassExtremes(class_id, str(images["class_name"].iloc[0]), control, len(images), high, low, *resampled)


def _single_scores(images: pd.DataFrame, class_id: str) -> NDArray[np.float64] | None:
    """Return (concepts, images) scores by each of which a control is ranked alone; None in rankings without them."""
    counts = {0 if scores is None else len(scores) for scores in images["concept_scores"]}
    if len(counts) > 1:
        raise DataError(
            f"images of control class {class_id} have scores of {sorted(counts)} concepts: expected as many."
        )
    return np.stack(list(images["concept_scores"]), axis=1) if counts != {0} else None


def _resampled(right: NDArray[np.bool_], resamples: int, seed: int, class_id: str, side: int) -> NDArray[np.float64]:
    """Accuracy on resamples of one side: images resampled within each concept's k, and the concepts where several."""
    rng = class_rng(seed, class_id, side)
    of_concepts = [bootstrap_mean(row, bootstrap_counts(len(row), resamples, rng)) for row in right]
    if len(of_concepts) == 1:
        return of_concepts[0]
    # The same concepts for both sides and for every model: what a concept finds is in both of its ends.
    return mean_over_classes(of_concepts, class_rng(seed, class_id, _CONCEPTS))


def _class_gap(c: ClassExtremes) -> ClassGap:
    return ClassGap(
        class_id=c.class_id,
        class_name=c.class_name,
        control=c.control,
        images=c.images,
        accuracy_high=float(c.high.mean()),
        accuracy_low=float(c.low.mean()),
        gap=c.gap,
        interval=interval(c.resampled_gap),
    )


def _curve(sample: GapSample) -> Iterator[CurvePoint]:
    """Yield the curve over the classes that are neither controls nor refused; images are resampled in each range."""
    counted = sample.ranked[sample.ranked["class_id"].isin([c.class_id for c in sample.measured])]
    resamples = len(sample.measured[0].resampled_high)
    bins = accuracy_by_percentile(counted["correct"], counted["percentile"], _CURVE_BINS)
    for place, point in enumerate(bins):
        # The accuracy of resampled images is binomial: drawn as such, whatever the number of images.
        hits = class_rng(sample.seed, "", 16 + place).binomial(point.images, point.accuracy, resamples)
        yield CurvePoint(**point._asdict(), interval=interval(hits / point.images))


def _rankings_hash(ranked: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    for row in ranked[["class_id", "sha256", "rank", "control", "concept_scores"]].itertuples(index=False):
        digest.update(f"{row[0]}\t{row[1]}\t{row[2]}\n".encode())
        if row[3] and row[4] is not None:
            digest.update(np.asarray(row[4], "<f8").tobytes())
    return digest.hexdigest()
