"""``spurious head``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.head.accuracy import head_accuracy
from spurious_imagenet.builders.head.fit import HeadConfig, fit_head
from spurious_imagenet.cli.options import Device, MaxLabelProblems, progress_bar, say_labels, validated
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.errors import StoreError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, labels_of_store
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.devices import pick_device
from spurious_imagenet.models.head_file import HeadFileInfo, save_head
from spurious_imagenet.models.labels import of_classes

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Option(help="Model spec of the encoder that made the features; its head is not used.")],
    features: Annotated[Path, typer.Option(help="Feature store of the labelled images.")],
    out: Annotated[Path, typer.Option(help="Head to write, .safetensors; head:FILE loads it with its encoder.")],
    recipe: Annotated[
        str, typer.Option(help="logistic: L2-penalised logistic regression; paper: Adam as in SR appendix B.")
    ] = "logistic",
    holdout: Annotated[
        float,
        typer.Option(help="Share of each class's images on which the penalty is chosen; more than 0, less than 1."),
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Which images those are.", min=0)] = 0,
    test: Annotated[Path | None, typer.Option(help="Feature store of other labelled images, to measure on.")] = None,
    device: Device = "auto",
    max_label_problems: MaxLabelProblems = MAX_LABEL_PROBLEMS,
) -> None:
    """Fit a linear head on the frozen features of any encoder, for any labelled folder (SR section 3.2).

    The classes are those of the shards that the features were made from. To use the head without another pass over the
    images: spurious features --model head:FILE --reuse FEATURES --out NEW.
    """
    config = validated(HeadConfig, recipe=recipe, holdout=holdout, seed=seed)
    store = open_store(features)
    encoder = load_classifier(model, image_size=store.config.preprocess.get("size"))
    if encoder.weights_sha256 != store.config.weights_sha256:
        raise StoreError(
            f"{features} holds features of {store.config.model} (weights {store.config.weights_sha256[:12]}), not of "
            f"{model} (weights {encoder.weights_sha256[:12]})."
        )
    with progress_bar("") as bar:
        task = bar.add_task("head", total=None, note="")
        fit = fit_head(
            store,
            config,
            device=str(pick_device(device)),
            max_label_problems=max_label_problems,
            progress=lambda step, done, n: bar.update(task, completed=done, total=n, note=step),
        )
    known = dict(zip(encoder.labels.class_ids, encoder.labels.class_names, strict=True))
    info = HeadFileInfo(
        encoder=model,
        encoder_weights_sha256=encoder.weights_sha256,
        image_size=encoder.preprocess.size,
        label_space="custom",
        class_ids=fit.class_ids,
        class_names=tuple(known.get(class_id, class_id) for class_id in fit.class_ids),
    )
    save_head(out, fit.head, info)
    about = f"{out}: {len(fit.class_ids)} classes, fitted to {fit.images} images ({fit.unlabelled} without a label"
    about += f", {fit.repeated} more of the same bytes and class left out)" if fit.repeated else ")"
    if fit.holdout_accuracy is not None:
        about += f"; {fit.holdout_accuracy:.1%} of held-out images right with the chosen penalty {fit.penalty:g}"
    say_labels(labels_of_store([store], own_ids=True))
    typer.echo(about + ".")
    if test is not None:
        tested = open_store(test)
        found = head_accuracy(fit.head, fit.class_ids, tested)
        say_labels(labels_of_store([tested], own_ids=True))
        which = of_classes(found.classes, len(fit.class_ids)).replace("the model", "the head")
        typer.echo(f"{test}: {found.accuracy:.1%} right of {found.images} images of {which} ({found.of} in the store).")
