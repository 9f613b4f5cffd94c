"""``spurious rank``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from spurious_imagenet.builders.rankings import RankConfig, RankResult, rank
from spurious_imagenet.cli.options import MaxLabelProblems, console, progress_bar, say_labels, validated
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS

__all__ = ["command"]

_SHOWN = 20


def command(
    bank: Annotated[Path, typer.Option(help="Concept bank, with verdicts (see `spurious annotate`).")],
    features: Annotated[
        list[str],
        typer.Option(
            help="Feature store of labelled images by the bank's model, DIR or SPLIT=DIR; may be given often."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Rankings folder to write, a Hugging Face dataset.")],
    split: Annotated[str, typer.Option(help="Split of the stores that are given without one.")] = "val",
    verdict: Annotated[
        Literal["spurious", "core", "unclear"] | None,
        typer.Option(help="Rank by the concepts with this verdict, in place of spurious."),
    ] = None,
    concept: Annotated[list[str] | None, typer.Option(help="Rank by this concept id only; may be given often.")] = None,
    controls: Annotated[
        bool, typer.Option(help="Also rank the classes without a concept, by those of all others: what chance gives.")
    ] = False,
    k: Annotated[int | None, typer.Option(help="Images in each ranked split of a class; 10 by default.", min=1)] = None,
    share: Annotated[float | None, typer.Option(help="The same as a share of the class's images, up to 0.5.")] = None,
    name: Annotated[str, typer.Option(help="Title of the dataset.")] = "Spuriosity rankings",
    embed: Annotated[
        list[str] | None,
        typer.Option(help="Put the pixels of this image folder, or these shards, into the dataset."),
    ] = None,
    image_license: Annotated[
        str | None, typer.Option(help="The licence under which you may pass these pixels on.")
    ] = None,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
    max_label_problems: MaxLabelProblems = MAX_LABEL_PROBLEMS,
) -> None:
    """Sort the images of each class by how strongly they show its spurious features.

    Writes ranks, percentiles and the ranked splits low, middle and high as a dataset without pixels.
    """
    config = validated(
        RankConfig,
        bank=str(bank),
        features=_by_split(features, split),
        verdict=verdict,
        concepts=tuple(concept or ()),
        controls=controls,
        k=k,
        share=share,
        name=name,
        embed=tuple(embed or ()),
        image_license=image_license,
        allow_pipe=allow_pipe,
        max_label_problems=max_label_problems,
    )
    for path in dict.fromkeys(path for stores in config.features.values() for path in stores):
        open_store(path)
    with progress_bar("classes") as bar:
        tasks = {s: bar.add_task(s, total=None, note="") for s in config.features}
        result = rank(config, out, progress=lambda s, done, n: bar.update(tasks[s], completed=done, total=n))
    for labels in result.labels:
        say_labels(labels)
    _show(result, config)


def _by_split(given: list[str], default: str) -> dict[str, tuple[str, ...]]:
    stores: dict[str, tuple[str, ...]] = {}
    for one in given:
        named = re.fullmatch(r"([\w.]+)=(.+)", one)
        split, path = named.groups() if named else (default, one)
        stores[split] = (*stores.get(split, ()), path)
    return stores


def _show(result: RankResult, config: RankConfig) -> None:
    info = result.info
    for left in info.left_out[:_SHOWN]:
        console.print(f"  {left.split}, {left.class_id}: {left.reason}", highlight=False, markup=False, soft_wrap=True)
    if len(info.left_out) > _SHOWN:
        console.print(f"  … and {len(info.left_out) - _SHOWN} more in {result.path}/rankings.json", markup=False)
    concepts = sum(map(len, info.concepts.values()))
    how = "named" if config.concepts else config.verdict or "spurious" if info.judged else "unjudged"
    typer.echo(f"{result.path}: by {concepts} {how} concepts of {len(info.concepts)} classes.")
    if not info.judged and not config.concepts:
        typer.echo("the bank carries no verdicts: all its concepts count as spurious.")
    for split in config.features:
        n = {what: info.counts.get(f"{split}_{what}", 0) for what in _COUNTED}
        typer.echo(f"{split}: " + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in n.items()) + ".")


_COUNTED = (
    "images",
    "classes",
    "controls",
    "classes_without_concept",
    "unlabelled_images",
    "repeated_images",
    "constant_concepts",
)
