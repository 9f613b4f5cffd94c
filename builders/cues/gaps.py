"""Which cues a model leans on: the spurious gap along each single cue (SR appendix G)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from spurious_imagenet.benchmark.evaluation.gaps import ClassExtremes, gap_sample
from spurious_imagenet.benchmark.metrics.intervals import interval
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.builders.rankings.images import SplitImages
from spurious_imagenet.builders.rankings.ranking import rank_class
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import Rankings, RankingsInfo
from spurious_imagenet.errors import DataError, UndefinedMetricError
from spurious_imagenet.features.store import FeatureStore

__all__ = ["CueGap", "cue_gaps", "with_gaps"]

_SPLIT = "val"


class CueGap(NamedTuple):
    """How much models lean on one cue.

    Attributes:
        concept_id: The bank's row.
        class_id: Its class.
        name: The cue's text.
        gap: Accuracy on the k images of the class that show the cue most less that on the k that show it least, the
            mean over the models; above 0 the models lean on it.
        interval: Of the mean, images resampled.
        models: Model -> its gap.
        has_gap: The interval lies above 0. The cue may be dropped where it does not.
    """

    concept_id: str
    class_id: str
    name: str
    gap: float
    interval: Interval
    models: dict[str, float]
    has_gap: bool


def cue_gaps(
    bank: ConceptBank,
    stores: Sequence[FeatureStore],
    predictions: Mapping[str, Predictions],
    *,
    k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> list[CueGap]:
    """Measure the gap of models along each concept of a bank.

    Args:
        bank: Concepts, each of one class.
        stores: Features of labelled images that were not trained on, by the bank's model.
        predictions: Model -> what it says of these images.
        k: Images on either side.
        resamples: Bootstrap resamples.
        seed: Of the resamples; images are resampled alike for every model.

    Returns:
        One measurement per concept whose class has 2k images, in the bank's order.

    Raises:
        StoreError: Another model, or other preprocessing, made the features.
        DataError: A model lacks an image, or no class has images.
        UndefinedMetricError: No class has 2k images.
    """
    for store in stores:
        bank.check_features(store.config.weights_sha256, store.config.sha256, str(store.path))
    images = SplitImages(stores)
    found: dict[int, CueGap] = {}
    most = 0
    for rows, ranked in _rounds(bank, images):
        here = int(ranked.table["of"].max())
        most = max(most, here)
        if here < 2 * k:
            continue
        samples = {
            model: {
                c.class_id: c for c in gap_sample(p, ranked, k=k, resamples=resamples, seed=seed, where=model).classes
            }
            for model, p in predictions.items()
        }
        for class_id, row in rows.items():
            by_model = {model: sample[class_id] for model, sample in samples.items() if class_id in sample}
            if by_model:
                found[row] = _cue_gap(bank, row, by_model)
    if not most:
        first = bank.table["class_id"].iloc[0]
        raise DataError(f"none of the bank's classes has an image: expected images of {first} and others.")
    if not found:
        raise UndefinedMetricError(f"no class of the bank has {2 * k} images for a gap of {k}: the most is {most}.")
    return [found[row] for row in sorted(found)]


def _rounds(bank: ConceptBank, images: SplitImages) -> Iterator[tuple[dict[str, int], Rankings]]:
    """Rank every class by its first concept, then by its second, and so on: yield the rows, and the ranks."""
    present = set(images.class_ids)
    number = bank.table.groupby("class_id").cumcount().to_numpy()
    for turn in range(int(number.max()) + 1):
        rows = {
            str(bank.table["class_id"].iloc[row]): int(row)
            for row in np.flatnonzero(number == turn)
            if bank.table["class_id"].iloc[row] in present
        }
        if not rows:
            continue
        tables = [
            rank_class(of_class, bank.select([rows[class_id]])).table.assign(
                class_id=class_id, class_name=bank.table["class_name"].iloc[rows[class_id]], split=_SPLIT, control=False
            )
            for class_id, of_class in zip(sorted(rows), images.of_classes(sorted(rows)), strict=True)
        ]
        info = RankingsInfo(
            model=bank.info.model,
            weights_sha256=bank.info.weights_sha256,
            feature_config_sha256=bank.info.feature_config_sha256,
            concepts={c: (str(bank.table["concept_id"].iloc[row]),) for c, row in rows.items()},
        )
        yield rows, Rankings(pd.concat(tables, ignore_index=True), info)


def _cue_gap(bank: ConceptBank, row: int, models: Mapping[str, ClassExtremes]) -> CueGap:
    spread = interval(np.mean([m.resampled_gap for m in models.values()], axis=0))
    concept = bank.table.iloc[row]
    return CueGap(
        concept_id=str(concept["concept_id"]),
        class_id=str(concept["class_id"]),
        name=str(concept["name"]),
        gap=float(np.mean([m.gap for m in models.values()])),
        interval=spread,
        models={name: m.gap for name, m in models.items()},
        has_gap=spread.low > 0,
    )


def with_gaps(bank: ConceptBank, gaps: Sequence[CueGap]) -> ConceptBank:
    """Write gaps onto the bank: the columns ``gap``, ``gap_low``, ``gap_high`` and ``has_gap``, null without one."""
    by_id = {g.concept_id: g for g in gaps}
    of_row = [by_id.get(concept) for concept in bank.table["concept_id"]]
    table = bank.table.assign(
        gap=pd.array([None if g is None else g.gap for g in of_row], dtype="Float64"),
        gap_low=pd.array([None if g is None else g.interval.low for g in of_row], dtype="Float64"),
        gap_high=pd.array([None if g is None else g.interval.high for g in of_row], dtype="Float64"),
        has_gap=pd.array([None if g is None else g.has_gap for g in of_row], dtype="boolean"),
    )
    return ConceptBank(bank.directions, bank.offsets, table, bank.info)
