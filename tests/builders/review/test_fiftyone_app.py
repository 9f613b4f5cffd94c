"""Two labelers in two App processes: over HTTP, on the network, and by keyboard in a browser."""

from __future__ import annotations

import os
import shutil
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from fiftyone_helpers import LABELERS, App, make_review, skip_without_fiftyone

from spurious_imagenet.builders.review.review import Review

pytestmark = pytest.mark.slow
ITEMS = 20
ANN, BOB = LABELERS


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Review:
    skip_without_fiftyone()
    return make_review(tmp_path_factory.mktemp("app") / "review", ITEMS)


@pytest.fixture(scope="module")
def running(review: Review) -> Iterator[dict[str, App]]:
    arguments = [str(review.path), "--no-browser", "--labeler"]
    started = {name: App([*arguments, name]) for name in LABELERS}
    try:
        yield {name: app.wait() for name, app in started.items()}
    finally:
        said = {name: app.stop() for name, app in started.items()}
    done = {name: len(review.verdicts(name)) for name in LABELERS}
    assert all(f"{name}: {done[name]} of {ITEMS} items judged" in said[name] for name in LABELERS), said
    assert not _mongods(review), "the last App left the server running"


@pytest.fixture
def apps(running: dict[str, App]) -> Iterator[dict[str, App]]:
    """Both Apps, in which nothing is judged when a test begins, whichever ran before it."""
    yield running
    for app in running.values():
        state = app.execute("state")["result"]
        while state["can_undo"]:
            state = app.execute("undo")["result"]


def _mongods(review: Review) -> list[psutil.Process]:
    data = str(review.path / "mongo" / "data")
    running = [p for p in psutil.process_iter(["cmdline", "status"]) if p.info["status"] != psutil.STATUS_ZOMBIE]
    return [p for p in running if data in (p.info["cmdline"] or [])]


def test_nothing_listens_beyond_the_loopback_interface_though_a_container_is_detected(
    review: Review, apps: dict[str, App]
) -> None:
    own = [psutil.Process(app.process.pid) for app in apps.values()]
    tree = {p for process in own for p in (process, *process.children(recursive=True))} | set(_mongods(review))
    listening = {c.laddr for p in tree for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert len(listening) == 3, "two Apps and one mongod"
    assert len(_mongods(review)) == 1
    print({name: f"{app.seconds:.1f} s to the first page" for name, app in apps.items()})


def test_no_file_is_served_but_what_the_labeler_judges(review: Review, apps: dict[str, App]) -> None:
    app = apps[BOB]
    media = review.media_path(review.items["image-0003"].media)
    assert app.get(f"/media?filepath={media}")[1] == media.read_bytes()
    for path in ("/etc/passwd", review.path / "journal" / f"{ANN}.jsonl", f"{media}/../../review.json"):
        assert app.get(f"/media?filepath={path}")[0] == 403
        assert app.get(f"/media?filepath={media}&filepath={path}")[0] == 403
    assert app.get("/fiftyone", Origin="http://elsewhere.example")[0] == 403
    assert app.get("/fiftyone", Host="elsewhere.example")[0] == 403
    assert app.get("/fiftyone", Origin=app.base)[0] == 200


def test_the_operators_run_over_http(review: Review, apps: dict[str, App]) -> None:
    app = apps[ANN]
    state = app.execute("state")["result"]
    first = state["item"]["item_id"]
    assert first == review.queue(ANN)[0]
    assert (state["current"], state["done"], state["total"]) == ("cue", 0, ITEMS)
    assert not {"gold", "info"} & set(state["item"])

    half = app.execute("answer", item_id=first, question="cue", answer="yes")["result"]
    assert (half["item"]["item_id"], half["current"], half["done"]) == (first, "object", 0)
    assert dict(review.verdicts(ANN)[first].answers) == {"cue": "yes"}
    whole = app.execute("answer", item_id=first, question="object", answer="no")["result"]
    assert (whole["item"]["item_id"], whole["current"], whole["done"]) == (review.queue(ANN)[1], "cue", 1)
    assert review.verdicts(ANN)[first].outcome == "accept"
    assert app.execute("go", item_id=first, step=2)["result"]["position"] == 3

    assert app.execute("undo")["result"]["questions"][1]["answer"] is None
    assert app.execute("undo")["result"]["item"]["item_id"] == first
    assert not review.verdicts(ANN)

    for wrong in ({"item_id": "image-9999"}, {"item_id": first, "question": "colour", "answer": "yes"}):
        assert app.execute("answer", **({"question": "cue", "answer": "yes"} | wrong))["error_message"]
    assert "colour" in app.execute("judge", item_id=first, answers={"colour": "yes"})["error_message"]
    assert not review.verdicts(ANN)


class _Traffic:
    """All text that a page receives: answers, the stream of the App's events, and websockets."""

    def __init__(self, page: Any) -> None:
        self.data: list[str] = []
        self.streamed: list[str] = []
        self.hosts: set[str | None] = set()
        page.on("response", self._response)
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: self.data.append(str(frame))))
        self._cdp = page.context.new_cdp_session(page)
        self._cdp.on("Network.responseReceived", self._stream)
        self._cdp.on("Network.dataReceived", lambda event: self._keep(event.get("data", "")))
        self._cdp.send("Network.enable")

    def _response(self, response: Any) -> None:
        url = urlsplit(response.url)
        if url.scheme in {"http", "https"}:
            self.hosts.add(url.hostname)
            if "json" in response.headers.get("content-type", ""):
                self.data.append(response.text())

    def _stream(self, event: dict[str, Any]) -> None:
        if event["response"]["mimeType"] == "text/event-stream":
            reply = self._cdp.send("Network.streamResourceContent", {"requestId": event["requestId"]})
            self._keep(reply["bufferedData"])

    def _keep(self, base64: str) -> None:
        self.streamed.append(b64decode(base64).decode(errors="replace"))

    @property
    def text(self) -> str:
        return "\n".join([*self.data, "".join(self.streamed)])


