"""The spurious gaps of a model: predictions joined with rankings, with intervals (SR section 4.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spurious_imagenet.benchmark.metrics.bootstrap import (
    bootstrap_counts,
    bootstrap_mean,
    class_rng,
    interval,
    mean_over_classes,
)
from spurious_imagenet.benchmark.metrics.gaps import accuracy_by_percentile, extremes, mean_gap, pooled_gap
from spurious_imagenet.benchmark.models.labels import LabelSpace
from spurious_imagenet.benchmark.predictions import PREDICTIONS_SCHEMA, Predictions
from spurious_imagenet.benchmark.rankings import Rankings
from spurious_imagenet.benchmark.record import ClassGap, CurvePoint, GapRecord
from spurious_imagenet.benchmark.store import FeaturePart, FeatureStore
from spurious_imagenet.errors import DataError, StoreError, UndefinedMetricError

__all__ = ["ClassExtremes", "GapSample", "gap_record", "gap_sample", "predictions_of_store"]

_HIGH, _LOW, _CLASSES = 2, 3, 4  # sides of `class_rng`
_CURVE_BINS = 10


@dataclass(frozen=True, eq=False)
class ClassExtremes:
    """One model on one class's k images of highest and k of lowest spuriosity.

    Attributes:
        class_id: The class.
        class_name: Its name.
        control: It has no spurious concept, and was ranked by those of others.
        images: Ranked images of the class.
        high: (k,) bool, whether each of the highest was classified as the class.
        low: (k,) bool, the same of the lowest.
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
        """Accuracy on the highest less that on the lowest."""
        return float(self.high.mean() - self.low.mean())

    @property
    def resampled_gap(self) -> NDArray[np.float64]:
        """(resamples,) the gap in each resample."""
        return self.resampled_high - self.resampled_low


