"""Options that several subcommands share, and their progress display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Backend", "Device", "ImageSize", "Workers", "console", "progress_bar"]

#: Progress and remarks go to standard error, results to standard output.
console = Console(stderr=True)

Device = Annotated[str, typer.Option(help="Where to run: auto, cpu, cuda, cuda:N, mps.")]
Backend = Annotated[
    str, typer.Option(help="How to run: auto, eager, channels-last, compile, onnxruntime, openvino (CPU).")
]
Workers = Annotated[int | None, typer.Option(help="Decoding threads; as many as CPUs if not given.", min=1)]
ImageSize = Annotated[int | None, typer.Option(help="Input side in pixels, in place of the model's own.", min=1)]


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """Show a progress bar on standard error; each task may set the field ``note``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield progress
