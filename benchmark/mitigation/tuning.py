"""Low-spuriosity tuning: a head tuned on the images that lack spurious cues (SR section 4.3 and appendix F)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.benchmark.devices import pick_device
from spurious_imagenet.benchmark.mitigation.tuning_data import (
    LEFT_OUT,
    REPORTED,
    STOPPING,
    Ends,
    TrainingImages,
    ValidationImages,
    class_ends,
    resolve_k,
)
from spurious_imagenet.benchmark.mitigation.tuning_fit import (
    StoppingSet,
    TunedHead,
    correct_by,
    gap_of,
    learning_rate,
    tune_head,
)
from spurious_imagenet.benchmark.mitigation.tuning_record import (
    Method,
    MethodRecord,
    SeedRecord,
    TuningConfig,
    TuningRecord,
)
from spurious_imagenet.benchmark.mitigation.tuning_stats import (
    accuracy_change,
    closed_share,
    gap_change,
    rank_curve,
)
from spurious_imagenet.benchmark.models.classifier import Classifier
from spurious_imagenet.benchmark.models.head import LinearHead
from spurious_imagenet.benchmark.models.head_file import HeadFileInfo, read_head, save_head
from spurious_imagenet.benchmark.models.spec import ModelSpec
from spurious_imagenet.benchmark.rankings import Rankings
from spurious_imagenet.benchmark.record import CurvePoint
from spurious_imagenet.benchmark.store import FeatureStore
from spurious_imagenet.benchmark.training import Indices, check_store
from spurious_imagenet.errors import DataError, ModelError, StoreError
from spurious_imagenet.io import atomic_directory, canonical_json, sha256_file

__all__ = ["Progress", "Tuning", "tune", "write_tuning"]

#: Called with the method, the seed and how many runs are done of how many.
Progress = Callable[[Method, int, int, int], None]

_SPLIT = (
    "the distinct SHA-256 hashes of each class in ascending order: the first half stops the tuning, the rest is "
    "reported on; images of two classes are in neither"
)
_NO_SPLIT = "all validation images stop the tuning and are reported on: the result flatters"


class Tuning:
    """A model's head, the images to tune it on and those to measure it on.

    Args:
        classifier: The model whose head is tuned.
        features: Store of its training images.
        val_features: Store of its validation images.
        rankings: Ranked training and validation images.
        where: Where the rankings are, for the record and for errors.
        config: How to tune.
        device: Where to compute.

    Raises:
        ModelError: The model has no linear head.
        StoreError: A store holds features of another model, or the two were made differently.
        DataError: A ranked image is in no store, or a class has too few images and these are to be refused.
        UndefinedMetricError: No class has enough validation images for a gap.
    """

    def __init__(
        self,
        classifier: Classifier,
        features: FeatureStore,
        val_features: FeatureStore,
        rankings: tuple[Rankings, Rankings],
        where: str,
        config: TuningConfig,
        device: str = "auto",
    ) -> None:
        self.classifier, self.config, self.where = classifier, config, where
        self.stores = (features, val_features)
        self.device = pick_device(device)
        self.head = _checked_head(classifier, features, val_features)
        hashes = (h for part in val_features.parts for h in part.rows(["sha256"]).column("sha256").to_pylist())
        self.train = TrainingImages(features, rankings[0], where, (h.hex() for h in hashes if h is not None))
        self.val = ValidationImages(val_features, rankings[1], where, self.train.classes)
        self.short = self._short_classes()
        self.halves = (None, None) if config.stop_on_reported else (STOPPING, REPORTED)
        self.k = resolve_k(self.val, config.k)
        self.ends, self.refused = class_ends(self.val, self.halves, self.k)
        self.val_features = self.val.features_of(np.arange(len(self.val.label)))
        self.stopping = self._stopping_set()
        rows, _ = self._choose("low", 0)
        # One rate for all methods, of the images that they all may see.
        self.rate = learning_rate(self.train.features_of(rows), config.step_size)

    @property
    def class_ids(self) -> tuple[str, ...]:
        """Ids of the model's classes."""
        return self.classifier.labels.class_ids

    def run(self, method: Method, seed: int, steps: int | None = None) -> TunedHead:
        """Tune by one method with one seed, for so many steps at most where they are given."""
        rows, label = self._choose(method, seed)
        features = self.train.features_of(rows)
        config = self.config if steps is None else self.config.model_copy(update={"max_steps": steps})
        return tune_head(
            self.head, features, label, self.stopping, config, rate=self.rate, seed=seed, device=self.device
        )

    def correct(self, head: LinearHead) -> NDArray[np.bool_]:
        """Return (N,) whether a head is right on each validation image."""
        return correct_by(head, self.val_features, self.val.label, self.device)

    def images(self, method: Method) -> int:
        """Return how many images a method tunes on."""
        return len(self._choose(method, 0)[0])

    def _choose(self, method: Method, seed: int) -> tuple[Indices, NDArray[np.int64]]:
        replay = self.config.per_class if self.config.recipe == "replay" else 0
        return self.train.choose(method, self.config.per_class, replay, seed)

    def _short_classes(self) -> dict[str, int]:
        wanted = self.config.per_class
        short = {self.class_ids[label]: n for label, n in self.train.classes.items() if n < wanted}
        if short and self.config.short_classes == "refuse":
            class_id, count = next(iter(short.items()))
            raise DataError(
                f"{len(short)} classes have fewer ranked training images than the {wanted} to tune on, such as "
                f"{class_id} with {count}: expected as many, or that short classes are used whole."
            )
        return short

    def _stopping_set(self) -> StoppingSet:
        rows = self.val.rows_of(self.halves[0])
        place = np.full(len(self.val.label), -1, np.int64)
        place[rows] = np.arange(len(rows))
        ends = tuple(replace(c, high=place[c.high], low=place[c.low]) for c in self.ends[0])
        return StoppingSet(self.val_features[rows], self.val.label[rows], ends)


