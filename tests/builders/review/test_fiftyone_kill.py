"""Two labelers' scripts write at once while their MongoDB is killed: what was acknowledged stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fiftyone_helpers import LABELERS, make_review, skip_without_fiftyone

from spurious_imagenet.builders.fiftyone_app.mongo import Mongo
from spurious_imagenet.builders.review.fiftyone_session import LABELER, REVIEW
from spurious_imagenet.builders.review.review import Review

VERDICTS, KILLS = 2000, 3

# Answers by the operator that a script or a page would call, and notes each item once the operator has returned.
_JUDGE = """
import json, sys, time
from spurious_imagenet.builders.review.fiftyone_session import current_session
session = current_session()
from fiftyone.operators import execute_operator
acknowledged = open(sys.argv[1], "w", buffering=1)
started = time.monotonic()
for place, item_id in enumerate(session.labeling.queue):
    answers = {"cue": ("yes", "no", "unclear")[hash_of(item_id) % 3], "object": ("no", "yes")[hash_of(item_id) % 2]}
    execute_operator("@spurious-imagenet/review/judge", params={"item_id": item_id, "answers": answers})
    print(item_id, json.dumps(answers), sep="\\t", file=acknowledged)
seconds = time.monotonic() - started
""".replace("hash_of(item_id)", "(int(item_id[-4:]) + len(session.labeling.labeler))")
_REPORT = """
missing = session.settle()
fields = ["item_id", *(f"{session.labeling.labeler}_{q}" for q in ("cue", "object", "outcome"))]
mirror = list(zip(*session.mirror.dataset.values(fields)))
print(json.dumps({"missing": missing, "seconds": seconds, "mirror": mirror, "order": session.labeling.queue}))
session.close()
"""
_LOOK = """
import json
from spurious_imagenet.builders.review.fiftyone_session import current_session
session, seconds = current_session(), 0
"""


def _process(review: Path, labeler: str, code: str, *arguments: str) -> subprocess.Popen[bytes]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("FIFTYONE_")}
    return subprocess.Popen(
        [sys.executable, "-c", code + _REPORT, *arguments],
        env=env | {REVIEW: str(review), LABELER: labeler},
        stdout=subprocess.PIPE,
    )


def _acknowledged(path: Path) -> dict[str, dict[str, str]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {item: json.loads(answers) for item, _, answers in (line.partition("\t") for line in lines)}


def _kill_mongod(mongo: Mongo) -> None:
    """Kill the server as a power cut would, and wait until a labeler's process has started another."""
    before = mongo.run()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while mongo.run() in {None, before}:
        assert time.monotonic() < deadline, "nobody started the server again"
        time.sleep(0.05)


def _expected(review: Review, labeler: str) -> list[list[str]]:
    verdicts = review.verdicts(labeler)
    return [
        [item_id, verdicts[item_id].answers["cue"], verdicts[item_id].answers["object"], str(verdicts[item_id].outcome)]
        for item_id in review.queue(labeler)
    ]


@pytest.mark.slow
def test_no_acknowledged_verdict_is_lost_when_mongod_is_killed(tmp_path: Path) -> None:
    skip_without_fiftyone()
    review = make_review(tmp_path / "review", VERDICTS, own_images=False)
    mongo = Mongo(review.path / "mongo")
    notes = {labeler: tmp_path / f"{labeler}.tsv" for labeler in LABELERS}
    judges = {labeler: _process(review.path, labeler, _JUDGE, str(notes[labeler])) for labeler in LABELERS}
    for kill in range(1, KILLS + 1):
        deadline = time.monotonic() + 300
        while min(len(_acknowledged(path)) for path in notes.values()) < kill * VERDICTS // (KILLS + 1):
            assert all(judge.poll() is None for judge in judges.values()), "a labeler's process ended early"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        _kill_mongod(mongo)
    reports = {name: json.loads(judge.communicate(timeout=300)[0]) for name, judge in judges.items()}

    again = Review.open(review.path)  # what a new process reads: the journals
    for labeler, report in reports.items():
        said = _acknowledged(notes[labeler])
        assert len(said) == VERDICTS
        assert {item: dict(v.answers) for item, v in again.verdicts(labeler).items()} == said
        assert report["mirror"] == _expected(again, labeler)
        assert report["order"] == again.queue(labeler)
        print(f"{labeler}: {VERDICTS / report['seconds']:.0f} verdicts/s, {report['missing']} lacked at the end")

    _journal_alone_rebuilds(review.path, tmp_path / "copy", reports)


def _journal_alone_rebuilds(original: Path, copy: Path, reports: dict[str, dict[str, object]]) -> None:
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("mongo"))
    lookers = {name: _process(copy, name, _LOOK) for name in LABELERS}
    for name, looker in lookers.items():
        assert json.loads(looker.communicate(timeout=120)[0])["mirror"] == reports[name]["mirror"]
    first, second = Review.open(original), Review.open(copy)
    assert first.consensus() == second.consensus()
    assert first.kappa() == second.kappa()
