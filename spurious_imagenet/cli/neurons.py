"""``spurious neurons``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.components import NeuronsConfig, build_neuron_bank
from spurious_imagenet.cli.options import (
    ImageSize,
    MaxLabelProblems,
    OnlyClasses,
    TopImages,
    console,
    progress_bar,
    say_labels,
    validated,
)
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, labels_of_store
from spurious_imagenet.features.labelled import made_of
from spurious_imagenet.models import load_classifier

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Option(help="Model spec: the one that made the features.")],
    features: Annotated[Path, typer.Option(help="Feature store of the labelled training images.")],
    out: Annotated[Path, typer.Option(help="Concept bank to write.")],
    top: Annotated[int, typer.Option(help="Neural features kept of each class, by importance.", min=1)] = 5,
    images: Annotated[
        str, typer.Option(help="Average over all images of a class, or those the model predicts as it: all, predicted.")
    ] = "all",
    top_images: TopImages = 20,
    only: OnlyClasses = None,
    image_size: ImageSize = None,
    max_label_problems: MaxLabelProblems = MAX_LABEL_PROBLEMS,
) -> None:
    """Find the neural features that add most to each class's logit (SR section 3)."""
    config = validated(
        NeuronsConfig, top=top, images=images, top_images=top_images, classes=tuple(only) if only else None
    )
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
            max_label_problems=max_label_problems,
            progress=lambda done, n: bar.update(task, completed=done, total=n),
        )
    bank.save(out)
    say_labels(labels_of_store([store]))
    for reject in bank.info.rejects:
        console.print(f"  left out: {reject['reason']}", highlight=False, markup=False, soft_wrap=True)
    typer.echo(f"{out}: {len(bank)} neural features of {made_of(bank, store)}.")
