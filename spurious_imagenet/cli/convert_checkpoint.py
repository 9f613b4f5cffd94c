"""``spurious convert-checkpoint``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.models.convert import convert_checkpoint
from spurious_imagenet.models.spec import read_labels_file
from spurious_imagenet.models.weights_file import WeightsFileInfo

__all__ = ["command"]


def command(
    source: Annotated[Path, typer.Argument(help="Pickled checkpoint.")],
    target: Annotated[Path, typer.Argument(help="Safetensors file to write; load it as robust:TARGET.")],
    sha256: Annotated[str, typer.Option(help="Expected SHA-256 of the checkpoint's bytes.")],
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="I trust this pickle: reading it runs its code.")
    ] = False,
    arch: Annotated[str, typer.Option(help="timm architecture.")] = "resnet50",
    temperature: Annotated[float, typer.Option(help="The model divides its logits by it.")] = 1.0,
    image_size: Annotated[int, typer.Option(help="Input side, px.", min=1)] = 224,
    labels: Annotated[Path | None, typer.Option(help="One class id per line; ImageNet-1k if not given.")] = None,
) -> None:
    """Turn a pickled checkpoint that you trust into safetensors."""
    ids, names = read_labels_file(labels) if labels else (None, None)
    info = WeightsFileInfo(
        arch=arch,
        label_space=None if labels else "imagenet-1k",
        class_ids=ids,
        class_names=names,
        image_size=image_size,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        crop_pct=0.875,
        temperature=temperature,
    )
    convert_checkpoint(source, target, info, sha256=sha256, trust_pickle=trust_pickle)
    typer.echo(f"{target}: weights of {arch}; use it as robust:{target}")
