"""``spurious features``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.features import ExtractionProgress, FeaturesConfig, FeaturesResult, extract_features
from spurious_imagenet.cli.options import (
    Backend,
    Device,
    ImageSize,
    MaxLabelProblems,
    MaxPixels,
    MinSide,
    Workers,
    console,
    progress_bar,
    say_labels,
    validated,
)
from spurious_imagenet.cli.stores import say_repeats
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, labels_of_store
from spurious_imagenet.images import DecodeLimits

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Option(help="Model spec, such as timm:resnet50.a1_in1k.")],
    out: Annotated[Path, typer.Option(help="Directory of the feature store; an unfinished one is resumed.")],
    shards: Annotated[
        list[str] | None, typer.Option(help="Shards: path, folder, glob, brace range, http(s):, any fsspec URL.")
    ] = None,
    reuse: Annotated[
        list[str] | None,
        typer.Option(help="Store of the encoder that a head: model reads; its images are not read again."),
    ] = None,
    image_size: ImageSize = None,
    device: Device = "auto",
    backend: Backend = "auto",
    precision: Annotated[
        str, typer.Option(help="float32, float16 or bfloat16 (autocast of the torch backends).")
    ] = "float32",
    batch_size: Annotated[int | None, typer.Option(help="Images per forward pass.", min=1)] = None,
    workers: Workers = None,
    max_reject_fraction: Annotated[float, typer.Option(help="Fail if a larger share is rejected.", min=0, max=1)] = 0.5,
    max_label_problems: MaxLabelProblems = MAX_LABEL_PROBLEMS,
    min_side: MinSide = DecodeLimits().min_side,
    max_pixels: MaxPixels = DecodeLimits().max_pixels,
    salvage: Annotated[bool, typer.Option(help="Score the readable part of damaged tars.")] = False,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
    verify: Annotated[bool, typer.Option(help="Hash finished shards again and compare.")] = False,
) -> None:
    """Run a model over shards and keep its penultimate features.

    One pass; every shard's part appears whole. Rerun the same command to go on after an interruption.
    """
    config = validated(
        FeaturesConfig,
        model=model,
        shards=tuple(shards or ()),
        reuse=tuple(reuse or ()),
        image_size=image_size,
        device=device,
        backend=backend,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        max_reject_fraction=max_reject_fraction,
        max_label_problems=max_label_problems,
        salvage=salvage,
        allow_pipe=allow_pipe,
        verify=verify,
        limits=DecodeLimits(min_side=min_side, max_pixels=max_pixels),
    )
    with progress_bar("shards") as bar:
        task = bar.add_task("features", total=None, note="")

        def show(p: ExtractionProgress) -> None:
            rate = p.images / p.seconds if p.seconds > 0 else 0.0
            note = f"{p.images} img, {rate:.0f} img/s, {p.rejects} rejected"
            bar.update(task, completed=p.shards_done, total=p.shards, note=note)

        result = extract_features(config, out, progress=show)
    _summarise(result)
    if result.failures:
        _, reason = result.failures[0]
        raise DataError(f"{len(result.failures)} shards could not be read and have no part, the first: {reason}")


def _summarise(result: FeaturesResult) -> None:
    receipts = [part.receipt for part in result.store.parts]
    scored = sum(r.scored for r in receipts)
    reasons = Counter(reject.reason.partition(":")[0] for r in receipts for reject in r.rejects)
    typer.echo(
        f"{result.store.path}: {scored} images scored, {sum(reasons.values())} rejected in {len(receipts)} shards "
        f"({result.made} made now, {result.found} found)."
    )
    turned = sum(r.turned or 0 for r in receipts)
    if turned:
        console.print(
            f"  {turned} scored as stored: their EXIF orientation, which viewers apply, is not applied here",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for reason, count in reasons.most_common(10):
        console.print(f"  {count} rejected: {reason}", highlight=False, markup=False, soft_wrap=True)
    for remark in _remarks(result):
        console.print(f"  {remark}", highlight=False, markup=False, soft_wrap=True)
    say_labels(labels_of_store([result.store]))
    say_repeats(result.store)
    for shard, reason in result.failures:
        console.print(f"  failed: {shard}: {reason}", highlight=False, markup=False, soft_wrap=True)


def _remarks(result: FeaturesResult) -> Iterator[str]:
    if result.hashed and result.found:  # of a first run all shards are hashed anyway
        yield (
            f"{result.hashed} shards were hashed ({result.hashed_bytes / 1e6:,.1f} MB read) to know whether they have "
            "been scored: they are not where they were, have another time of change, or are of the size of another."
        )
    if result.copies:
        copy, first = result.copies[0]
        yield f"{len(result.copies)} shards have the bytes of another one and count once, such as {copy}: {first}."
    if result.others:
        part = result.others[0]
        yield (
            f"{len(result.others)} of {len(result.store.parts)} parts are of shards that this run was not given, such "
            f"as {part.path} of {part.shard} ({len(part)} images); they count all the same: delete the folders of "
            "those that are not wanted."
        )
