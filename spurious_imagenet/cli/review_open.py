"""``spurious review open``."""

from __future__ import annotations

import socket
import webbrowser
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from spurious_imagenet.builders.fiftyone_app.app import listen, page, serve
from spurious_imagenet.builders.review.fiftyone_session import LABELER, REVIEW, WORKSPACE, current_session
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.cli.options import console
from spurious_imagenet.process_state import environment

__all__ = ["Browser", "Port", "Remote", "announce", "command"]

Port = Annotated[
    int | None, typer.Option(help="TCP port; the first free one from 5151 on if not given.", min=1, max=65535)
]
Browser = Annotated[bool, typer.Option(help="Open the page in the browser.")]
Remote = Annotated[bool, typer.Option(help="This machine is not the one you sit at: print how to reach the page.")]


def command(
    review: Annotated[Path, typer.Argument(help="Review folder.")],
    labeler: Annotated[str, typer.Option(help="Who judges: one of the review's labelers.")],
    port: Port = None,
    browser: Browser = True,
    remote: Remote = False,
) -> None:
    """Judge your items of a review by keyboard, in a FiftyOne App of your own."""
    Review.open(review).queue(labeler)  # a wrong name must not cost a start of the App
    with environment({REVIEW: str(review.resolve()), LABELER: labeler}), listen(port) as listener:
        console.print("starting FiftyOne …", highlight=False)
        session = current_session()
        address = page(listener, session.mirror.name, WORKSPACE)
        try:
            serve(listener, session.labeling.files(), lambda: announce(address, browser, remote))
        finally:
            session.close()
            state = session.labeling.state()
            typer.echo(f"{labeler}: {state['done']} of {state['total']} items judged; every answer is saved.")


def announce(address: str, browser: bool, remote: bool) -> None:
    """Say where the page is, and open it where that makes sense."""
    typer.echo(f"open {address} — Ctrl-C ends it.")
    if remote:
        port = urlsplit(address).port
        typer.echo(f"from your own machine, first: ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}")
    elif browser:
        webbrowser.open(address)
