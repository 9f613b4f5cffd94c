"""What a tuning was asked for, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from spurious_imagenet.benchmark.metrics.values import CurvePoint, Interval
from spurious_imagenet.records import Record

__all__ = [
    "AccuracyChange",
    "Check",
    "Estimate",
    "Method",
    "MethodRecord",
    "SeedRecord",
    "StoppedBy",
    "TuningConfig",
    "TuningRecord",
]

Method = Literal["low", "random", "errors"]
StoppedBy = Literal["gap", "accuracy", "steps"]


class TuningConfig(Record):
    """How to tune a head (SR section 4.3 and appendix F)."""

    method: Method = "low"
    """Which images of each class with a spurious concept: those of lowest spuriosity, random ones, or errors."""
    per_class: PositiveInt = 100
    recipe: Literal["replay", "published"] = "replay"
    """``published``: only images of classes with a spurious concept, until the gap is closed or the steps are over.
    ``replay``: as many random images of every other class too, and no further than ``accuracy_loss`` allows."""
    seeds: PositiveInt = 3
    """Runs of a method with each of the two halves of the validation images to stop them."""
    stop_gap: float = Field(default=0.05, gt=-1, lt=1)
    """Stop once the gap on the half that stops the tuning is below it."""
    accuracy_loss: float = Field(default=0.015, ge=0, le=1)
    """Accuracy that the recipe ``replay`` may cost, on the half that stops the tuning."""
    k: PositiveInt | None = None
    """Images on either side of a class's gap within a half; None: 10, or 5 to 9 where the smallest half has fewer."""
    stop_on_reported: bool = False
    """Stop on all validation images and report on the same ones, as the papers' code does: the result flatters."""
    short_classes: Literal["use", "refuse"] = "use"
    """What to do where a class has fewer ranked training images than ``per_class``."""
    step_size: float = Field(default=2.0, gt=0)
    """Most that one step changes a logit of an average image: Adam's learning rate times the mean of ``sum |φ|``."""
    batch_size: PositiveInt = 128
    max_steps: PositiveInt = 1500
    check_every: PositiveInt = 10
    """Steps between two looks at the half that stops the tuning."""
    baselines: bool = False
    """Also tune by the other two methods."""
    baseline_steps: Literal["same", "limit"] = "same"
    """``same``: a baseline gets as many steps as the method took with the same seed and half, so that only the images
    differ; ``limit``: it goes on until its own gap is closed or the steps are over."""
    resamples: int = Field(default=1000, ge=2)

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods that are run, the one whose head is kept first."""
        every: tuple[Method, ...] = ("low", "random", "errors")
        return (self.method, *(m for m in every if self.baselines and m != self.method))


class Check(Record):
    """One look at the half that stops the tuning."""

    step: int
    gap: float
    accuracy: float


class Estimate(Record):
    """A value, and its interval over resampled images and classes; over seeds it is their mean."""

    value: float
    interval: Interval


class AccuracyChange(Record):
    """A value before and after tuning, on the same images."""

    before: Estimate
    after: Estimate
    difference: Estimate
    """After minus before, resampled alike."""


class SeedRecord(Record):
    """One run of one method."""

    seed: int
    half: int = 0
    """Which half of the validation images stopped it; it is reported on the other."""
    steps: int
    """Steps of the head that was kept."""
    epochs: float
    """The same as passes over the images."""
    stopped_by: StoppedBy
    """``gap``: it was closed; ``accuracy``: later steps cost too much of it; ``steps``: there were no more."""
    stopping_gap: float
    reported_gap: float
    stopping_accuracy: float
    reported_accuracy: float
    checks: tuple[Check, ...]


class MethodRecord(Record):
    """One way to choose the images, over all seeds.

    Each image is reported on by the runs that the other half stopped, so all images count and none stopped what it
    measures.
    """

    method: Method
    images: int
    """Images that were tuned on, replayed ones included."""
    gap: AccuracyChange
    """Of all images, each in the runs that it did not stop; classes count the same."""
    stopping_gap: AccuracyChange
    """Of each image in the runs that it stopped."""
    accuracy: AccuracyChange
    """On all images, those of classes without a spurious concept included."""
    tuned_accuracy: AccuracyChange
    """The same of the classes with a spurious concept alone."""
    other_accuracy: AccuracyChange | None
    """The same of the other classes; None where there are none."""
    whole_accuracy: AccuracyChange | None = None
    """On all images, any class of the model allowed; None where the stores have images of every class anyway, and in
    records of older versions."""
    closed: float | None
    """Share of the gap that is closed; None where there was no gap to close."""
    closed_interval: Interval | None
    """None where the gap before tuning may as well be 0 or below."""
    curve: tuple[CurvePoint, ...]
    """Accuracy against spuriosity percentile, after tuning."""
    seeds: tuple[SeedRecord, ...]


class TuningRecord(Record):
    """A tuning; ``tuning.json``."""

    schema_version: Literal[1] = 1
    code_version: str
    model: str
    weights_sha256: str
    label_space: str
    features: str
    val_features: str
    rankings: str
    config: TuningConfig
    k: int
    learning_rate: float
    """Adam's, from ``step_size``."""
    halves: str
    """How the validation images were split, and what each half is for."""
    tuned_classes: int
    replayed_classes: int
    present_classes: int | None = None
    """Classes that the stores have images of. Heads are tuned and measured among these alone, before and after alike;
    None in records of older versions, which measured among all of the model's."""
    model_classes: int | None = None
    """Classes of the model."""
    gap_classes: tuple[str, ...]
    """Ids of the classes over which gaps are means."""
    refused: dict[str, int] = {}
    """Class name -> ranked images in the smaller half, where there are fewer than 2k."""
    short_classes: dict[str, int] = {}
    """Class id -> ranked training images, where there are fewer than asked for; all of them were used."""
    stopping_images: int
    """Images in the half that stops the first run."""
    reported_images: int
    """Images that count in what is reported."""
    shared_images: int
    """Validation images in neither half, because they lie in two classes."""
    excluded_training_images: int
    """Training images that were not used, because the validation images hold them too."""
    curve_before: tuple[CurvePoint, ...]
    methods: tuple[MethodRecord, ...]
    head: str
    """Which head was kept."""
    head_sha256: str

    @classmethod
    def load(cls, path: str | Path) -> TuningRecord:
        """Read a record.

        Raises:
            DataError: The file is not a record of this schema.
        """
        return cls.read(path, "a tuning record")
