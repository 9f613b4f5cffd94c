"""``spurious publish``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.publish import PublishConfig, publish
from spurious_imagenet.cli.options import console, progress_bar, validated

__all__ = ["command"]


def command(
    candidates: Annotated[Path, typer.Option(help="Candidates directory written by `spurious mine`.")],
    out: Annotated[Path, typer.Option(help="Dataset folder to write.")],
    reviewed: Annotated[
        Path | None, typer.Option(help="What `spurious review collect` wrote: only accepted images are published.")
    ] = None,
    unreviewed: Annotated[
        bool, typer.Option(help="Publish images that nobody has looked at; the card says so.")
    ] = False,
    concept: Annotated[list[str] | None, typer.Option(help="Publish this concept id only; may be given often.")] = None,
    min_images: Annotated[int, typer.Option(help="Leave out concepts with fewer kept images.", min=1)] = 1,
    per_concept: Annotated[int | None, typer.Option(help="At most so many images a concept.", min=1)] = None,
    name: Annotated[str, typer.Option(help="Title of the dataset.")] = "Spurious ImageNet",
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
) -> None:
    """Write mined candidates that two labelers accepted as a Hugging Face dataset folder."""
    config = validated(
        PublishConfig,
        candidates=str(candidates),
        reviewed=None if reviewed is None else str(reviewed),
        unreviewed=unreviewed,
        concepts=tuple(concept or ()),
        min_images=min_images,
        per_concept=per_concept,
        name=name,
        allow_pipe=allow_pipe,
    )
    with progress_bar("images") as bar:
        task = bar.add_task("writing", total=None, note="")
        result = publish(config, out, progress=lambda done, n: bar.update(task, completed=done, total=n))
    for concept_left in result.left_out.itertuples():
        console.print(
            f"  left out: {concept_left.concept_id}, {concept_left.images} of {min_images} images",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    review = result.review
    judged = (
        "not reviewed by anyone"
        if review is None
        else f"{review.accepted} of {review.judged} judged candidates accepted, {review.agreement}"
    )
    typer.echo(
        f"{result.path}: {result.images} images of {len(result.concepts)} concepts, {judged}; "
        f"{len(result.left_out)} concepts left out, {result.repeated} repeated images dropped."
    )
