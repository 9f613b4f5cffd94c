"""Options that several subcommands share, and their progress display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spurious_imagenet.errors import ConfigError

__all__ = ["Backend", "Device", "ImageSize", "ShardsNow", "Workers", "console", "progress_bar", "validated"]

#: Progress and remarks go to standard error, results to standard output.
console = Console(stderr=True)

Device = Annotated[str, typer.Option(help="Where to run: auto, cpu, cuda, cuda:N, mps.")]
Backend = Annotated[
    str, typer.Option(help="How to run: auto, eager, channels-last, compile, onnxruntime, openvino (CPU).")
]
Workers = Annotated[int | None, typer.Option(help="Decoding threads; as many as CPUs if not given.", min=1)]
ShardsNow = Annotated[
    list[str] | None,
    typer.Option("--shards", help="Where the images' shards are now, if they are not where they were; may repeat."),
]
ImageSize = Annotated[int | None, typer.Option(help="Input side in pixels, in place of the model's own.", min=1)]


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """Show a progress bar on standard error; each task may set the field ``note``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn(unit),
        # Time left while running, time taken at the end.
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield progress


_Config = TypeVar("_Config", bound=BaseModel)


def validated(config: type[_Config], **values: Any) -> _Config:
    """Make a stage's configuration of command-line values.

    Raises:
        ConfigError: A value does not fit; the sentence names the option.
    """
    try:
        return config(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-") if first["loc"] else "options"
        got = f" (got {first['input']!r})" if first["loc"] else ""
        raise ConfigError(f"{option}: {first['msg'].removeprefix('Value error, ')}{got}.") from None