class _Labeler:
    """A person at a keyboard, who answers as the item's number says."""

    def __init__(self, browser: Any, app: App, name: str, keys: dict[int, tuple[str, str]]) -> None:
        self.page = browser.new_context(viewport={"width": 1400, "height": 860}).new_page()
        self.traffic, self.name, self.keys = _Traffic(self.page), name, keys
        self.page.goto(app.url, wait_until="commit", timeout=180_000)
        self.page.wait_for_selector(".sr[data-done='0'] .question.now", timeout=180_000)

    def judge(self, done: int) -> None:
        item_id = self.page.locator(".sr .main").get_attribute("data-item")
        for key in self.keys[int(item_id[-4:]) % 2]:
            self.page.keyboard.press(key)
        self.page.wait_for_selector(f".sr[data-done='{done + 1}']", timeout=60_000)

    def screenshot(self, folder: Path, name: str) -> None:
        self.page.wait_for_function(
            "[...document.querySelectorAll('.sr img')].every(i => i.complete && i.naturalWidth)"
        )
        self.page.screenshot(path=str(folder / f"{name}.png"))


def _chromium(playwright: Any) -> Any:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed")
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


def test_two_labelers_judge_by_keyboard_alone_and_blind(review: Review, apps: dict[str, App], tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    shots = Path(os.environ.get("SPURIOUS_SCREENSHOTS", tmp_path))
    with api.sync_playwright() as playwright, _chromium(playwright) as browser:
        # Only the first ever says "unclear", so that word in what the second receives would be hers.
        ann = _Labeler(browser, apps[ANN], ANN, {0: ("u", "u"), 1: ("u", "y")})
        bob = _Labeler(browser, apps[BOB], BOB, {0: ("y", "n"), 1: ("n", "y")})
        started = time.monotonic()
        for done in range(ITEMS):
            ann.judge(done)
            if done == 2:
                _changes_their_mind(bob, review)
            bob.judge(done)
            if done == 11:
                bob.screenshot(shots, "review-image")
        seconds = time.monotonic() - started
        bob.page.wait_for_selector(".sr .done")
        bob.screenshot(shots, "review-done")
        _one_key_too_many_changes_nothing(bob, review)
        traffic = {person.name: person.traffic for person in (ann, bob)}
    print(f"{2 * ITEMS * 60 / seconds:.0f} items a minute, two pages in turn")

    _said_what_they_pressed(review)
    for name, other in ((ANN, BOB), (BOB, ANN)):
        recorded = traffic[name]
        assert recorded.hosts == {"127.0.0.1"}
        assert len(recorded.data) > 2 * ITEMS
        assert "StateUpdate" in "".join(recorded.streamed) or "state_update" in "".join(recorded.streamed)
        assert f"{name}_outcome" in recorded.text, "the check does not see the page's own fields"
        assert other not in recorded.text
    assert '"answer": "unclear"' in traffic[ANN].text
    assert '"unclear"' not in traffic[BOB].text
    assert review.queue(ANN) != review.queue(BOB)


def _changes_their_mind(person: _Labeler, review: Review) -> None:
    """Look on and back, answer wrongly, undo: all by keys, and nothing of it is left."""
    before = person.page.locator(".sr .main").get_attribute("data-item")
    done = person.page.locator(".sr").get_attribute("data-done")
    for key in ("j", "k", "ArrowRight", "ArrowLeft", "n", "z", "n", "Backspace"):
        person.page.keyboard.press(key)
    for key in ("n", "n"):  # a whole verdict, which is then taken back in two steps
        person.page.keyboard.press(key)
    person.page.wait_for_selector(f".sr[data-done='{int(done) + 1}']")
    person.page.keyboard.press("z")
    person.page.keyboard.press("z")
    person.page.wait_for_selector(f".sr[data-done='{done}'] .main[data-item='{before}']")
    person.page.wait_for_function("!document.querySelector('.sr .given')")
    assert before not in review.verdicts(person.name)


def _one_key_too_many_changes_nothing(person: _Labeler, review: Review) -> None:
    before = review.verdicts(person.name)
    person.page.keyboard.press("u")
    person.page.keyboard.press("k")
    person.page.wait_for_function("document.querySelector('.sr .top').textContent.includes('item 19')")
    assert review.verdicts(person.name) == before


def _said_what_they_pressed(review: Review) -> None:
    expected = {
        ANN: {0: {"cue": "unclear", "object": "unclear"}, 1: {"cue": "unclear", "object": "yes"}},
        BOB: {0: {"cue": "yes", "object": "no"}, 1: {"cue": "no", "object": "yes"}},
    }
    for name in LABELERS:
        verdicts = review.verdicts(name)
        assert len(verdicts) == ITEMS
        for item_id, verdict in verdicts.items():
            assert dict(verdict.answers) == expected[name][int(item_id[-4:]) % 2]
