"""Reviews, Apps and labelers' processes for the tests of the FiftyOne side."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spurious_imagenet.builders.fiftyone_app.mongo import find_mongod
from spurious_imagenet.builders.review.forms import load_form
from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.errors import ConfigError

# No part of any other word that the App sends.
LABELERS = ("quillfeather", "brackenmoor")


def skip_without_fiftyone() -> None:
    if importlib.util.find_spec("fiftyone") is None:
        pytest.skip("FiftyOne is not installed")
    try:
        find_mongod()
    except ConfigError as error:
        pytest.skip(str(error))


def picture(colour: tuple[int, int, int], side: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


def make_review(path: Path, n: int, labelers: Sequence[str] = LABELERS, own_images: bool = True) -> Review:
    """``n`` image items of two classes, each with a reference image and a board; all share one image if not own."""
    media = [("media/reference.png", picture((40, 160, 60))), ("media/board.png", picture((230, 230, 230), 200))]
    media += [(f"media/{i:04d}.png", picture((8 * i % 256, 90, 200))) for i in range(n if own_images else 1)]
    items = [
        ReviewItem(
            item_id=f"image-{i:04d}",
            kind="image",
            media=f"media/{i if own_images else 0:04d}.png",
            class_id=f"n{i % 2}",
            class_name=("goldfish", "monarch")[i % 2],
            concept_id=f"n{i % 2}/npca-0003",
            component=3,
            references=("media/reference.png",),
            board="media/board.png",
            gold={"cue": "yes", "object": "no"} if i == 0 else None,
        )
        for i in range(n)
    ]
    return Review.create(path, "test-review", load_form("image"), items, labelers, media=media)


# FiftyOne takes this file for a sign that it runs in a container, where a session of its own listens everywhere.
_IN_CONTAINER = """
import os.path
exists = os.path.exists
os.path.exists = lambda path: path == "/.dockerenv" or exists(path)
"""
_OPEN = (
    _IN_CONTAINER
    + """
import typer
from spurious_imagenet.cli import review_open
serve = review_open.serve
def checked(*args):
    from fiftyone.core.utils import is_container
    assert is_container()
    serve(*args)
review_open.serve = checked
app = typer.Typer()
app.command()(review_open.command)
app()
"""
)


class App:
    """``spurious review open`` in a process of its own."""

    def __init__(self, arguments: Sequence[str], code: str = _OPEN) -> None:
        started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={k: v for k, v in os.environ.items() if not k.startswith(("FIFTYONE_", "SPURIOUS_"))},
        )
        self.output = ""
        self._started = started

    def wait(self, seconds: float = 300) -> App:
        """Wait until the page can be opened."""
        stdout = self.process.stdout
        assert stdout is not None
        while "open http" not in self.output:
            ready = select.select([stdout], [], [], 1.0)[0]
            self.output += os.read(stdout.fileno(), 65536).decode() if ready else ""
            assert self.process.poll() is None, self.output
            assert time.monotonic() - self._started < seconds, self.output
        self.seconds = time.monotonic() - self._started
        self.url = self.output.partition("open ")[2].split()[0]
        return self

    @property
    def base(self) -> str:
        return self.url.partition("/datasets")[0]

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        return self._open(urllib.request.Request(self.base + path, headers=headers))

    def execute(self, operator: str, **params: Any) -> dict[str, Any]:
        """Run an operator of the review's plugin over HTTP."""
        body = json.dumps({"operator_uri": f"@spurious-imagenet/review/{operator}", "params": params}).encode()
        request = urllib.request.Request(self.base + "/operators/execute", body, {"Content-Type": "application/json"})
        status, reply = self._open(request)
        assert status == 200, reply
        content: dict[str, Any] = json.loads(reply)
        return content

    @staticmethod
    def _open(request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def stop(self) -> str:
        """End it as Ctrl-C does; return all that it said."""
        self.process.send_signal(signal.SIGINT)
        self.output += self.process.communicate(timeout=60)[0].decode()
        return self.output
