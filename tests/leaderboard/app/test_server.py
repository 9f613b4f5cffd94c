"""``spurious leaderboard serve`` in a process of its own: what it takes, where it listens, what it survives."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from board_browser import CHROMIUM, BoardServer, Watched, browser, pictures, zip_of, zipped
from leaderboard_helpers import random_submission, random_table, tiny_version

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.leaderboard.app._uploads import Uploads
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.check import check_submission
from spurious_imagenet.leaderboard.worker.asking import model_request
from spurious_imagenet.leaderboard.worker.queue import Queue

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow
VERSION = tiny_version()
SECRET = "hf_" + "S3cretS3cretS3cret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardServer]:
    folder = tmp_path_factory.mktemp("served")
    Store(folder / "board", create=True).add_version(VERSION, pictures(VERSION))
    environment = {"HF_TOKEN": SECRET, "OMP_NUM_THREADS": "1"}
    options = ("--max-upload", "2", "--uploads-a-minute", "60", "--uploads-at-once", "3")
    started = BoardServer(folder / "board", folder / "log", *options, environment=environment)
    yield started
    started.kill()


def submission(server: BoardServer, seed: int, **changes: object) -> bytes:
    path = server.log.parent / f"{random.getrandbits(64):x}.zip"
    return zipped(random_submission(VERSION, seed, **changes), path).read_bytes()


def test_it_listens_on_this_machine_only(server: BoardServer) -> None:
    process = psutil.Process(server.process.pid)
    listening = [
        c.laddr
        for p in (process, *process.children(recursive=True))
        for c in p.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    ]
    assert [(a.ip, a.port) for a in listening] == [("127.0.0.1", server.port)]


def test_a_submission_has_its_page_at_once_and_once(server: BoardServer) -> None:
    body = submission(server, 1, model="<b>first</b>")
    status, answer = server.post("api/submissions", body)
    assert status == 200
    found = json.loads(answer)
    assert "&lt;b&gt;first&lt;/b&gt;" in server.get(found["page"])
    assert json.loads(server.post("api/submissions", body)[1])["entry"] == found["entry"]
    assert [e.id for e in Store(server.board).entries()].count(found["entry"]) == 1


def test_a_refusal_has_the_words_of_the_command_line(server: BoardServer, tmp_path: Path) -> None:
    table = random_table(VERSION, 1).iloc[2:]
    path = zip_of(tmp_path / "bad.zip", "model: '<img src=x onerror=window.pwned=1>'\nauthors: 5\n", table)
    status, answer = server.post("api/submissions", path.read_bytes())
    assert status == 422
    said = json.loads(answer)["problems"]
    assert said == [str(p) for p in check_submission(path, VERSION).problems]
    assert len(said) > 2


def test_a_burst_is_refused_in_sentences_and_the_server_lives(server: BoardServer) -> None:
    large = b"x" * (4 << 20)
    junk = b"PK" + b"x" * 100_000
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda i: server.post("api/submissions", junk if i % 3 else large), range(90)))
    assert {status for status, _ in answers[::3]} == {413}
    assert {status for status, _ in answers} <= {413, 422, 429, 503}
    assert sum(status == 422 for status, _ in answers) <= 60
    assert any(status in {429, 503} for status, _ in answers)
    for _, said in answers:
        (sentence,) = json.loads(said)["problems"] if said.startswith("{") else (said,)
        assert sentence.endswith(".")
        assert sentence.count("\n") == 0
    assert server.status("index.html") == 200


def test_a_page_of_another_site_cannot_submit(server: BoardServer) -> None:
    body = submission(server, 77)
    before = len(Store(server.board).entries())
    for headers in ({"Origin": "https://evil.invalid"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        status, said = server.post("api/submissions", body, **headers)
        assert (status, said) == (403, "This was sent by a page of another site: open the board and submit there.")
        assert server.post("submit/gradio_api/queue/join", b"{}", **headers)[0] == 403
    status, said = server.post("api/submissions", body, Host="evil.invalid")
    assert status == 421
    assert "--hostname" in said
    assert len(Store(server.board).entries()) == before


def test_every_route_has_only_its_own_files(server: BoardServer) -> None:
    for folder in ("", "models/", "images/", "classes/", "assets/", "data/", "pictures/images/", "downloads/entries/",
                   "submit/", "submit/assets/", "submit/static/", "submit/svelte/"):  # fmt: skip
        for up in ("../" * 6, "..%2f" * 6, "%2e%2e/" * 6, "..%5c" * 6, "/", "%00"):
            for file in ("etc/passwd", "tmp/x.html"):
                assert server.raw(f"/{folder}{up}{file}") in {400, 403, 404, 405}, folder + up
    assert server.raw("/" + "a" * 60_000) in {400, 404, 414}
    assert server.raw("/" + "a" * 1_000_000) in {None, 400, 404, 414}
    assert server.raw("/index.html", "HEAD") == 200
    assert server.raw("/index.html", "GET", "Range: bytes=0-10,5-7") == 200
    assert server.status("index.html") == 200


def test_a_killed_server_has_all_entries_again(server: BoardServer) -> None:
    server.kill()
    server.restart()  # a new minute of uploads too
    assert server.status("submit") == 200
    accepted = []
    for seed in range(20, 24):
        status, answer = server.post("api/submissions", submission(server, seed))
        assert status == 200, answer
        accepted.append(json.loads(answer)["entry"])
    server.kill()
    server.restart()
    table = server.get("data/table-1.0.0.js")
    assert all(entry in table for entry in accepted)
    assert server.status(f"models/{accepted[-1]}.html") == 200


def test_nothing_tells_the_token_or_reads_files(server: BoardServer) -> None:
    paths = ["", "about.html", "submit/", "submit/config", "submit/theme.css", "nothing.html"]
    for path in paths:
        if server.status(path) == 200:
            assert SECRET not in server.get(path)
    assert SECRET not in server.log.read_text()
    for path in (
        "submit/gradio_api/file=/etc/passwd",
        "submit/gradio_api/openapi.json",
        "submit/gradio_api/file/etc/passwd",
        "submit/monitoring",
        "docs",
        "openapi.json",
        "%2e%2e/%2e%2e/etc/passwd",
    ):
        assert server.status(path) == 404, path


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")
def test_a_stranger_submits_in_the_browser(server: BoardServer, tmp_path: Path) -> None:
    good = zipped(random_submission(VERSION, 50, model="by browser"), tmp_path / "good.zip")
    bad = zip_of(
        tmp_path / "bad.zip", "model: '<img src=x onerror=window.pwned=1>'\n", random_table(VERSION, 1).iloc[:5]
    )
    with browser() as started:
        watched = Watched(started.new_page())
        page = watched.open(f"{server.base}submit/", "input[type=file]")
        for path, outcome in ((bad, "Refused"), (good, "Accepted")):
            with page.expect_response("**/gradio_api/upload*"):
                page.set_input_files("input[type=file]", str(path))
            page.wait_for_selector(f"text={path.stem}", timeout=300_000)
            page.get_by_role("button", name="Submit").click()
            page.wait_for_selector(f"#outcome:has-text('{outcome}')", timeout=300_000)
            if outcome == "Refused":
                said = page.locator("#problems textarea").input_value().splitlines()
                assert said == [str(p) for p in check_submission(bad, VERSION).problems]
        with page.expect_popup() as opened:
            page.get_by_role("link", name="Open the entry").click()
        opened.value.wait_for_selector("h1:has-text('by browser')")
        outside = [a for a in watched.asked if not a.startswith((server.base, "data:", "blob:"))]
        assert outside == []
        assert page.evaluate("window.pwned") is None


#: Uploads one more file from within the page.
_UPLOAD_ANOTHER = """async () => {
  const form = new FormData();
  form.append("files", new Blob(["zip"]), "another.zip");
  return (await fetch("gradio_api/upload", {method: "POST", body: form})).status;
}"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")
def test_an_upload_that_the_server_has_forgotten_is_asked_for_again(server: BoardServer, tmp_path: Path) -> None:
    path = zipped(random_submission(VERSION, 51), tmp_path / "kept.zip")
    with browser() as started:
        page = Watched(started.new_page()).open(f"{server.base}submit/", "input[type=file]")
        with page.expect_response("**/gradio_api/upload?*"):
            page.set_input_files("input[type=file]", str(path))
        page.wait_for_selector(f"text={path.stem}", timeout=300_000)
        for _ in range(Uploads().each):  # so many of one visitor are kept: the first is forgotten
            while page.evaluate(_UPLOAD_ANOTHER) == 429:
                page.wait_for_timeout(2000)
        page.wait_for_timeout(2500)  # a refusal counts as an upload, for which there must be one left
        page.get_by_role("button", name="Submit").click()
        page.wait_for_selector("text=No such upload is waiting here: choose the file again", timeout=300_000)


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")
def test_a_stranger_asks_for_a_model_in_the_browser(server: BoardServer) -> None:
    typed = {"model": "<img src=x onerror=window.pwned=1>", "authors": "Ada", "training_data": "none", "licence": "MIT"}
    with browser() as started:
        watched = Watched(started.new_page(viewport={"width": 390, "height": 844}))
        page = watched.open(f"{server.base}submit/", "#ask-spec")
        for spec, outcome in (("file:/etc/passwd", "Refused"), ("timm:resnet18.a1_in1k", "Asked")):
            for field, text in {**typed, "spec": spec}.items():
                page.locator(f"#ask-{field}").locator("input, textarea").fill(text)
            page.get_by_role("button", name="Ask for it").click()
            page.wait_for_selector(f"#request-outcome:has-text('{outcome}')", timeout=300_000)
            if outcome == "Refused":
                with pytest.raises(ConfigError) as refused:
                    model_request({**typed, "spec": spec, "authors": ("Ada",), "protocol": "standard"})
                assert page.locator("#request-problems textarea").input_value() == str(refused.value)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        (queued,) = Queue(Store(server.board).place).all()
        assert (queued.request.spec, queued.request.model) == ("timm:resnet18.a1_in1k", typed["model"])
        for _ in range(60):
            watched.open(f"{server.base}requests.html")
            if page.locator("tbody tr").count():
                break
            page.wait_for_timeout(250)
        assert page.locator("tbody tr").inner_text().split()[:2] == ["<img", "src=x"]
        assert "waiting" in page.locator("tbody tr").inner_text()
        watched.assert_quiet(server.base)
