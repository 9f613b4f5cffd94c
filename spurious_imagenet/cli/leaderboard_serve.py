"""``spurious leaderboard serve``, ``export`` and ``space``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.cli.options import console

__all__ = ["export", "serve", "space"]

Board = Annotated[str, typer.Argument(help="The board: a folder, or an address such as hf://datasets/org/results.")]


def serve(
    board: Board,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen at; 127.0.0.1 (or GRADIO_SERVER_NAME) if not given: this machine only."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="7860 (or GRADIO_SERVER_PORT) if not given.", min=1, max=65535)
    ] = None,
    submit: Annotated[bool, typer.Option(help="Let visitors hand in entries.")] = True,
    max_upload: Annotated[int, typer.Option(help="Largest upload, MiB.", min=1, max=4096)] = 256,
    uploads_a_minute: Annotated[int, typer.Option(help="Uploads of one address per minute.", min=1)] = 6,
    uploads_at_once: Annotated[int, typer.Option(help="Uploads at the same time, of all addresses.", min=1)] = 4,
    requests: Annotated[bool, typer.Option(help="Let visitors ask for published models to be run by a worker.")] = True,
    requests_an_hour: Annotated[int, typer.Option(help="Requests of one address an hour.", min=1)] = 10,
    hostname: Annotated[
        list[str] | None,
        typer.Option(help="Name by which a reverse proxy of this machine is asked; may be given often."),
    ] = None,
) -> None:
    """Serve a board and its submit page.

    Nothing listens beyond this machine unless `--host` (or GRADIO_SERVER_NAME, as on a Space) says so.
    """
    from dataclasses import replace

    from spurious_imagenet.leaderboard.app import ServeConfig, serve_board

    config = ServeConfig.of_environment()
    gate = replace(
        config.gate,
        upload=max_upload << 20,
        uploads_a_minute=uploads_a_minute,
        uploads_at_once=uploads_at_once,
    )
    config = replace(
        config,
        gate=gate,
        submit=submit,
        requests=requests,
        requests_an_hour=requests_an_hour,
        hostnames=tuple(hostname or ()),
        host=host or config.host,
        port=port or config.port,
    )
    console.print(f"  serving {board} at http://{config.host}:{config.port}/", highlight=False, markup=False)
    serve_board(board, config)


def export(
    board: Board,
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    predictions: Annotated[bool, typer.Option(help="Write every entry's predictions for download too.")] = True,
) -> None:
    """Write a board as a static site, which any web server or a browser alone shows."""
    from spurious_imagenet.leaderboard.pages.export import export_site
    from spurious_imagenet.leaderboard.store.store import Store

    with console.status("writing") as status:
        done = export_site(
            Store(board),
            out,
            predictions=predictions,
            progress=lambda files: status.update(f"{files} files"),
        )
    typer.echo(f"{done.path}: {done.entries} entries, {done.files} files, {done.bytes / 1e6:.1f} MB.")


def space(
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    board: Annotated[str, typer.Option(help="Where the board is: hf://datasets/ORG/NAME.")],
    title: Annotated[str, typer.Option(help="Title of the Space.")] = "Spurious ImageNet leaderboard",
    requirement: Annotated[
        str | None, typer.Option(help="What pip installs on the Space; this version of the package if not given.")
    ] = None,
) -> None:
    """Write the folder of a Hugging Face Space that serves a board of the Hub."""
    from spurious_imagenet.leaderboard.app.space import write_space

    path = write_space(out, board, title=title, requirement=requirement)
    typer.echo(f"{path}: README.md, app.py and requirements.txt; push the folder to a Space of the SDK gradio.")
