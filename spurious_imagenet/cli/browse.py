"""``spurious browse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.browse.browse import WORKSPACE, build
from spurious_imagenet.builders.browse.gallery import Gallery, default_cache
from spurious_imagenet.builders.fiftyone_app.app import connect, listen, page, serve
from spurious_imagenet.builders.fiftyone_app.mongo import Mongo
from spurious_imagenet.cli.options import ShardsNow, console
from spurious_imagenet.cli.review_open import Browser, Port, Remote, announce
from spurious_imagenet.cli.stores import open_store

__all__ = ["command"]


def command(
    source: Annotated[Path, typer.Argument(help="Published dataset folder, or a candidates folder.")],
    features: Annotated[
        Path | None, typer.Option(help="Feature store with these images, usually the pool's: adds a map of them.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where to extract the images to.")] = None,
    shards: ShardsNow = None,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
    port: Port = None,
    browser: Browser = True,
    remote: Remote = False,
) -> None:
    """Open a published dataset or a candidates folder in FiftyOne."""
    gallery = Gallery.open(source)
    store = open_store(features) if features is not None else None
    folder = (cache or default_cache()) / gallery.identity
    with listen(port) as listener:
        mongo = Mongo(folder / "mongo")
        try:
            with console.status("extracting images") as status:
                images = gallery.extract(
                    folder / "images",
                    shards=tuple(shards or ()),
                    allow_pipe=allow_pipe,
                    progress=lambda n: status.update(f"{n} images extracted"),
                )
                status.update("starting FiftyOne")
                mongo.ensure()
            dataset = build(connect(mongo.uri, f"spurious-browse-{gallery.identity}"), gallery, images, store)
            address = page(listener, dataset.name, WORKSPACE)
            serve(listener, images.values(), lambda: announce(address, browser, remote))
        finally:
            mongo.release()