def tune(tuning: Tuning, progress: Progress | None = None) -> tuple[TuningRecord, LinearHead]:
    """Tune by every method and seed that the configuration asks for.

    Returns:
        The record, and the head to keep: that of the first method's first seed, whatever the others reached. The
        record's ``head_sha256`` is empty until the head is written.
    """
    config, before = tuning.config, tuning.correct(tuning.head).astype(np.float64)
    kept, methods = None, []
    steps: list[int | None] = [None] * config.seeds
    for done, method in enumerate(config.methods):
        runs = []
        for seed in range(config.seeds):
            runs.append(tuning.run(method, seed, steps[seed]))
            if progress is not None:
                progress(method, seed, done * config.seeds + seed + 1, len(config.methods) * config.seeds)
        if kept is None:
            kept = runs[0].head
            if config.baseline_steps == "same":
                steps = [max(run.step, 1) for run in runs]
        methods.append(_method_record(tuning, method, runs, before))
    if kept is None:
        raise DataError("a tuning without a run: expected one seed at least.")
    return _record(tuning, tuple(methods), before), kept


def write_tuning(path: str | Path, tuning: Tuning, record: TuningRecord, head: LinearHead) -> TuningRecord:
    """Write ``head.safetensors`` and ``tuning.json`` into a new directory, whole or not at all.

    Raises:
        StoreError: The directory is there and not empty.
    """
    classifier = tuning.classifier
    encoder, weights = _encoder(classifier)
    info = HeadFileInfo(
        encoder=encoder,
        encoder_weights_sha256=weights,
        image_size=classifier.preprocess.size,
        label_space=classifier.labels.name,
        class_ids=classifier.labels.class_ids,
        class_names=classifier.labels.class_names,
    )
    with atomic_directory(path) as directory:
        save_head(directory / "head.safetensors", head, info)
        written = record.model_copy(update={"head_sha256": sha256_file(directory / "head.safetensors")})
        content = canonical_json(written.model_dump(mode="json"))
        (directory / "tuning.json").write_text(content, encoding="utf-8")
    return written


def _checked_head(classifier: Classifier, features: FeatureStore, val_features: FeatureStore) -> LinearHead:
    if classifier.head is None:
        raise ModelError(
            f"{classifier.spec} has no single linear last layer that gives its logits: only such is tuned."
        )
    for store in (features, val_features):
        check_store(store, classifier.head, classifier.labels, classifier.weights_sha256)
    if features.config.sha256 != val_features.config.sha256:
        raise StoreError(
            f"{features.path} and {val_features.path} were made with different preprocessing: expected the same size, "
            "crop and interpolation for training and validation images."
        )
    return classifier.head


