"""``spurious tune``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.benchmark.mitigation.tuning import Tuning, tune, write_tuning
from spurious_imagenet.benchmark.mitigation.tuning_record import (
    AccuracyChange,
    MethodRecord,
    TuningConfig,
    TuningRecord,
)
from spurious_imagenet.cli.options import Device, MaxLabelProblems, progress_bar, say_labels, validated
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.cli.tables import Sheet
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import StoreError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, labels_of_store
from spurious_imagenet.io import is_unused
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.labels import of_classes

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Option(help="Model spec; its linear head is tuned, nothing else changes.")],
    features: Annotated[Path, typer.Option(help="Feature store of its training images.")],
    val_features: Annotated[Path, typer.Option(help="Feature store of its validation images.")],
    rankings: Annotated[Path, typer.Option(help="Rankings of both, of `spurious rank`; any model's.")],
    out: Annotated[Path, typer.Option(help="Folder to write: head.safetensors and tuning.json.")],
    method: Annotated[
        Literal["low", "random", "errors"],
        typer.Option(help="Images to tune on: of lowest spuriosity, random ones, or misclassified ones."),
    ] = "low",
    baselines: Annotated[bool, typer.Option(help="Also tune by the other two methods, to compare.")] = False,
    baseline_steps: Annotated[
        Literal["same", "limit"],
        typer.Option(help="same: as many as the method took, so that only the images differ; limit: --max-steps."),
    ] = "same",
    per_class: Annotated[int, typer.Option(help="Images of each class with a spurious concept.")] = 100,
    recipe: Annotated[
        Literal["replay", "published"],
        typer.Option(help="published: as in the paper; replay: with random images of the other classes too."),
    ] = "replay",
    seeds: Annotated[int, typer.Option(help="Runs of each method; the first one's head is written.")] = 3,
    stop_gap: Annotated[float, typer.Option(help="Stop once the gap on the half that stops is below this.")] = 0.05,
    accuracy_loss: Annotated[
        float, typer.Option(help="Accuracy that the recipe replay may cost, on the half that stops.")
    ] = 0.015,
    k: Annotated[int | None, typer.Option(help="Images on either side of a gap; 10, fewer in small halves.")] = None,
    stop_on_reported: Annotated[
        bool, typer.Option(help="Stop and report on the same images, as the papers' code does: it flatters.")
    ] = False,
    short_classes: Annotated[
        Literal["use", "refuse"], typer.Option(help="What to do with classes of fewer than --per-class images.")
    ] = "use",
    step_size: Annotated[float, typer.Option(help="Most that one step changes a logit of an average image.")] = 2.0,
    batch_size: Annotated[int, typer.Option(help="Images per step.", min=1)] = 128,
    max_steps: Annotated[int, typer.Option(help="Steps at most, of --batch-size images each.")] = 1500,
    check_every: Annotated[int, typer.Option(help="Steps between two looks at the half that stops.", min=1)] = 10,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of the intervals.", min=2)] = 1000,
    train_split: Annotated[str, typer.Option(help="The rankings' split of training images.")] = "train",
    val_split: Annotated[str, typer.Option(help="The rankings' split of validation images.")] = "val",
    device: Device = "auto",
    max_label_problems: MaxLabelProblems = MAX_LABEL_PROBLEMS,
) -> None:
    """Tune a model's head on the images of lowest spuriosity (SR section 4.3).

    Each half of the validation images decides when the tunings stop that are reported on the other half. Use the
    result as head:PATH, or as a mitigation of `spurious evaluate`.

    Takes minutes: one run for each method, seed and half, of --max-steps steps at most. It says how long after the
    first of them; without --baselines it is a third.
    """
    config = validated(
        TuningConfig,
        method=method,
        baselines=baselines,
        baseline_steps=baseline_steps,
        per_class=per_class,
        recipe=recipe,
        seeds=seeds,
        stop_gap=stop_gap,
        accuracy_loss=accuracy_loss,
        k=k,
        stop_on_reported=stop_on_reported,
        short_classes=short_classes,
        step_size=step_size,
        batch_size=batch_size,
        max_steps=max_steps,
        check_every=check_every,
        resamples=resamples,
    )
    if not is_unused(out):
        raise StoreError(f"{out} already exists: expected a new or empty directory to write to.")
    ranked = Rankings.load(rankings, train_split), Rankings.load(rankings, val_split)
    stores = open_store(features), open_store(val_features)
    classifier = load_classifier(model, image_size=stores[0].config.preprocess.get("size"))
    tuning = Tuning(classifier, *stores, ranked, str(rankings), config, device, max_label_problems)
    with progress_bar("runs") as bar:
        task = bar.add_task("tune", total=None, note="")
        record, head = tune(
            tuning,
            lambda name, seed, done, n: bar.update(task, completed=done, total=n, note=f"{name}, seed {seed}"),
        )
    record = write_tuning(out, tuning, record, head)
    _table(record).print()
    for store in stores:
        say_labels(labels_of_store([store]))
    for line in _remarks(record, out):
        typer.echo(line)


def _table(record: TuningRecord) -> Sheet:
    seeds = f"{record.config.seeds} seeds{_among(record)}"
    title = f"{record.model}: {len(record.gap_classes)} classes, k {record.k}, {seeds}"
    values = ("gap before", "gap after", "closed", "accuracy before", "accuracy after", "other classes")
    sheet = Sheet(("method", *values, "stopped by"), {"method", "stopped by"}, title)
    for m in record.methods:
        other = f"{m.other_accuracy.difference.value:+.1%}" if m.other_accuracy is not None else "none"
        sheet.row(m.method, *_sides(m.gap), _closed(m), *_sides(m.accuracy), other, _stops(m))
    return sheet


def _among(record: TuningRecord) -> str:
    if record.present_classes is None or record.model_classes is None:
        return ""
    return f", right among {of_classes(record.present_classes, record.model_classes)}"


def _stops(m: MethodRecord) -> str:
    counts, steps = Counter(s.stopped_by for s in m.seeds), [s.steps for s in m.seeds]
    said = ", ".join(f"{n} x {why}" for why, n in sorted(counts.items()))
    return f"{said}, after {min(steps)} to {max(steps)}"


def _sides(change: AccuracyChange) -> tuple[str, str]:
    before, after = (f"{e.value:.1%}\n{_shown(e.interval)}" for e in (change.before, change.after))
    return before, after


def _shown(interval: Interval) -> str:
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _closed(m: MethodRecord) -> str:
    if m.closed is None:
        return "no gap"
    if m.closed_interval is None:
        return f"{m.closed:.0%}\nnot sure"
    return f"{m.closed:.0%}\n{100 * m.closed_interval.low:.0f} to {100 * m.closed_interval.high:.0f}"


def _remarks(record: TuningRecord, out: Path) -> list[str]:
    lines = [
        f"{record.reported_images} images reported on, {record.stopping_images} to stop each tuning by; "
        "below a value its 95 % interval; not sure: the gap before may be none.",
        f"{out / 'head.safetensors'}: {record.head}; use it as head:{out / 'head.safetensors'}.",
    ]
    if record.present_classes is not None and record.present_classes != record.model_classes:
        lines.append(
            f"The stores have images of {of_classes(record.present_classes, record.model_classes or 0)}: heads are "
            "tuned and measured among these alone, before and after alike."
        )
        lines += [
            f"{m.method}: with all classes allowed, accuracy on these images is "
            f"{' before and '.join(_sides(m.whole_accuracy))} after."
            for m in record.methods
            if m.whole_accuracy is not None
        ]
    if record.config.stop_on_reported:
        lines.append("The images reported on also stopped the tuning: these numbers flatter.")
    if record.short_classes:
        shown = ", ".join(f"{c} ({n})" for c, n in list(record.short_classes.items())[:3])
        lines.append(
            f"{len(record.short_classes)} classes have fewer than {record.config.per_class} ranked training images and "
            f"gave all they have: {shown}."
        )
    if record.refused:
        shown = ", ".join(f"{c} ({n})" for c, n in list(record.refused.items())[:3])
        lines.append(
            f"{len(record.refused)} classes have too few validation images for a gap with k {record.k}: {shown}."
        )
    if record.excluded_training_images:
        lines.append(f"{record.excluded_training_images} training images are validation images too and were not used.")
    return lines
