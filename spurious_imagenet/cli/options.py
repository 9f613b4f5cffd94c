"""Options that several subcommands share."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from spurious_imagenet.cli.progress import console, image_counter, progress_bar, working
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.features.label_problems import LabelCount

__all__ = [
    "Backend",
    "Device",
    "ImageSize",
    "MaxLabelProblems",
    "MaxPixels",
    "MinSide",
    "OnlyClasses",
    "ShardsNow",
    "TopImages",
    "Workers",
    "console",
    "image_counter",
    "progress_bar",
    "say_labels",
    "validated",
    "working",
]

Device = Annotated[str, typer.Option(help="Where to run: auto, cpu, cuda, cuda:N, mps.")]
Backend = Annotated[
    str, typer.Option(help="How to run: auto, eager, channels-last, compile, onnxruntime, openvino (CPU).")
]
Workers = Annotated[int | None, typer.Option(help="Decoding threads; as many as CPUs if not given.", min=1)]
MaxLabelProblems = Annotated[
    float, typer.Option(help="Fail if a larger share of the images has a label that cannot be used.", min=0, max=1)
]
ShardsNow = Annotated[
    list[str] | None,
    typer.Option("--shards", help="Where the images' shards are now, if they are not where they were; may repeat."),
]
TopImages = Annotated[int, typer.Option(help="Images of highest score to name for each concept.", min=1)]
OnlyClasses = Annotated[
    list[str] | None, typer.Option("--class", help="Id of a class to do; all where not given; may repeat.")
]
MinSide = Annotated[int, typer.Option(help="Images with a shorter side, in px, are rejects.", min=1)]
MaxPixels = Annotated[int, typer.Option(help="Images of more pixels are rejects.", min=1)]
ImageSize = Annotated[int | None, typer.Option(help="Input side in pixels, in place of the model's own.", min=1)]


def say_labels(labels: LabelCount) -> None:
    """Say on standard error which labels could not be used, if any."""
    if (sentence := labels.sentence()) is not None:
        console.print(f"warning: {sentence}", highlight=False, markup=False, soft_wrap=True)


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