def _encoder(classifier: Classifier) -> tuple[str, str]:
    """Return spec and weights of the model whose features the head reads: of a head on an encoder, the encoder."""
    if classifier.encoder_weights_sha256 is None:
        return classifier.spec, classifier.weights_sha256
    spec = ModelSpec.parse(classifier.spec)
    _, info = read_head(Path(spec.address).expanduser())
    return spec.options.get("encoder", info.encoder), classifier.encoder_weights_sha256


def _method_record(tuning: Tuning, method: Method, runs: list[TunedHead], before: NDArray[np.float64]) -> MethodRecord:
    every = [tuning.correct(run.head) for run in runs]
    after = np.stack(every).astype(np.float64).mean(axis=0)
    resamples, (stopping, reported) = tuning.config.resamples, tuning.ends
    rows = tuning.val.rows_of(tuning.halves[1])
    other = ~np.isin(tuning.val.label[rows], list(tuning.train.classes))
    closed, closed_interval = closed_share(before, after, reported, tuning.class_ids, resamples)
    images = tuning.images(method)
    return MethodRecord(
        method=method,
        images=images,
        gap=gap_change(before, after, reported, tuning.class_ids, resamples),
        stopping_gap=gap_change(before, after, stopping, tuning.class_ids, resamples),
        accuracy=accuracy_change(before[rows], after[rows], resamples),
        tuned_accuracy=accuracy_change(before[rows[~other]], after[rows[~other]], resamples),
        other_accuracy=accuracy_change(before[rows[other]], after[rows[other]], resamples) if other.any() else None,
        closed=closed,
        closed_interval=closed_interval,
        curve=_curve(tuning, after),
        seeds=tuple(
            _seed_record(seed, run, correct, rows, reported, images, tuning.config)
            for seed, (run, correct) in enumerate(zip(runs, every, strict=True))
        ),
    )


def _seed_record(
    seed: int, run: TunedHead, correct: NDArray[np.bool_], rows: Indices, ends: Ends, images: int, config: TuningConfig
) -> SeedRecord:
    kept = next(check for check in run.checks if check.step == run.step)
    return SeedRecord(
        seed=seed,
        steps=run.step,
        epochs=run.step * min(config.batch_size, images) / images,
        stopped_by=run.stopped_by,
        stopping_gap=kept.gap,
        reported_gap=gap_of(correct, ends),
        stopping_accuracy=kept.accuracy,
        reported_accuracy=float(correct[rows].mean()),
        checks=run.checks,
    )


def _curve(tuning: Tuning, correct: NDArray[np.float64]) -> tuple[CurvePoint, ...]:
    ranks = tuning.val.ranks_of(tuning.halves[1])
    ranks = ranks[ranks["label"].isin([c.label for c in tuning.ends[1]])]
    return rank_curve(correct[ranks["row"].to_numpy()], ranks["percentile"].to_numpy(), tuning.config.resamples)


def _record(tuning: Tuning, methods: tuple[MethodRecord, ...], before: NDArray[np.float64]) -> TuningRecord:
    config, classifier, val = tuning.config, tuning.classifier, tuning.val
    replayed = len(tuning.train.others) if config.recipe == "replay" else 0
    return TuningRecord(
        code_version=version("spurious-imagenet"),
        model=classifier.spec,
        weights_sha256=classifier.weights_sha256,
        label_space=classifier.labels.name,
        features=str(tuning.stores[0].path),
        val_features=str(tuning.stores[1].path),
        rankings=tuning.where,
        config=config,
        k=tuning.k,
        learning_rate=tuning.rate,
        halves=_NO_SPLIT if config.stop_on_reported else _SPLIT,
        tuned_classes=len(tuning.train.classes),
        replayed_classes=replayed,
        gap_classes=tuple(tuning.class_ids[c.label] for c in tuning.ends[1]),
        refused=tuning.refused,
        short_classes=tuning.short,
        stopping_images=len(val.rows_of(tuning.halves[0])),
        reported_images=len(val.rows_of(tuning.halves[1])),
        shared_images=int((val.half == LEFT_OUT).sum()),
        excluded_training_images=tuning.train.excluded,
        curve_before=_curve(tuning, before),
        methods=methods,
        head=f"method {config.method}, seed 0: the first run, not the best one",
        head_sha256="",
    )
