"""``spurious shards`` and ``spurious verify-shards``: pack an image folder, and check what was packed."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from spurious_imagenet.builders.shards import ShardManifest, ShardsConfig, pack_shards, verify_manifest
from spurious_imagenet.builders.shards.folder import ImageFolder
from spurious_imagenet.cli.options import console, image_counter, progress_bar
from spurious_imagenet.errors import ConfigError

__all__ = ["shards", "verify_shards"]


def shards(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of images, or of one folder a class.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="New directory for the tars and shards.json.")],
    metadata: Annotated[
        Path | None, typer.Option(help="CSV with a row an image (column ImageID, image_id, file_name or filename).")
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
    with image_counter("packed") as tell:
        manifest = pack_shards(config, progress=lambda record: tell(record.samples))
    if (reading := ImageFolder(source).reading) is not None:
        console.print(reading, highlight=False, markup=False, soft_wrap=True)
    for reason, files in sorted(manifest.skipped.items(), key=lambda item: -item[1]):
        console.print(f"  {files} skipped: {reason}", highlight=False, markup=False, soft_wrap=True)
    if manifest.without_metadata:
        console.print(f"  {manifest.without_metadata} images have no row in {metadata}", highlight=False, markup=False)
    typer.echo(
        f"{output}: {manifest.samples} images packed into {len(manifest.shards)} shards, "
        f"{sum(manifest.skipped.values())} files skipped."
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
