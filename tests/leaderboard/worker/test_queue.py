"""One worker runs a request; what a dead worker held is taken again; nothing is overwritten."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spurious_imagenet.errors import StoreError
from spurious_imagenet.leaderboard.store.object_store import ObjectStore
from spurious_imagenet.leaderboard.worker.queue import ModelRequest, Queue


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def wanted(model: str = "a model", **about: Any) -> ModelRequest:
    fields = {
        "spec": "timm:resnet50.a1_in1k",
        "protocol": "paper",
        "authors": ("A. Author",),
        "training_data": "ImageNet-1k",
        "licence": "MIT",
    }
    return ModelRequest(**{**fields, "model": model, **about})


@pytest.fixture
def place(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "board")


def test_each_request_is_taken_once_by_racing_workers(place: ObjectStore) -> None:
    for number in range(12):
        Queue(place).add(wanted(f"model {number}"))
    with ThreadPoolExecutor(8) as pool:
        queues = [Queue(place) for _ in range(8)]
        taken = [q for q in pool.map(lambda i: queues[i % 8].take(), range(64)) if q is not None]
    assert len(taken) == len({q.request.id for q in taken}) == 12
    assert Queue(place).take() is None


def test_a_dead_workers_request_is_taken_when_its_claim_expires(place: ObjectStore) -> None:
    clock = Clock()
    first, second = Queue(place, 100, clock), Queue(place, 100, clock)
    request = first.add(wanted()).request
    assert first.take() is not None
    clock.now += 99
    assert second.take() is None
    assert second.get(request.id).state(clock.now) == "running"
    clock.now += 2
    taken = second.take()
    assert taken is not None
    assert second.get(request.id).claims == 2
    assert first.take() is None


def test_a_request_that_no_worker_survives_does_not_stop_them_all(place: ObjectStore) -> None:
    clock = Clock()
    request = Queue(place, 100, clock).add(wanted()).request
    for _ in range(3):
        assert Queue(place, 100, clock).take() is not None
        clock.now += 101
    Queue(place, 100, clock).add(wanted("another"))
    taken = Queue(place, 100, clock).take()
    assert taken is not None
    assert taken.request.model == "another"
    assert Queue(place, 100, clock).take() is None
    outcome = Queue(place, 100, clock).get(request.id).outcome
    assert outcome is not None
    assert outcome.reason == "3 workers stopped while they ran it."


def test_a_running_worker_holds_on(place: ObjectStore) -> None:
    queue = Queue(place, lease=0.3)
    queue.add(wanted())
    taken = queue.take()
    assert taken is not None
    with queue.held(taken):
        for _ in range(8):
            time.sleep(0.1)
            assert Queue(place, lease=0.3).take() is None
    assert queue.get(taken.request.id).claims > 2


def test_what_became_of_a_request_is_said_once(place: ObjectStore) -> None:
    queue = Queue(place)
    queue.add(wanted())
    taken = queue.take()
    assert taken is not None
    queue.finish(taken, entry="a" * 64)
    assert queue.finish(taken, reason="too late").entry == "a" * 64
    assert queue.get(taken.request.id).state(0) == "done"
    assert queue.take() is None
    assert queue.add(wanted()).state(0) == "done"
    assert len(queue.all()) == 1


def test_a_request_that_failed_may_be_made_again(place: ObjectStore) -> None:
    queue = Queue(place)
    first = queue.add(wanted())
    taken = queue.take()
    assert taken is not None
    queue.finish(taken, reason="no network.")
    again = queue.add(wanted())
    assert again.request.attempt == 2
    assert again.request.id != first.request.id
    assert queue.get(first.request.id).state(0) == "failed"
    assert queue.take() is not None
    assert queue.add(wanted()).request.attempt == 2


def test_files_that_are_no_requests_are_left_out(place: ObjectStore) -> None:
    queue = Queue(place)
    queue.add(wanted())
    place.write_once(f"requests/{'b' * 64}.json", b"{")
    place.write_once(f"requests/{'c' * 64}.json", wanted("another").model_dump_json().encode())
    place.write_once("requests/notes.txt", b"")
    assert [q.request.model for q in queue.all()] == ["a model"]
    with pytest.raises(StoreError, match="has no request bbbbbbbbbbbb"):
        queue.get("b" * 64)
