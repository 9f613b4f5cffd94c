"""``spurious masks``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.visualise.masks import MasksConfig, write_masks
from spurious_imagenet.cli.options import Device, ShardsNow, progress_bar, validated
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.models import load_classifier, moved_spec
from spurious_imagenet.models.devices import pick_device

__all__ = ["command"]


def command(
    bank: Annotated[Path, typer.Option(help="Concept bank.")],
    features: Annotated[Path, typer.Option(help="Feature store of the labelled images, by the bank's model.")],
    out: Annotated[Path, typer.Option(help="Directory of the masks; an unfinished one is resumed.")],
    share: Annotated[float, typer.Option(help="Share of a class's images, of highest score, that get a mask.")] = 0.2,
    components: Annotated[int, typer.Option(help="The first so many concepts of every class.", min=1)] = 10,
    concept: Annotated[list[str] | None, typer.Option(help="Only this concept id; may be given often.")] = None,
    model: Annotated[str | None, typer.Option(help="Where the bank's model lies now, if it has moved.")] = None,
    device: Device = "auto",
    shards: ShardsNow = None,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
) -> None:
    """Write where the images that show a concept show it, as 8-bit soft masks (SR section I.2.2).

    One folder per class, each whole; rerun the same command to go on after an interruption.
    """
    config = validated(MasksConfig, share=share, components=components, concepts=tuple(concept or ()))
    concepts, store = ConceptBank.load(bank), open_store(features)
    spec = model or moved_spec(concepts.info.model, bank)
    classifier = load_classifier(spec, image_size=store.config.preprocess.get("size"))
    classifier = replace(classifier, network=classifier.network.to(pick_device(device)))
    with progress_bar("classes") as bar:
        task = bar.add_task("masks", total=None, note="")
        count = write_masks(
            concepts,
            store,
            classifier,
            out,
            config,
            shards=tuple(shards or ()),
            allow_pipe=allow_pipe,
            progress=lambda done, n: bar.update(task, completed=done, total=n),
        )
    typer.echo(f"{out}: {count} masks.")
