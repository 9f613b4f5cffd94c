"""A labeler's way through the queue, the guard before the App, and the server behind it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from fiftyone_helpers import LABELERS, make_review, skip_without_fiftyone

from spurious_imagenet.builders.fiftyone_app._local_only import LocalOnly
from spurious_imagenet.builders.fiftyone_app.mongo import Mongo
from spurious_imagenet.builders.review._labeling import Labeling
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.errors import ConfigError, DataError, StoreError

ANN = LABELERS[0]


@pytest.fixture
def labeling(tmp_path: Path) -> Labeling:
    return Labeling(make_review(tmp_path / "review", 5), ANN)


def test_the_last_question_leads_to_the_next_unanswered_item(labeling: Labeling) -> None:
    first, second, third = labeling.queue[:3]
    labeling.judge(second, {"cue": "yes", "object": "no"})
    assert labeling.state()["item"]["item_id"] == first
    assert labeling.answer(first, "cue", "yes")["current"] == "object"
    assert labeling.answer(first, "object", "no")["item"]["item_id"] == third
    assert labeling.state()["done"] == 2


def test_after_the_end_of_the_queue_come_items_that_were_skipped(labeling: Labeling) -> None:
    answers = {"cue": "no", "object": "no"}
    for item_id in labeling.queue[1:]:
        state = labeling.judge(item_id, answers)
    assert state["item"]["item_id"] == labeling.queue[0]
    state = labeling.judge(labeling.queue[0], answers)
    assert (state["done"], state["outcome"], state["preload"]) == (5, "reject", [])
    assert Labeling(labeling.review, ANN).state()["item"]["item_id"] == labeling.queue[-1]


def test_undo_goes_back_through_everything_and_is_in_the_journal(labeling: Labeling) -> None:
    first, second = labeling.queue[:2]
    labeling.answer(first, "cue", "yes")
    labeling.answer(first, "object", "no")
    labeling.answer(second, "cue", "no")
    labeling.answer(first, "cue", "unclear")  # begins a judged item anew
    assert dict(labeling.verdicts()[first].answers) == {"cue": "unclear"}
    assert labeling.undo()["item"]["item_id"] == first
    assert dict(labeling.verdicts()[first].answers) == {"cue": "yes", "object": "no"}
    assert labeling.undo()["item"]["item_id"] == second
    assert second not in Review.open(labeling.review.path).verdicts(ANN)
    assert labeling.undo()["questions"][1]["answer"] is None
    assert labeling.undo()["can_undo"] is False
    assert labeling.undo()["done"] == 0
    assert not labeling.verdicts()


def test_undo_after_a_restart_takes_back_the_latest_item(labeling: Labeling) -> None:
    for item_id in labeling.queue[:2]:
        labeling.judge(item_id, {"cue": "yes", "object": "no"})
    again = Labeling(Review.open(labeling.review.path), ANN)
    assert again.undo()["item"]["item_id"] == labeling.queue[1]
    assert list(again.verdicts()) == [labeling.queue[0]]


def test_what_is_shown_holds_no_known_answers_and_only_files_that_may_be_served(labeling: Labeling) -> None:
    files = {str(file) for file in labeling.files()}
    for item_id in labeling.queue:
        state = labeling.state(item_id)
        assert not {"gold", "info", "concept_id"} & set(state["item"])
        item = state["item"]
        assert {item["media"], item["board"], *item["references"], *state["preload"]} <= files
        json.dumps(state)
    assert len(files) == 5 + 2


def test_what_does_not_fit_is_refused_and_not_recorded(labeling: Labeling) -> None:
    item_id = labeling.queue[0]
    for wrong in (("image-9999", "cue", "yes"), (item_id, "colour", "yes"), (item_id, "cue", "perhaps")):
        with pytest.raises(DataError, match=r"image-9999|colour|perhaps"):
            labeling.answer(*wrong)
    with pytest.raises(DataError, match="image-9999"):
        labeling.go("image-9999", 1)
    assert not labeling.verdicts()
    assert labeling.state()["can_undo"] is False
    assert labeling.go(item_id, -3)["position"] == 1
    assert labeling.go(item_id, 99)["position"] == 5


def _status(app: LocalOnly, path: str, query: str = "", kind: str = "http", **headers: str) -> int:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    raw = [(name.encode(), value.encode()) for name, value in ({"host": "127.0.0.1:5151"} | headers).items()]
    asyncio.run(app({"type": kind, "path": path, "query_string": query.encode(), "headers": raw}, receive, send))
    return int(sent[0].get("status") or sent[0]["code"])


async def _welcomes(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_the_guard_lets_this_machines_pages_through_and_nobody_else() -> None:
    app = LocalOnly(_welcomes, [Path("/data/a b+c.png")])
    assert _status(app, "/fiftyone") == 200
    assert _status(app, "/fiftyone", host="localhost:7000", origin="http://localhost:7000") == 200
    assert _status(app, "/fiftyone", host="[::1]:5151") == 200
    assert _status(app, "/fiftyone", host="evil.example") == 403
    assert _status(app, "/fiftyone", host="127.0.0.1.evil.example") == 403
    assert _status(app, "/fiftyone", origin="http://evil.example") == 403
    assert _status(app, "/fiftyone", origin="http://127.0.0.1:8000") == 403
    assert _status(app, "/fiftyone", origin="null") == 403
    assert _status(app, "/ws", kind="websocket") == 1008
    assert _status(app, "/media", "filepath=%2Fdata%2Fa%20b%2Bc.png") == 200
    assert _status(app, "/media", "filepath=%2Fdata%2Fa%20b%2Bc.png&filepath=/etc/passwd") == 403
    assert _status(app, "/media", "filepath=/data/../data/other.png") == 403
    assert _status(app, "/media/", "filepath=/etc/passwd") == 403


def test_the_server_is_shared_comes_back_at_its_port_and_goes_with_its_last_user(tmp_path: Path) -> None:
    skip_without_fiftyone()
    first, second = Mongo(tmp_path / "mongo"), Mongo(tmp_path / "mongo")
    assert first.ensure() is True
    uri, run = first.uri, first.run()
    try:
        assert second.ensure() is False
        assert second.uri == uri
        assert run is not None
        os.kill(run, signal.SIGKILL)
        assert second.ensure() is True
        assert (second.uri, second.run() == run) == (uri, False)
        assert first.ensure() is False
    finally:
        first.release()
        assert second.run() is not None, "the first to go took the server with it"
        second.release()
    assert second.run() is None


def test_a_server_that_is_named_is_neither_started_nor_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without_fiftyone()
    own = Mongo(tmp_path / "mongo")
    own.ensure()
    try:
        monkeypatch.setenv("FIFTYONE_DATABASE_URI", own.uri)
        named = Mongo(tmp_path / "other")
        assert named.ensure() is False
        named.release()
        assert own.run() is not None
        assert not (tmp_path / "other").exists()
    finally:
        own.release()
    with pytest.raises(StoreError, match="FIFTYONE_DATABASE_URI"):
        named.ensure()


def test_a_session_belongs_to_whom_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from spurious_imagenet.builders.review.fiftyone_session import LABELER, REVIEW, current_session

    monkeypatch.setenv(REVIEW, "somewhere")
    monkeypatch.delenv(LABELER, raising=False)
    with pytest.raises(ConfigError, match=LABELER):
        current_session()
