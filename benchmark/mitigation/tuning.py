"""Low-spuriosity tuning: a head tuned on the images that lack spurious cues (SR section 4.3 and appendix F)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.benchmark.metrics.values import CurvePoint
from spurious_imagenet.benchmark.mitigation._tuning_data import LEFT_OUT
from spurious_imagenet.benchmark.mitigation._tuning_fit import TunedHead, gap_of
from spurious_imagenet.benchmark.mitigation._tuning_setup import Tuning
from spurious_imagenet.benchmark.mitigation._tuning_stats import (
    accuracy_change,
    closed_share,
    gap_change,
    rank_curve,
)
from spurious_imagenet.benchmark.mitigation.tuning_record import (
    AccuracyChange,
    Method,
    MethodRecord,
    SeedRecord,
    TuningRecord,
)
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.labelled import Indices
from spurious_imagenet.io import atomic_directory, sha256_file
from spurious_imagenet.models.classifier import Classifier
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.head_file import HeadFileInfo, read_head, save_head
from spurious_imagenet.models.spec import ModelSpec

__all__ = ["Progress", "Tuning", "tune", "write_tuning"]

#: Called with the method, the seed and how many runs are done of how many.
Progress = Callable[[Method, int, int, int], None]

#: What came of one method, by which half stopped it and by seed.
Runs = dict[tuple[int, int], TunedHead]

_SPLIT = (
    "the distinct SHA-256 hashes of each class in ascending order, cut into two halves: each stops the tunings that "
    "are reported on the other; images of two classes are in neither"
)
_NO_SPLIT = "all validation images stop the tuning and are reported on: the result flatters"


def tune(tuning: Tuning, progress: Progress | None = None) -> tuple[TuningRecord, LinearHead]:
    """Tune by every method and seed that the configuration asks for, once for each half that stops it.

    Returns:
        The record, and the head to keep: that of the first method's first run, whatever the others reached. The
        record's ``head_sha256`` is empty until the head is written.
    """
    config, before = tuning.config, tuning.correct(tuning.head).astype(np.float64)
    places = [(fold, seed) for fold in range(len(tuning.folds)) for seed in range(config.seeds)]
    kept, methods = None, []
    steps: dict[tuple[int, int], int] = {}
    for done, method in enumerate(config.methods):
        runs: Runs = {}
        for fold, seed in places:
            runs[fold, seed] = tuning.run(method, seed, tuning.folds[fold], steps.get((fold, seed)))
            if progress is not None:
                progress(method, seed, done * len(places) + len(runs), len(config.methods) * len(places))
        if kept is None:
            kept = runs[places[0]].head
            if config.baseline_steps == "same":
                steps = {place: max(run.step, 1) for place, run in runs.items()}
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
        content = written.to_json()
        (directory / "tuning.json").write_text(content, encoding="utf-8")
    return written


def _encoder(classifier: Classifier) -> tuple[str, str]:
    """Return spec and weights of the model whose features the head reads: of a head on an encoder, the encoder."""
    if classifier.encoder_weights_sha256 is None:
        return classifier.spec, classifier.weights_sha256
    spec = ModelSpec.parse(classifier.spec)
    _, info = read_head(Path(spec.address).expanduser())
    return spec.options.get("encoder", info.encoder), classifier.encoder_weights_sha256


def _method_record(tuning: Tuning, method: Method, runs: Runs, before: NDArray[np.float64]) -> MethodRecord:
    every = {place: tuning.correct(run.head) for place, run in runs.items()}
    after = _by_fold(every, [fold.reported_rows for fold in tuning.folds], before)
    stopped = _by_fold(every, [fold.stopping_rows for fold in tuning.folds], before)
    resamples, ends, ids, rows = tuning.config.resamples, tuning.ends, tuning.class_ids, tuning.rows
    other = ~np.isin(tuning.val.label[rows], list(tuning.train.classes))
    closed, closed_interval = closed_share(before, after, ends, ids, resamples)
    return MethodRecord(
        method=method,
        images=tuning.images(method),
        gap=gap_change(before, after, ends, ids, resamples),
        stopping_gap=gap_change(before, stopped, ends, ids, resamples),
        accuracy=accuracy_change(before[rows], after[rows], resamples),
        tuned_accuracy=accuracy_change(before[rows[~other]], after[rows[~other]], resamples),
        other_accuracy=accuracy_change(before[rows[other]], after[rows[other]], resamples) if other.any() else None,
        whole_accuracy=_whole_accuracy(tuning, runs),
        closed=closed,
        closed_interval=closed_interval,
        curve=_curve(tuning, after),
        seeds=tuple(_seed_record(tuning, method, place, runs[place], correct) for place, correct in every.items()),
    )


def _whole_accuracy(tuning: Tuning, runs: Runs) -> AccuracyChange | None:
    """Say how the same heads do where any class of the model may win, which is how they will be used."""
    if len(tuning.present) == len(tuning.class_ids):
        return None
    before = tuning.correct(tuning.head, among_all=True).astype(np.float64)
    every = {place: tuning.correct(run.head, among_all=True) for place, run in runs.items()}
    after = _by_fold(every, [fold.reported_rows for fold in tuning.folds], before)
    return accuracy_change(before[tuning.rows], after[tuning.rows], tuning.config.resamples)


def _by_fold(
    correct: Mapping[tuple[int, int], NDArray[np.bool_]], rows: Sequence[Indices], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How often each image was classified right, mean over the seeds of the fold whose image it is."""
    found = before.copy()
    for fold, own in enumerate(rows):
        found[own] = np.mean([right[own] for (of, _), right in correct.items() if of == fold], axis=0)
    return found


def _seed_record(
    tuning: Tuning, method: Method, place: tuple[int, int], run: TunedHead, correct: NDArray[np.bool_]
) -> SeedRecord:
    kept = next(check for check in run.checks if check.step == run.step)
    fold, images = tuning.folds[place[0]], tuning.images(method)
    return SeedRecord(
        seed=place[1],
        half=place[0],
        steps=run.step,
        epochs=run.step * min(tuning.config.batch_size, images) / images,
        stopped_by=run.stopped_by,
        stopping_gap=kept.gap,
        reported_gap=gap_of(correct, fold.reported_ends),
        stopping_accuracy=kept.accuracy,
        reported_accuracy=float(correct[fold.reported_rows].mean()),
        checks=run.checks,
    )


def _curve(tuning: Tuning, correct: NDArray[np.float64]) -> tuple[CurvePoint, ...]:
    ranks = tuning.val.ranks_of(None)
    ranks = ranks[ranks["label"].isin([c.label for c in tuning.ends]) & ranks["row"].isin(tuning.rows)]
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
        present_classes=len(tuning.present),
        model_classes=len(tuning.class_ids),
        gap_classes=tuple(tuning.class_ids[c.label] for c in tuning.ends),
        refused=tuning.refused,
        short_classes=tuning.short,
        stopping_images=len(tuning.folds[0].stopping_rows),
        reported_images=len(tuning.rows),
        shared_images=int((val.half == LEFT_OUT).sum()),
        excluded_training_images=tuning.train.excluded,
        curve_before=_curve(tuning, before),
        methods=methods,
        head=f"method {config.method}, seed 0, stopped by the first half: the first run, not the best one",
        head_sha256="",
    )
