"""``spurious evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.benchmark.evaluation.evaluate import evaluate
from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.evaluation.sweep import SweepConfig, SweepResult, read_models, run_sweep
from spurious_imagenet.benchmark.evaluation.values import Means
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.cli.options import (
    Backend,
    Device,
    ImageSize,
    MaxLabelProblems,
    Workers,
    console,
    image_counter,
    progress_bar,
    validated,
)
from spurious_imagenet.cli.tables import Sheet, note
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS
from spurious_imagenet.images import Protocol
from spurious_imagenet.models.spec import short_name

__all__ = ["command"]


def command(
    dataset: Annotated[str, typer.Option(help="Dataset folder written by `spurious publish`, or a Hub id.")],
    val: Annotated[str, typer.Option(help="Validation images: shards, or a folder with one sub-folder per class.")],
    out: Annotated[Path, typer.Option(help="Record to write (JSON); with --models a folder, gone on with if there.")],
    model: Annotated[str | None, typer.Option(help="Model spec, such as timm:resnet50.a1_in1k.")] = None,
    models: Annotated[
        Path | None, typer.Option(help="YAML list of models: model, and if wanted name, image_size, mitigations.")
    ] = None,
    protocol: Annotated[
        list[Protocol] | None,
        typer.Option(help="paper: as published; standard: the model's own transform. With --models both if not given."),
    ] = None,
    rankings: Annotated[str | None, typer.Option(help="Folder of `spurious rank`: adds the spurious gaps.")] = None,
    outputs: Annotated[
        Path | None, typer.Option(help="Folder that keeps features and logits; with --models OUT/outputs.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of the intervals.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resamples; the same for models to be compared.", min=0)] = 0,
    image_size: ImageSize = None,
    device: Device = "auto",
    backend: Backend = "auto",
    workers: Workers = None,
    max_label_problems: MaxLabelProblems = MAX_LABEL_PROBLEMS,
) -> None:
    """Measure how much one model, or each of many, relies on a dataset's spurious features."""
    if (model is None) == (models is None):
        raise ConfigError("--model SPEC or --models FILE: expected exactly one of them.")
    if out.is_dir() if models is None else out.is_file():
        wanted = "a file, as --model" if models is None else "a folder, as --models"
        raise ConfigError(f"--out {out} is something else already: expected {wanted} writes.")
    if models is not None:
        if image_size is not None:
            raise ConfigError("--image-size goes with --model: give `image_size:` for each model of the --models file.")
        config = validated(
            SweepConfig,
            models=read_models(models),
            dataset=dataset,
            val=val,
            out=out,
            **({"protocols": tuple(dict.fromkeys(protocol))} if protocol else {}),
            outputs=outputs,
            rankings=rankings,
            resamples=resamples,
            seed=seed,
            device=device,
            backend=backend,
            workers=workers,
            max_label_problems=max_label_problems,
        )
        _sweep(config)
        return
    if protocol is None or len(protocol) != 1:
        raise ConfigError("--model needs one --protocol: paper (as published) or standard (the model's own transform).")
    with image_counter(short_name(str(model))) as count:
        record = evaluate(
            str(model),
            dataset,
            val,
            protocol=protocol[0],
            image_size=image_size,
            device=device,
            backend=backend,
            workers=workers,
            outputs=outputs,
            rankings=rankings,
            max_label_problems=max_label_problems,
            resamples=resamples,
            seed=seed,
            progress=count,
        ).save(out)
    _remarks([record])
    _print(_table(record), _LEGEND, f"{_whole(record)}\nprotocol {record.protocol.value}, record {out}")


def _sweep(config: SweepConfig) -> None:
    with progress_bar("images") as bar:
        tasks = {m.name: bar.add_task(m.name, total=None, note="", visible=False) for m in config.models}

        def show(name: str, images: int) -> None:
            bar.update(tasks[name], advance=images, visible=True)

        def tell(sentence: str) -> None:
            bar.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

        result = run_sweep(config, tell=tell, progress=show)
    _remarks(result.records)
    found = len(result.records) - result.made
    where = f"{config.out}: {len(result.records)} records ({result.made} made now, {found} found)."
    for about in dict.fromkeys(r.accuracy_on for r in result.records):
        where += f" Accuracy is on {about}."
    if result.records:
        _print(_sweep_table(result), _SWEEP_LEGEND, where)
    if result.failures:
        name, reason = result.failures[0]
        failed = f"{len(result.failures)} of the models failed, the first {name}: {reason}"
        raise DataError(failed if failed.endswith(".") else f"{failed}.")


