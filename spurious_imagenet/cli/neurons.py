"""``spurious neurons``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.benchmark.models import load_classifier
from spurious_imagenet.builders.components import NeuronsConfig, build_neuron_bank
from spurious_imagenet.cli.options import ImageSize, console, progress_bar, validated
from spurious_imagenet.cli.stores import open_store

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Option(help="Model spec: the one that made the features.")],
    features: Annotated[Path, typer.Option(help="Feature store of the labelled training images.")],
    out: Annotated[Path, typer.Option(help="Concept bank to write.")],
    top: Annotated[int, typer.Option(help="Neural features kept of each class, by importance.", min=1)] = 5,
    images: Annotated[
        str, typer.Option(help="Average over all images of a class, or those the model predicts as it: all, predicted.")
    ] = "all",
    image_size: ImageSize = None,
) -> None:
    """Find the neural features that add most to each class's logit (SR section 3)."""
    config = validated(NeuronsConfig, top=top, images=images)
    store = open_store(features)
    classifier = load_classifier(model, image_size=image_size)
    with progress_bar("classes") as bar:
        task = bar.add_task("neurons", total=None, note="")
        bank = build_neuron_bank(
            store,
            classifier.linear_head(),
            classifier.labels,
            config,
            weights_sha256=classifier.weights_sha256,
            progress=lambda done, n: bar.update(task, completed=done, total=n),
        )
    bank.save(out)
    for reject in bank.info.rejects:
        console.print(f"  left out: {reject['reason']}", highlight=False, markup=False, soft_wrap=True)
    classes = bank.table["class_id"].nunique()
    typer.echo(f"{out}: {len(bank)} neural features of {classes} classes; {len(bank.info.rejects)} classes left out.")
