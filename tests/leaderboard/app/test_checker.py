"""The process that checks what strangers hand in."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from board_browser import zipped
from leaderboard_helpers import random_submission, tiny_version

from spurious_imagenet.leaderboard.app._checker import Checker, CheckerConfig
from spurious_imagenet.leaderboard.app._limits import TokenBucket
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.problems import Limits

pytestmark = pytest.mark.slow
VERSION = tiny_version()
FIELDS = {"protocol": "paper", "model": "m", "authors": ["a"], "training_data": "t", "licence": "l"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("board"), create=True)
    store.add_version(VERSION)
    return store


@pytest.fixture(scope="module")
def checker(store: Store) -> Iterator[Checker]:
    made = Checker(store, CheckerConfig(Limits(), waiting=2))
    made.start()
    yield made
    made.stop()


def test_what_ends_the_process_is_refused_and_the_next_is_taken(checker: Checker, tmp_path: Path) -> None:
    path = zipped(random_submission(VERSION, 1), tmp_path / "a.zip")
    assert checker.submission(path).id is not None
    assert checker.pid is not None
    os.kill(checker.pid, signal.SIGSTOP)  # it is at work on the next one when it is killed
    threading.Timer(0.5, os.kill, (checker.pid, signal.SIGKILL)).start()
    outcome = checker.submission(path)
    assert (outcome.id, outcome.sentences) == (
        None,
        ("it cannot be checked: reading it ended the process that checks submissions.",),
    )
    assert "-9" in outcome.log
    assert checker.submission(path).id is not None


def test_so_much_time_and_memory_and_no_more(store: Store, tmp_path: Path) -> None:
    path = zipped(random_submission(VERSION, 2), tmp_path / "a.zip")
    slow = Checker(store, CheckerConfig(Limits(), seconds=0.01))
    began = time.monotonic()
    assert slow.submission(path).sentences == ("checking it took more than the 0.01 seconds that are allowed.",)
    assert time.monotonic() - began < 30
    small = Checker(store, CheckerConfig(Limits(), memory=1 << 20))
    outcome = small.submission(path)
    small.stop()
    assert outcome.id is None
    assert len(outcome.sentences) == 1


def test_requests_wait_up_to_a_number(checker: Checker) -> None:
    refused = checker.request({**FIELDS, "spec": "file:own.safetensors", "licence": ""})
    assert refused.sentences == ("licence: got nothing, expected one line of 1 to 200 characters.",)
    first = checker.request({**FIELDS, "spec": "timm:resnet18.a1_in1k"})
    assert first.id is not None
    assert checker.request({**FIELDS, "spec": "timm:resnet18.a1_in1k"}).id == first.id
    assert checker.request({**FIELDS, "spec": "timm:resnet34.a1_in1k"}).id is not None
    full = checker.request({**FIELDS, "spec": "timm:resnet50.a1_in1k"})
    assert full.busy
    assert full.sentences == ("2 requests wait already: try again when workers have run some.",)
    assert checker.request({**FIELDS, "spec": "timm:resnet18.a1_in1k"}).id == first.id


def test_tokens_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("spurious_imagenet.leaderboard.app._limits.time.monotonic", lambda: now[0])
    bucket = TokenBucket(2, 3600)
    assert [bucket.take("a") for _ in range(3)] == [True, True, False]
    assert bucket.take("b")
    now[0] = 1801
    assert [bucket.take("a") for _ in range(2)] == [True, False]
