"""``spurious evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from spurious_imagenet.benchmark.evaluation import evaluate
from spurious_imagenet.benchmark.images import Protocol
from spurious_imagenet.benchmark.record import ClassRecord, EvalRecord, Means
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
    console.print(
        f"protocol [bold]{record.protocol.value}[/bold]; spurious_ap is the published mAUC (average precision), "
        f"spurious_auc is ROC AUC. Record: {out}",
        highlight=False,
    )


def _table(record: EvalRecord) -> Table:
    table = Table(title=f"{record.model}, protocol {record.protocol.value}", title_justify="left", show_footer=True)
    columns = {
        "class": "mean",
        "val": str(sum(c.validation_images for c in record.classes)),
        "spurious": str(sum(c.spurious_images for c in record.classes)),
        "spurious_ap ↑": f"{record.mean.spurious_ap:.3f}",
        "chance": f"{record.mean.chance_ap:.3f}",
        "spurious_auc ↑": f"{record.mean.spurious_auc:.3f}",
        "p(k) val": f"{record.mean.validation_probability:.3f}",
        "p(k) spurious ↓": f"{record.mean.spurious_probability:.3f}",
        "as k, val": f"{record.mean.validation_predicted:.0%}",
        "as k, spurious ↓": f"{record.mean.spurious_predicted:.0%}",
    }
    for header, footer in columns.items():
        justify = "left" if header == "class" else "right"
        table.add_column(header, footer=footer, justify=justify)  # type: ignore[arg-type]
    for c in sorted(record.classes, key=lambda c: c.spurious_ap):
        table.add_row(c.class_name, str(c.validation_images), str(c.spurious_images), *_values(c))
    return table


def _values(c: ClassRecord | Means) -> list[str]:
    return [
        f"{c.spurious_ap:.3f}",
        f"{c.chance_ap:.3f}",
        f"{c.spurious_auc:.3f}",
        f"{c.validation_probability:.3f}",
        f"{c.spurious_probability:.3f}",
        f"{c.validation_predicted:.0%}",
        f"{c.spurious_predicted:.0%}",
    ]
