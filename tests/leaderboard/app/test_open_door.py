"""A request may name a file of the server in many ways; none of them opens it or tells whether it is there."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from board_browser import BoardServer, pictures, zipped
from fastapi import FastAPI
from leaderboard_helpers import random_submission, tiny_version
from starlette.routing import Mount
from starlette.testclient import TestClient

from spurious_imagenet.leaderboard.app._checker import CheckOutcome
from spurious_imagenet.leaderboard.app._submit_page import mount_submit_page
from spurious_imagenet.leaderboard.store.store import Store

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow
VERSION = tiny_version()
API = "submit/gradio_api"
NO_UPLOAD = "No such upload is waiting here: choose the file again, and submit it within an hour."
SECRET = "what the keeper wrote down"


class Visitor:
    """Talks to a server from an address of this machine."""

    def __init__(self, server: BoardServer, address: str = "127.0.0.1") -> None:
        self.server, self.address = server, address

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.server.port, timeout=120, source_address=(self.address, 0)
        )
        connection.request(method, f"/{path}", body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")

    def upload(self, content: bytes) -> tuple[int, str]:
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'
        body = head + content + b"\r\n--x--\r\n"
        return self.ask("POST", f"{API}/upload", body, content_type="multipart/form-data; boundary=x")

    def join(self, path: str, session: str = "s1") -> tuple[int, str]:
        status, said = self.ask("POST", f"{API}/queue/join", json.dumps(form(path, session)))
        return status, json.loads(said).get("detail", "")


def form(path: str, session: str = "s1") -> dict[str, Any]:
    """Return what the page's first form sends."""
    file = {"path": path, "orig_name": "a.zip", "meta": {"_type": "gradio.FileData"}}
    return {"data": [file], "fn_index": 0, "session_hash": session, "trigger_id": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the server's temporary folder and files that nobody uploaded."""
    made = tmp_path_factory.mktemp("served")
    zipped(random_submission(VERSION, 1), made / "beside.zip")
    (made / "secret.txt").write_text(SECRET)
    inside = made / "tmp/gradio/0123456789abcdef"
    inside.mkdir(parents=True)
    zipped(random_submission(VERSION, 2), inside / "inside.zip")
    (inside / "link.zip").symlink_to(made / "beside.zip")
    (inside / "hard.zip").hardlink_to(made / "beside.zip")
    (inside / "dangling.zip").symlink_to(made / "nothing")
    state = made / "tmp/gradio/deep_links/0123456789abcdef"
    state.mkdir(parents=True)
    (state / "state.json").write_text(json.dumps([{"id": 1, "props": {"value": SECRET}}]))
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[BoardServer]:
    Store(folder / "board", create=True).add_version(VERSION, pictures(VERSION))
    environment = {"TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
    options = ("--max-upload", "2", "--uploads-a-minute", "30")
    started = BoardServer(folder / "board", folder / "log", *options, environment=environment)
    yield started
    started.kill()


@pytest.fixture(scope="module")
def entry(server: BoardServer, folder: Path) -> str:
    """An upload, handed in as the page does it; the id of its entry."""
    visitor = Visitor(server, "127.0.0.5")
    status, answer = visitor.upload(zipped(random_submission(VERSION, 3), folder / "own.zip").read_bytes())
    assert status == 200
    (reference,) = json.loads(answer)
    assert Visitor(server, "127.0.0.6").join(reference, "other") == (403, NO_UPLOAD)
    assert visitor.join(reference, "own") == (200, "")
    assert visitor.join(reference, "again") == (403, NO_UPLOAD)
    assert visitor.join("own.zip") == visitor.join(str(folder / "own.zip")) == (403, NO_UPLOAD)
    _, events = visitor.ask("GET", f"{API}/queue/data?session_hash=own")
    found = re.search(r"### Accepted.*models/([0-9a-f]{64})\.html", events)
    assert found, events
    return found[1]


def test_what_a_visitor_uploaded_is_taken_once_and_from_nobody_else(server: BoardServer, entry: str) -> None:
    assert [e.id for e in Store(server.board).entries()] == [entry]
    assert server.status(f"models/{entry}.html") == 200


def test_what_nobody_uploaded_is_refused_alike_whether_it_is_there_or_not(
    server: BoardServer, folder: Path, entry: str
) -> None:
    inside = folder / "tmp/gradio/0123456789abcdef"
    stored = folder / "board/entries" / entry[:2] / f"{entry}.predictions.parquet"
    there = [
        folder / "beside.zip",
        inside / "inside.zip",
        inside / "link.zip",
        inside / "hard.zip",
        inside / "dangling.zip",
        inside,
        folder / "tmp",
        stored,
        folder / "log",
        Path("/proc/self/environ"),
    ]
    assert stored.is_file()
    absent = [folder / "never.zip", inside / "never.zip", folder / "never/never.zip"]
    relative = ["beside.zip", "../beside.zip", "", ".", f"file://{folder}/beside.zip", server.base, f"{entry}.zip"]
    visitor = Visitor(server, "127.0.0.2")
    for name in [*there, *absent, *relative]:
        assert visitor.join(str(name)) == (403, NO_UPLOAD), name
    assert [e.id for e in Store(server.board).entries()] == [entry]
    assert "Traceback" not in server.log.read_text()


def test_who_asks_for_such_files_has_no_uploads_left(server: BoardServer, folder: Path) -> None:
    visitor = Visitor(server, "127.0.0.3")
    answers = [visitor.join(str(folder / "beside.zip"))[0] for _ in range(40)]
    assert answers[:30] == [403] * 30
    assert 429 in answers[30:]
    status, said = visitor.upload(b"zip")
    assert (status, said) == (429, "Too many uploads from one address: expected at most 30 per minute.")
    assert Visitor(server, "127.0.0.4").upload(b"zip")[0] == 200


def test_no_route_of_the_page_s_library_gives_a_file_away(server: BoardServer, folder: Path) -> None:
    mounted = FastAPI()
    mount_submit_page(mounted, lambda file: CheckOutcome(None, ()), None, name="b", upload=1 << 20, queue=8)
    (page,) = [route for route in mounted.routes if isinstance(route, Mount)]
    routes = [(path, method) for path, found in page.app.openapi()["paths"].items() for method in found]  # type: ignore[attr-defined]
    assert len(routes) > 70
    visitor = Visitor(server, "127.0.0.7")
    secret, deep = folder / "secret.txt", "deep_link=0123456789abcdef"
    for path, method in routes:
        for name in (quote(str(secret)), "..%2f" * 12 + quote(str(secret))[1:]):
            asked = "submit" + re.sub(r"\{[^}]*\}", name, path)
            status, said = visitor.ask(method.upper(), f"{asked}?{deep}", json.dumps(form(str(secret))))
            assert SECRET not in said, asked
            assert status in {400, 403, 404, 405} or "{" not in path, (asked, status)


def test_a_body_without_a_length_is_counted_too(server: BoardServer) -> None:
    def blocks() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'
        for _ in range(64):  # 4 MiB
            yield b"x" * 65_536

    visitor = Visitor(server, "127.0.0.8")
    said = "The request is too large: expected at most 3 MiB."
    for path in ("api/submissions", f"{API}/upload"):
        kind = "multipart/form-data; boundary=x"
        assert visitor.ask("POST", path, blocks(), content_type=kind) == (413, said)
    assert "Traceback" not in server.log.read_text()


def test_the_page_s_library_refuses_every_path_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "a")
    received: list[io.BytesIO] = []
    app, before = FastAPI(), dict(os.environ)

    def receive(file: Any) -> CheckOutcome:
        received.append(file)
        return CheckOutcome(None, ("taken",))

    forms = mount_submit_page(app, receive, None, name="b", upload=1 << 20, queue=8)
    assert forms == {0: ("file",)}
    assert dict(os.environ) == before
    with TestClient(app) as client:
        for path in (tmp_path / "a.zip", tmp_path / "never.zip"):
            assert client.post(f"/{API}/queue/join", json=form(str(path))).status_code == 200
            events = client.get(f"/{API}/queue/data?session_hash=s1").text
            assert '"success":false' in events
            assert str(tmp_path) not in events
    assert received == []
