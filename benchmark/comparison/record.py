"""ModelComparison: what came out when models were compared on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from spurious_imagenet.benchmark.evaluation.record import GapRecord
from spurious_imagenet.benchmark.metrics.intervals import PairedDifference
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.records import Record

__all__ = ["ClassMeanGap", "Measure", "ModelComparison", "ModelDifference", "Robustness"]

Measure = Literal["spurious_ap", "spurious_auc", "spurious_gap"]


class Robustness(Record):
    """Effective robustness of one model (SR appendix D)."""

    model: str
    accuracy_high: float
    accuracy_low: float
    effective_robustness: float
    """How far ``accuracy_low`` is above the line over all models; higher is better."""
    interval: Interval | None
    """Images and classes resampled; None where a resample gives all models the same ``accuracy_high``."""


class ClassMeanGap(Record):
    """The spurious gap of one class, averaged over models: what the data does to all of them."""

    class_id: str
    class_name: str
    control: bool
    gap: float
    interval: Interval
    """Images resampled, the models as they are."""


class ModelDifference(PairedDifference):
    """The difference of one measure's mean over classes between two models.

    ``interval`` and what follows from it speak of other classes too, as images and classes are resampled.
    """

    measure: Measure
    first: str
    second: str
    interval_of_these_classes: Interval
    """Images resampled alone: it speaks of the classes that were measured, and of no others."""


class ModelComparison(Record):
    """Models compared on the same images."""

    schema_version: Literal[1] = 1
    models: tuple[str, ...]
    gaps: dict[str, GapRecord] = {}
    """Model -> its gaps; empty where there are no rankings."""
    effective_robustness: tuple[Robustness, ...] = ()
    robustness_slope: float | None = None
    robustness_intercept: float | None = None
    gap_correlations: tuple[tuple[float | None, ...], ...] = ()
    """Pearson's r of the class-wise gaps of models i and j, controls left out; None where it is undefined."""
    mean_gap_correlation: float | None = None
    """Mean over pairs of models; 0.69 in SR."""
    class_variance: float | None = None
    """Sample variance over classes of the gap averaged over models; the chance of which k images there are is in it."""
    model_variance: float | None = None
    """Sample variance over models of the gap averaged over classes."""
    variance_ratio: float | None = None
    """``class_variance / model_variance``; 3.1 in SR: the data decides more than the model."""
    class_gaps: tuple[ClassMeanGap, ...] = ()
    differences: tuple[ModelDifference, ...] = ()
    undefined: dict[str, str] = {}
    """What has no value for these models -> why."""

    def save(self, path: str | Path) -> None:
        """Write the comparison as JSON, whole or not at all."""
        self.write(path)

    @classmethod
    def load(cls, path: str | Path) -> ModelComparison:
        """Read a comparison.

        Raises:
            DataError: The file is not a comparison of this schema.
        """
        return cls.read(path, "a comparison of models")