def _remarks(records: list[EvalRecord] | tuple[EvalRecord, ...]) -> None:
    for record in records:
        for remark in record.remarks:
            text = f"warning: {record.name}, protocol {record.protocol.value}: {remark}"
            console.print(text, highlight=False, markup=False, soft_wrap=True)


_LEGEND = """\
AP: spurious_ap, average precision, the published "mAUC"; chance: its value for a model that cannot tell class from cue.
AUC: spurious_auc, ROC AUC, 0.5 by chance. p: mean probability of the class. as k: share classified as the class."""

_SWEEP_LEGEND = """\
acc.: accuracy on all validation images. AP: spurious_ap, average precision, the published "mAUC"; chance: its value for
a model that cannot tell class from cue. AUC: spurious_auc, ROC AUC, 0.5 by chance. as k: share of the spurious images
classified as the class. gap: accuracy on the validation images of highest less that of lowest spuriosity.
Below a value: its 95 % bootstrap interval over images and, of means, classes."""


def _print(sheet: Sheet, legend: str, last: str) -> None:
    sheet.print()
    note(legend)
    typer.echo(last)


def _table(record: EvalRecord) -> Sheet:
    title = f"{record.model}, protocol {record.protocol.value}"
    images = [
        str(sum(c.validation_images for c in record.classes)),
        str(sum(c.spurious_images for c in record.classes)),
    ]
    headers = ("val", "spur.", "AP ↑", "chance", "AUC ↑", "p val", "p spur. ↓", "as k val", "as k spur. ↓")
    sheet = Sheet(("class", *headers), {"class"}, title)
    for c in sorted(record.classes, key=lambda c: c.spurious_ap):
        sheet.row(c.class_name, str(c.validation_images), str(c.spurious_images), *_values(c))
    sheet.section()
    sheet.row("mean", *images, *_values(record.mean))
    return sheet


def _values(c: Means) -> list[str]:
    return [
        f"{c.spurious_ap:.3f}",
        f"{c.chance_ap:.3f}",
        f"{c.spurious_auc:.3f}",
        f"{c.validation_probability:.3f}",
        f"{c.spurious_probability:.3f}",
        f"{c.validation_predicted:.0%}",
        f"{c.spurious_predicted:.0%}",
    ]


def _between(interval: Interval) -> str:
    return f"[{interval.low:.3f}, {interval.high:.3f}]"


def _whole(record: EvalRecord) -> str:
    """Say in a line what the table's rows do not: the means with their intervals, the accuracy, the gap."""
    mean, intervals = record.mean, record.mean_intervals
    parts = [
        f"mean AP {mean.spurious_ap:.3f} {_between(intervals['spurious_ap'])}",
        f"mean AUC {mean.spurious_auc:.3f} {_between(intervals['spurious_auc'])}",
        f"accuracy on {record.accuracy_on} {record.accuracy:.3f} {_between(record.accuracy_interval)}",
    ]
    if record.gaps is not None:
        parts.append(f"spurious gap {record.gaps.gap:.3f} {_between(record.gaps.gap_interval)}")
    return "; ".join(parts) + " (95 % bootstrap intervals)"


def _sweep_table(result: SweepResult) -> Sheet:
    gaps = any(record.gaps is not None for record in result.records)
    headers = ("acc. ↑", "AP ↑", "chance", "AUC ↑", "as k ↓", *(["gap ↓"] if gaps else []))
    sheet = Sheet(("model", *headers), {"model"})
    protocol = None
    for r in result.records:
        if r.protocol is not protocol:
            protocol = r.protocol
            sheet.section(f"protocol {protocol.value}")
        mean, intervals = r.mean, r.mean_intervals
        cells = [
            _with_interval(r.accuracy, r.accuracy_interval),
            _with_interval(mean.spurious_ap, intervals["spurious_ap"]),
            f"{mean.chance_ap:.3f}",
            _with_interval(mean.spurious_auc, intervals["spurious_auc"]),
            f"{mean.spurious_predicted:.0%}",
        ]
        if gaps:
            cells.append("" if r.gaps is None else _with_interval(r.gaps.gap, r.gaps.gap_interval))
        sheet.row(r.name, *cells)
    return sheet


def _with_interval(value: float, interval: Interval) -> str:
    """Write the interval below the value, without leading zeros, so that a table fits a narrow terminal."""
    low, high = (f"{end:.2f}".replace("0.", ".", 1) for end in (interval.low, interval.high))
    return f"{value:.3f}\n{low}–{high}"
