"""From what a model said of each image to drops, their intervals and the agreement of models (SR appendix B)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from spurious_imagenet.benchmark.metrics.bootstrap import (
    bootstrap_counts,
    bootstrap_mean,
    class_rng,
    mean_over_classes,
)
from spurious_imagenet.benchmark.metrics.intervals import interval
from spurious_imagenet.builders.sensitivity._masks import concept_roles
from spurious_imagenet.builders.sensitivity.corruptions import CORRUPTIONS
from spurious_imagenet.builders.sensitivity.record import ConceptDrop, MaskAgreement, ModelSensitivity, RoleDrop
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import UndefinedMetricError

_ROLES = ("spurious", "core", "unclear", "unjudged")


@dataclass(frozen=True, eq=False)
class _Resampled:
    """A drop, and its value in each resample of the images."""

    drop: ConceptDrop
    values: NDArray[np.float32]


def summarise(
    files: Iterable[Path], bank: ConceptBank, *, model: str, name: str, weights_sha256: str, seed: int, resamples: int
) -> ModelSensitivity:
    """Summarise one model's measurements.

    Resamples depend on the seed and the concept alone, so they are the same for every corruption and model.

    Args:
        files: Tables of ``DROP_SCHEMA``, one a class; read one after the other.
        bank: Names the concepts, and says which are spurious and which core.
        model: The model's spec.
        name: A short name for it.
        weights_sha256: Hash of its weights.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    about = bank.table.set_index("concept_id")[["class_id", "class_name"]].to_dict("index")
    roles = concept_roles(bank)
    found = [
        drop
        for file in files
        for concept_id, rows in pq.read_table(file).to_pandas().groupby("concept_id", sort=True)
        for drop in _drops(str(concept_id), about[concept_id], roles[str(concept_id)], rows, seed, resamples)
    ]
    return ModelSensitivity(
        model=model,
        name=name,
        weights_sha256=weights_sha256,
        means=tuple(_means(found, seed)),
        concepts=tuple(f.drop for f in found),
    )


def _drops(
    concept_id: str, about: dict[Any, Any], role: str, rows: pd.DataFrame, seed: int, resamples: int
) -> Iterator[_Resampled]:
    counts = bootstrap_counts(len(rows), resamples, class_rng(seed, concept_id, 0))
    clean = rows["correct_clean"].to_numpy(dtype=np.float64)
    for corruption in CORRUPTIONS:
        corrupted = rows[f"correct_{corruption}"].to_numpy(dtype=np.float64)
        values = bootstrap_mean(clean - corrupted, counts)
        fall = rows["probability_clean"].mean() - rows[f"probability_{corruption}"].mean()
        drop = ConceptDrop(
            concept_id=concept_id,
            class_id=about["class_id"],
            class_name=about["class_name"],
            role=role,
            corruption=corruption,
            images=len(rows),
            core_removed=int(rows["core_removed"].sum()),
            covered=float(rows["covered"].mean()),
            accuracy=float(clean.mean()),
            corrupted_accuracy=float(corrupted.mean()),
            drop=float((clean - corrupted).mean()),
            interval=interval(values),
            probability_drop=float(fall),
        )
        yield _Resampled(drop, values.astype(np.float32))


def _means(found: list[_Resampled], seed: int) -> Iterator[RoleDrop]:
    for role in _ROLES:
        for corruption in CORRUPTIONS:
            own = [f for f in found if f.drop.role == role and f.drop.corruption == corruption]
            if own:
                yield RoleDrop(
                    role=role,
                    corruption=corruption,
                    concepts=len(own),
                    covered=float(np.mean([f.drop.covered for f in own])),
                    drop=float(np.mean([f.drop.drop for f in own])),
                    interval=interval(mean_over_classes(np.stack([f.values for f in own]), class_rng(seed, role, 1))),
                    probability_drop=float(np.mean([f.drop.probability_drop for f in own])),
                )


def correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Return Pearson's r, in [-1, 1], between two models' drops of the same concepts.

    Raises:
        UndefinedMetricError: There are fewer than three concepts, or one model drops alike for all.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 3:
        raise UndefinedMetricError(f"a correlation of {a.shape} with {b.shape} drops: expected as many, at least 3.")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise UndefinedMetricError("a correlation with drops that are all alike has no value.")
    return float(np.corrcoef(a, b)[0, 1])


def agreements(models: Iterable[ModelSensitivity]) -> list[MaskAgreement]:
    """Compare what each two models are sensitive to, for each corruption and over all (SR Fig. 11)."""
    return [_agreement(a, b, corruption) for a, b in combinations(models, 2) for corruption in ("all", *CORRUPTIONS)]


def _agreement(a: ModelSensitivity, b: ModelSensitivity, corruption: Any) -> MaskAgreement:
    drops = [
        {(d.concept_id, d.corruption): d.drop for d in model.concepts if corruption in ("all", d.corruption)}
        for model in (a, b)
    ]
    shared = [key for key in drops[0] if key in drops[1]]
    r, reason = None, None
    try:
        r = correlation([drops[0][key] for key in shared], [drops[1][key] for key in shared])
    except UndefinedMetricError as error:
        reason = str(error)
    return MaskAgreement(
        first=a.name,
        second=b.name,
        corruption=corruption,
        concepts=len({concept for concept, _ in shared}),
        r=r,
        undefined=reason,
    )
