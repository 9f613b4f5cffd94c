"""``spurious components``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.components import ComponentsConfig, build_bank
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
from spurious_imagenet.errors import StoreError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, labels_of_store
from spurious_imagenet.features.labelled import made_of
from spurious_imagenet.models import load_classifier

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Option(help="Model spec: the one that made the features.")],
    features: Annotated[Path, typer.Option(help="Feature store of the labelled training images.")],
    out: Annotated[Path, typer.Option(help="Concept bank to write.")],
    top: Annotated[int, typer.Option(help="Components kept of each class; the rest is one residual row.", min=1)] = 128,
    top_images: TopImages = 20,
    only: OnlyClasses = None,
    image_size: ImageSize = None,
    max_label_problems: MaxLabelProblems = MAX_LABEL_PROBLEMS,
) -> None:
    """Find the class-wise neural PCA components of a model (SFE eq. 1-6)."""
    config = validated(ComponentsConfig, top=top, top_images=top_images, classes=tuple(only) if only else None)
    store = open_store(features)
    classifier = load_classifier(model, image_size=image_size)
    if classifier.weights_sha256 != store.config.weights_sha256:
        raise StoreError(
            f"{features} holds features of {store.config.model} (weights {store.config.weights_sha256[:12]}), not of "
            f"{model} (weights {classifier.weights_sha256[:12]})."
        )
    with progress_bar("classes") as bar:
        task = bar.add_task("components", total=None, note="")
        bank = build_bank(
            store,
            classifier.linear_head(),
            classifier.labels,
            config,
            max_label_problems=max_label_problems,
            progress=lambda done, n: bar.update(task, completed=done, total=n),
        )
    bank.save(out)
    say_labels(labels_of_store([store]))
    for reject in bank.info.rejects:
        console.print(f"  left out: {reject['reason']}", highlight=False, markup=False, soft_wrap=True)
    typer.echo(f"{out}: {len(bank)} concepts of {made_of(bank, store)}.")
