"""``spurious npfv``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.visualise.npfv import NpfvConfig, eps_at, make_npfvs
from spurious_imagenet.cli.options import Device, ImageSize, progress_bar, validated
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.models import load_classifier, moved_spec

__all__ = ["command"]


def command(
    bank: Annotated[Path, typer.Option(help="Concept bank.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an unfinished one is resumed.")],
    classes: Annotated[
        list[str] | None, typer.Option(help="Id of a class to do; give it once a class. All, if not given.")
    ] = None,
    top: Annotated[int, typer.Option(help="Components of each class, by eigenvalue.", min=1)] = 128,
    choose: Annotated[int, typer.Option(help="Of these, the most confident to choose.", min=1)] = 10,
    steps: Annotated[int, typer.Option(help="Steps of the search.", min=1)] = 200,
    eps: Annotated[float, typer.Option(help="L2 budget at 224 px; scales with the image side.", min=0)] = 30.0,
    first_step: Annotated[float, typer.Option(help="First step as a share of the budget; 2 as published.")] = 0.3,
    model: Annotated[str | None, typer.Option(help="Model spec, where the bank's does not lead to it.")] = None,
    image_size: ImageSize = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="float32, float16 or bfloat16 (autocast).")] = "float32",
    batch_size: Annotated[int | None, typer.Option(help="Images at once.", min=1)] = None,
) -> None:
    """Make the images that maximise each component, and choose the most confident ones (SFE section 4).

    Of all commands this one takes longest: --top x --steps forward and backward passes for each class. It says how long
    after the first of them; --classes, --top and --image-size make it shorter.
    Rerun the same command to go on after an interruption, or with other classes to add them.
    """
    config = validated(
        NpfvConfig,
        classes=tuple(classes) if classes else None,
        top=top,
        choose=choose,
        steps=steps,
        eps=eps,
        first_step=first_step,
        device=device,
        precision=precision,
        batch_size=batch_size,
    )
    concepts = ConceptBank.load(bank)
    classifier = load_classifier(model or moved_spec(concepts.info.model, bank), image_size=image_size)
    with progress_bar("steps", f", {steps} for each image") as bar:
        task = bar.add_task("NPFV", total=None, note="")
        made = make_npfvs(
            classifier, concepts, out, config, progress=lambda done, n: bar.update(task, completed=done, total=n)
        )
    table = made.table()
    chosen = table[table["chosen"]]
    side = classifier.preprocess.size
    typer.echo(
        f"{out}: {len(table)} images of {table['class_index'].nunique()} classes at {side} px, eps "
        f"{eps_at(eps, side):.4g} ({eps:g} at 224 px), {steps} steps; {len(chosen)} chosen, median confidence "
        f"{chosen['confidence'].median():.2f}."
    )
