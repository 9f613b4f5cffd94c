"""What strangers send to a board's server."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leaderboard import make_submission, make_version  # the script one folder up

from reliability_cases import Seen, Workbench, case
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission import write_submission

_API = "/submit/gradio_api"
_HEAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="mine.zip"\r\n\r\n'


@contextmanager
def _served(folder: Path) -> Iterator[int]:
    """Serve a small board without entries; yields the port."""
    Store(folder / "board", create=True).add_version(make_version(2, 4, 4, resamples=20))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from spurious_imagenet.cli import main; main()"
    command = [sys.executable, "-c", code, "leaderboard", "serve", "board", "--port", str(port), "--max-upload", "1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                if _ask(port, "GET", "/about.html")[0] == 200:
                    break
            except OSError:
                time.sleep(0.2)
        yield port
    finally:
        process.kill()
        process.wait()


def _ask(port: int, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def _hand_in(port: int, reference: object) -> str:
    """Send the submit page's form."""
    file = {"path": str(reference), "orig_name": "mine.zip", "meta": {"_type": "gradio.FileData"}}
    sent = {"data": [file], "fn_index": 0, "session_hash": "s", "trigger_id": None}
    status, answer = _ask(port, "POST", f"{_API}/queue/join", json.dumps(sent))
    return f"{status}: {json.loads(answer).get('detail', 'taken')}"


def _submission(folder: Path) -> Path:
    version = Store(folder / "board").version()
    return write_submission(make_submission(version, 1), folder / "mine.zip")


def _entries(folder: Path) -> str:
    return f"entries: {len(Store(folder / 'board').entries())}"


@case("Server", "the submit form with a zip of the server's, a link to it, a folder, and a name that was never there")
def server_files(bench: Workbench) -> Seen:
    with _served(bench.folder) as port:
        there = _submission(bench.folder)
        link = bench.folder / "link.zip"
        link.symlink_to(there)
        said = {_hand_in(port, path) for path in (there, link, bench.folder, bench.folder / "never.zip")}
        return Seen(" / ".join(sorted(said)), _entries(bench.folder))


@case("Server", "an upload that is handed in twice")
def twice(bench: Workbench) -> Seen:
    with _served(bench.folder) as port:
        body = _HEAD + _submission(bench.folder).read_bytes() + b"\r\n--x--\r\n"
        (reference,) = json.loads(_ask(port, "POST", f"{_API}/upload", body, "multipart/form-data; boundary=x")[1])
        said = [_hand_in(port, reference) for _ in range(2)]
        _ask(port, "GET", f"{_API}/queue/data?session_hash=s")  # ends when the first has been checked
        return Seen(" / ".join(said), _entries(bench.folder))


@case("Server", "an upload that does not say how long it is, and is too long")
def endless(bench: Workbench) -> Seen:
    blocks = (b"x" * 65_536 for _ in range(48))  # 3 MiB where 1 is allowed
    with _served(bench.folder) as port:
        status, said = _ask(port, "POST", "/api/submissions", blocks, "application/zip")
        alive = _ask(port, "GET", "/index.html")[0]
        return Seen(f"{status}: {said}", f"{_entries(bench.folder)}; the board still answers {alive}")