@dataclass(frozen=True, eq=False)
class GapSample:
    """One model on the extremes of every ranked class.

    Attributes:
        classes: Classes by id, controls among them.
        refused: Class id -> its images, where there are fewer than 2k.
        ranked: The ranked images with ``correct``, by class and rank.
        seed: Of the resamples.
    """

    classes: tuple[ClassExtremes, ...]
    refused: dict[str, int]
    ranked: pd.DataFrame
    seed: int

    @property
    def measured(self) -> tuple[ClassExtremes, ...]:
        """The classes that count in means: those that are no controls."""
        return tuple(c for c in self.classes if not c.control)

    def resampled_mean(self, values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Average resampled values of the measured classes, classes resampled too, alike for every model."""
        return mean_over_classes(values, class_rng(self.seed, "", _CLASSES))


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

    Args:
        predictions: Of one model; their validation side counts. Rows are matched by class and image hash.
        rankings: One split, ranked.
        k: Images on either side of each class; 10 in SR.
        resamples: Bootstrap resamples.
        seed: Of the resamples; with the same one, models are resampled alike.
        where: Where the rankings are, for the record and for errors.

    Raises:
        DataError: A ranked image has no prediction, or the rankings are of several splits.
        UndefinedMetricError: No class that is no control has 2k images, or ``k`` is below 1.
    """
    splits = sorted(set(rankings.table["split"]))
    if len(splits) != 1:
        raise DataError(f"{where} gives ranked images of the splits {splits}: expected those of one split.")
    sample = gap_sample(predictions, rankings, k=k, resamples=resamples, seed=seed, where=where)
    measured = sample.measured
    return GapRecord(
        rankings=where,
        rankings_sha256=_rankings_hash(sample.ranked),
        split=splits[0],
        k=k,
        gap=mean_gap([c.gap for c in measured]),
        gap_interval=interval(sample.resampled_mean([c.resampled_gap for c in measured])),
        pooled_gap=pooled_gap([c.high for c in measured], [c.low for c in measured]),
        accuracy_high=float(np.mean([c.high.mean() for c in measured])),
        accuracy_low=float(np.mean([c.low.mean() for c in measured])),
        classes=tuple(map(_class_gap, sample.classes)),
        refused=sample.refused,
        curve=tuple(_curve(sample)),
    )


def gap_sample(
    predictions: Predictions, rankings: Rankings, *, k: int, resamples: int, seed: int, where: str
) -> GapSample:
    """Find every class's extremes, and how the model does on them and on resamples of them.

    Args:
        predictions: Of one model.
        rankings: One split, ranked.
        k: Images on either side.
        resamples: Bootstrap resamples.
        seed: Of the resamples.
        where: Where the rankings are, for errors.

    Raises:
        DataError: A ranked image has no prediction.
        UndefinedMetricError: No class that is no control has 2k images, or ``k`` is below 1.
    """
    ranked = _joined(predictions, rankings, where)
    found, refused = [], {}
    for class_id, images in ranked.groupby("class_id", sort=True):
        name = str(class_id)
        if len(images) < 2 * k:
            refused[name] = len(images)
            continue
        found.append(_class_extremes(name, images, k, resamples, seed))
    sample = GapSample(tuple(found), refused, ranked, seed)
    if not sample.measured:
        raise UndefinedMetricError(
            f"no class with a spurious concept has {2 * k} ranked images in {where}, as a gap between the {k} highest "
            f"and the {k} lowest needs: {len(refused)} classes have fewer."
        )
    return sample


def predictions_of_store(store: FeatureStore, labels: LabelSpace | None = None) -> Predictions:
    """Read validation-side predictions from a feature store, which keeps the five best classes of every image.

    ``probability`` is that of the image's class where it is among the five, else 0: below the fifth, not known more
    exactly. Images without a label, or with a class that the model does not know, are left out.

    Args:
        store: Features of labelled images.
        labels: The model's classes; the store's own where left out.

    Raises:
        StoreError: The store is of other classes, or has none.
        DataError: It holds no labelled image.
    """
    class_ids = store.config.class_ids
    if labels is not None and labels.class_ids != class_ids:
        raise StoreError(
            f"{store.path} has the {len(class_ids)} classes of {store.config.label_space!r}: expected the "
            f"{len(labels)} of {labels.name!r}."
        )
    if not class_ids:
        raise StoreError(f"{store.path} holds features of a bare encoder: expected a model with classes.")
    tables = [_part_predictions(part, class_ids) for part in store.parts]
    table = pa.concat_tables(tables) if tables else PREDICTIONS_SCHEMA.empty_table()
    if not len(table):
        raise DataError(f"{store.path} holds no labelled image: expected the features of labelled images.")
    return Predictions(table.to_pandas())


def _part_predictions(part: FeaturePart, class_ids: tuple[str, ...]) -> pa.Table:
    rows = part.rows(["key", "sha256", "class_id", "label", "top5_index", "top5_probability"])
    rows = rows.filter(pc.fill_null(pc.greater_equal(rows["label"], 0), False))
    count = len(rows)
    index = _flat(rows["top5_index"]).fill_null(-1).to_numpy(zero_copy_only=False).reshape(count, -1)
    probability = _flat(rows["top5_probability"]).to_numpy(zero_copy_only=False).reshape(count, -1)
    if index.shape != probability.shape or (count and not (index[:, 0] >= 0).all()):
        raise DataError(f"part {part.path.name} has labelled images without a predicted class.")
    label = rows["label"].to_numpy()
    known = index >= 0  # a model of fewer than five classes fills up with -1
    offsets = pa.array(np.concatenate([[0], known.sum(axis=1).cumsum()]).astype(np.int32))
    names = np.asarray(class_ids, dtype=object)
    columns = {
        "side": pa.array(["validation"] * count, pa.string()),
        "class_id": pa.array(names[label], pa.string()),
        "concept_id": pa.nulls(count, pa.string()),
        "name": rows["key"],
        "sha256": pa.array([h.hex() if h is not None else None for h in rows["sha256"].to_pylist()], pa.string()),
        "probability": np.where(index == label[:, None], probability, 0).sum(axis=1).astype(np.float64),
        "predicted_id": pa.array(names[index[:, 0]], pa.string()),
        "top5_id": pa.ListArray.from_arrays(offsets, pa.array(names[index[known]], pa.string())),
        "top5_probability": pa.ListArray.from_arrays(offsets, pa.array(probability[known], pa.float32())),
    }
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    flat = pc.list_flatten(lists.combine_chunks())
    return flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat


def _joined(predictions: Predictions, rankings: Rankings, where: str) -> pd.DataFrame:
    keys = ["class_id", "sha256"]
    results = predictions.of("validation")[[*keys, "predicted_id"]].drop_duplicates(keys)
    results = results.assign(correct=results["predicted_id"] == results["class_id"]).drop(columns="predicted_id")
    columns = [*keys, "class_name", "control", "rank", "percentile"]
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
    correct = images["correct"].to_numpy()
    high, low = extremes(images["rank"], images["sha256"].to_numpy(str), k, f"class {class_id}")
    resampled = [
        bootstrap_mean(correct[chosen], bootstrap_counts(k, resamples, class_rng(seed, class_id, side)))
        for chosen, side in ((high, _HIGH), (low, _LOW))
    ]
    return ClassExtremes(
        class_id,
        str(images["class_name"].iloc[0]),
        bool(images["control"].any()),
        len(images),
        correct[high],
        correct[low],
        *resampled,
    )


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
    for row in ranked[["class_id", "sha256", "rank"]].itertuples(index=False):
        digest.update(f"{row[0]}\t{row[1]}\t{row[2]}\n".encode())
    return digest.hexdigest()
