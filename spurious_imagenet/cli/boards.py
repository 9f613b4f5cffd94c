"""``spurious boards``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.boards import BoardsConfig, draw_boards
from spurious_imagenet.cli.options import Device, ShardsNow, console, progress_bar, validated
from spurious_imagenet.cli.stores import open_store

__all__ = ["command"]

_SHOWN = 5


def command(
    bank: Annotated[Path, typer.Option(help="Concept bank.")],
    features: Annotated[Path, typer.Option(help="Feature store of the labelled training images.")],
    out: Annotated[Path, typer.Option(help="Boards directory; an unfinished one is resumed.")],
    npfv: Annotated[Path | None, typer.Option(help="Folder of `spurious npfv`; shows the components it chose.")] = None,
    classes: Annotated[list[str] | None, typer.Option(help="Do this class id only; may be given often.")] = None,
    components: Annotated[int, typer.Option(help="Concepts of every class, best first.", min=1)] = 10,
    concept: Annotated[list[str] | None, typer.Option(help="Draw this concept id only; may be given often.")] = None,
    attack_steps: Annotated[
        int, typer.Option(help="Steps of the feature attacks shown for neural features; 0: none.", min=0)
    ] = 20,
    model: Annotated[str | None, typer.Option(help="Model spec, if the model has moved.")] = None,
    device: Device = "auto",
    workers: Annotated[int | None, typer.Option(help="Drawing threads; as many as CPUs if not given.", min=1)] = None,
    shards: ShardsNow = None,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
) -> None:
    """Draw one board per concept, from which a person judges whether it is spurious.

    Open OUT/index.html in a browser. Rerun the same command to go on after an interruption.
    """
    config = validated(
        BoardsConfig,
        bank=str(bank),
        features=str(features),
        npfv=None if npfv is None else str(npfv),
        model=model,
        classes=tuple(classes) if classes else None,
        components=components,
        concepts=tuple(concept or ()),
        attack_steps=attack_steps,
        device=device,
        workers=workers,
        shards=tuple(shards or ()),
        allow_pipe=allow_pipe,
    )
    open_store(features)
    with progress_bar("classes") as bar:
        task = bar.add_task("boards", total=None, note="")
        result = draw_boards(config, out, progress=lambda done, n: bar.update(task, completed=done, total=n))
        bar.update(task, completed=result.classes, total=result.classes)
    for class_id in result.without_npfv[:_SHOWN]:
        console.print(f"  left out: class {class_id} has no NPFVs in {npfv}", highlight=False, markup=False)
    if len(result.without_npfv) > _SHOWN:
        console.print(f"  … and {len(result.without_npfv) - _SHOWN} more classes without NPFVs", highlight=False)
    typer.echo(
        f"{result.path}/index.html: {result.boards} boards of {result.classes} classes; {result.made} classes new."
    )
