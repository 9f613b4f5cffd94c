"""``spurious shards`` and ``spurious verify-shards``: pack an image folder, and check what was packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from spurious_imagenet.builders.shards import (
    Coverage,
    ShardManifest,
    ShardsConfig,
    Survey,
    pack_shards,
    verify_manifest,
)
from spurious_imagenet.builders.shards.folder import ImageFolder
from spurious_imagenet.cli.options import console, image_counter, progress_bar
from spurious_imagenet.errors import ConfigError

__all__ = ["shards", "verify_shards"]


def shards(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of images, or of one folder per class.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="New directory for the tars and shards.json.")],
    metadata: Annotated[
        Path | None, typer.Option(help="CSV with a row per image (column ImageID, image_id, file_name or filename).")
    ] = None,
    images_per_shard: Annotated[int, typer.Option(min=1, help="Images in one tar.")] = 1000,
    prefix: Annotated[str, typer.Option(help="Start of the tars' names.")] = "images",
) -> None:
    """Pack a folder of images into WebDataset tars, bytes unchanged; run again to go on after a stop."""
    try:
        config = ShardsConfig(
            source=source, output=output, metadata=metadata, images_per_shard=images_per_shard, prefix=prefix
        )
    except ValidationError as error:
        raise ConfigError("; ".join(f"--{e['loc'][0]}: {e['msg']}" for e in error.errors())) from error
    if (reading := ImageFolder(source).reading) is not None:
        _tell(reading)
    with image_counter("packed") as tell:
        manifest = pack_shards(
            config,
            progress=lambda record: tell(record.samples),
            on_survey=lambda found: _say(found, metadata),
        )
    for reason, files in sorted(manifest.skipped.items(), key=lambda item: -item[1]):
        _tell(f"  {files} skipped: {reason}")
    typer.echo(
        f"{output}: {manifest.samples} images packed into {len(manifest.shards)} shards, "
        f"{sum(manifest.skipped.values())} files skipped."
    )


def _tell(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _say(found: Survey, metadata: Path | None) -> None:
    """Say before hours of packing what a user may want to mend first."""
    rows = () if found.coverage is None else _coverage(found.coverage, metadata)
    for line in (*rows, *_types(found.types)):
        _tell(line)


def _coverage(coverage: Coverage, metadata: Path | None) -> Iterator[str]:
    if coverage.without_row:
        named = _such_as(coverage.images_shown, coverage.without_row)
        yield f"{coverage.without_row} of {coverage.images} images have no row in {metadata}: {named}"
    if coverage.unused:
        named = _such_as(coverage.rows_shown, coverage.unused)
        yield f"{coverage.unused} of {coverage.rows} rows of {metadata} are of no image in the folder: {named}"


def _such_as(shown: Sequence[str], count: int) -> str:
    return ", ".join(map(repr, shown)) + (", …" if count > len(shown) else "")


def _types(types: Mapping[str, int]) -> Iterator[str]:
    if len(types) > 1:
        counted = ", ".join(f"{count} .{name}" for name, count in types.items())
        yield (
            f"The shards hold images of several types ({counted}). spurious reads them, but load_dataset of the "
            "library datasets refuses such shards, or loses images: for it, pack a folder of each type by itself."
        )


def verify_shards(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="shards.json, or the directory that holds it.")],
) -> None:
    """Compare shards with the hashes in their manifest; the exit code is 1 where one differs."""
    total = len(ShardManifest.load(manifest).shards)
    with progress_bar("shards") as bar:
        task, done = bar.add_task("verified", total=total, note=""), count(1)
        problems = verify_manifest(manifest, progress=lambda _: bar.update(task, completed=next(done)))
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{manifest}: {total} shards are as they were written.")
