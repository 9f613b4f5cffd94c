"""Score: what an entry's predictions come to on one version of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.benchmark.evaluation.values import ClassRecord, GapRecord, Means
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.datasets.manifest import Sha256, VersionName
from spurious_imagenet.records import Record

__all__ = ["LeftOutModels", "Relation", "Score", "ScoredEntry"]


class Relation(Record):
    """An entry is related to a model that chose the images."""

    miner: str
    by: Literal["weights", "architecture", "architecture family"]


class LeftOutModels(Record):
    """The score on the images that would be in the dataset had some miners had no vote."""

    miners: tuple[str, ...]
    spurious_images: int
    classes: int
    """Classes that keep spurious images; the means are over them."""
    spurious_ap: float | None
    """None where no class keeps an image."""
    spurious_auc: float | None


class Score(Record):
    """What one entry's predictions come to; everything is computed from them, nothing is taken from the submitter."""

    schema_version: Literal[1] = 1
    entry: Sha256
    version: VersionName
    code_version: str
    classes: tuple[ClassRecord, ...]
    concepts: tuple[ClassRecord, ...]
    mean: Means
    mean_intervals: dict[str, Interval]
    worst_classes_auc: float
    """Mean spurious AUC of the tenth of the classes (at least one) where it is lowest."""
    worst_classes: tuple[str, ...]
    """Their ids, the worst first."""
    accuracy: float
    accuracy_interval: Interval
    accuracy_images: int
    gaps: GapRecord | None = None
    related: tuple[Relation, ...] = ()
    without_each_miner: tuple[LeftOutModels, ...] = ()
    without_related: LeftOutModels | None = None
    """Without all selection models that the entry is related to; None if there are none."""


@dataclass(frozen=True, eq=False)
class ScoredEntry:
    """A score, and the resamples by which it is compared with others.

    Attributes:
        score: The score.
        resampled: Measure -> (R,) float32 means, images and classes resampled alike for every entry of a version.
            ``spurious_ap``, ``spurious_auc`` and ``accuracy``; with gaps also ``spurious_gap``, ``accuracy_high`` and
            ``accuracy_low``.
    """

    score: Score
    resampled: dict[str, NDArray[np.float32]]
