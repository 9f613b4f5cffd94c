"""``spurious evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from spurious_imagenet.benchmark.evaluation import evaluate
from spurious_imagenet.benchmark.images import Protocol
from spurious_imagenet.benchmark.record import EvalRecord, Means
from spurious_imagenet.cli.options import Backend, Device, ImageSize, Workers

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Option(help="Model spec, such as timm:resnet50.a1_in1k.")],
    dataset: Annotated[str, typer.Option(help="Dataset folder written by `spurious publish`, or a Hub id.")],
    val: Annotated[str, typer.Option(help="Validation images: shards, or a folder with one sub-folder a class.")],
    out: Annotated[Path, typer.Option(help="Record to write (JSON).")],
    protocol: Annotated[Protocol, typer.Option(help="paper: as published; standard: the model's own transform.")],
    image_size: ImageSize = None,
    device: Device = "auto",
    backend: Backend = "auto",
    workers: Workers = None,
) -> None:
    """Measure how much a model relies on a dataset's spurious features."""
    record = evaluate(
        model, dataset, val, protocol=protocol, image_size=image_size, device=device, backend=backend, workers=workers
    )
    record.save(out)
    console = Console()
    console.print(_table(record))
    console.print(_LEGEND, highlight=False, markup=False)
    console.print(f"protocol {record.protocol.value}, record {out}", highlight=False, markup=False, soft_wrap=True)


_LEGEND = """\
AP: spurious_ap, average precision, the published "mAUC"; chance: its value for a model that cannot tell class from cue.
AUC: spurious_auc, ROC AUC, 0.5 by chance. p: mean probability of the class. as k: share classified as the class."""


def _table(record: EvalRecord) -> Table:
    title = f"{record.model}, protocol {record.protocol.value}"
    table = Table(title=title, title_justify="left", show_footer=True, padding=(0, 1))
    mean = _values(record.mean)
    images = [
        str(sum(c.validation_images for c in record.classes)),
        str(sum(c.spurious_images for c in record.classes)),
    ]
    headers = ("val", "spur.", "AP ↑", "chance", "AUC ↑", "p val", "p spur. ↓", "as k val", "as k spur. ↓")
    table.add_column("class", footer="mean", no_wrap=True, overflow="ellipsis", max_width=24)
    for header, footer in zip(headers, [*images, *mean], strict=True):
        table.add_column(header, footer=footer, justify="right")
    for c in sorted(record.classes, key=lambda c: c.spurious_ap):
        table.add_row(c.class_name, str(c.validation_images), str(c.spurious_images), *_values(c))
    return table


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
