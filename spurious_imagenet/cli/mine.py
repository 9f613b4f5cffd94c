"""``spurious mine``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from spurious_imagenet.builders.mining import MineConfig, MineResult, mine
from spurious_imagenet.cli.options import Backend, Device, ShardsNow, Workers, progress_bar, validated
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.cli.tables import Sheet

__all__ = ["command"]

_SHOWN = 60


def command(
    bank: Annotated[Path, typer.Option(help="Concept bank of the scoring model.")],
    features: Annotated[Path, typer.Option(help="Feature store of the pool, by the scoring model.")],
    out: Annotated[Path, typer.Option(help="Candidates directory; an unfinished one is resumed.")],
    agree: Annotated[
        list[str] | None, typer.Option(help="Model spec of a further voter; give it once a model.")
    ] = None,
    min_agree: Annotated[int, typer.Option(help="Votes needed, the scoring model's included.", min=1)] = 2,
    top: Annotated[int, typer.Option(help="Images of highest α looked at for each concept.", min=1)] = 625,
    keep: Annotated[int, typer.Option(help="Images kept for each concept.", min=1)] = 75,
    components: Annotated[
        str, typer.Option(metavar="N|all", help="Mine the first so many components of every class, or all.")
    ] = "10",
    concept: Annotated[list[str] | None, typer.Option(help="Mine this concept id only; may be given often.")] = None,
    verdict: Annotated[
        Literal["spurious", "core", "unclear"] | None,
        typer.Option(help="Mine the concepts with this verdict, and all of them (see `spurious annotate`)."),
    ] = None,
    near_duplicate_bits: Annotated[
        int, typer.Option(help="Largest hash distance of near-duplicates.", min=0, max=64)
    ] = 6,
    device: Device = "auto",
    backend: Backend = "auto",
    workers: Workers = None,
    shards: ShardsNow = None,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
) -> None:
    """Find the images of a pool that show a component without, perhaps, the class.

    Keeps the images of highest α that the scoring model assigns to the class and on which enough models agree.
    Rerun the same command to go on after an interruption.
    """
    config = validated(
        MineConfig,
        bank=str(bank),
        features=str(features),
        agree=tuple(agree or ()),
        min_agree=min_agree,
        top=top,
        keep=keep,
        components=None if components == "all" else components,
        concepts=tuple(concept or ()),
        verdict=verdict,
        near_duplicate_bits=near_duplicate_bits,
        device=device,
        backend=backend,
        workers=workers,
        shards=tuple(shards or ()),
        allow_pipe=allow_pipe,
    )
    open_store(features)
    with progress_bar("images") as bar:
        tasks = {step: bar.add_task(step, total=None, note="") for step in ("scoring", "voting")}
        result = mine(config, out, progress=lambda step, done, n: bar.update(tasks[step], completed=done, total=n))
    _show(result, config)


def _show(result: MineResult, config: MineConfig) -> None:
    concepts = result.concepts
    headers = ("class", "component", "found", "agreed", "near-duplicates", "kept", "")
    sheet = Sheet(headers, {"class", ""}, f"candidates of {len(concepts)} concepts in {result.path}")
    for c in concepts.head(_SHOWN).itertuples():
        remark = "" if c.enough else "too few"
        counts = (c.component, c.found, c.agreed, c.near_duplicates, c.kept)
        sheet.row(str(c.class_name), *map(str, counts), remark)
    sheet.print()
    if len(concepts) > _SHOWN:
        typer.echo(f"… and {len(concepts) - _SHOWN} more in {result.path}/concepts.parquet")
    few = int((~concepts["enough"]).sum())
    typer.echo(
        f"{result.images} images looked at, {result.kept_images} of them kept, for {int(concepts['kept'].sum())} pairs "
        f"of an image and a concept; {few} of {len(concepts)} concepts have fewer than {config.keep} "
        f"({config.min_agree} of {1 + len(config.agree)} models must agree)."
    )
