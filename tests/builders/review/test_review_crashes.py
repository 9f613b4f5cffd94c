"""What was acknowledged is there: through kills, torn lines, full disks and several writers at once."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from review_helpers import ACCEPT, REJECT, image_review

from spurious_imagenet.builders.review._journal import Journal
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.errors import StoreError

WRITER = Path(__file__).with_name("review_writer.py")


def _start(review: Review, labeler: str, first: int, rounds: int, at_once: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), str(review.path), labeler, str(first), str(rounds), str(at_once)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _go(writers: list[subprocess.Popen[str]]) -> None:
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()


def _acknowledged(writer: subprocess.Popen[str]) -> list[tuple[int, str]]:
    out, _ = writer.communicate(timeout=60)
    lines = [line.split(" ") for line in out.split("\n")[:-1]]  # a kill may tear what is printed too
    return [(int(number), item_id) for number, item_id in lines]


def _lines(review: Review, labeler: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (review.path / "journal" / f"{labeler}.jsonl").read_bytes().splitlines()]


def test_two_labelers_in_two_processes_each_lose_nothing(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=40)
    writers = [_start(review, name, first, rounds=3) for name in ("ann", "ben") for first in (0, 100)]
    _go(writers)
    told = [_acknowledged(writer) for writer in writers]
    assert [len(t) for t in told] == [120] * 4
    assert all(writer.returncode == 0 for writer in writers)
    for name, acknowledged in (("ann", told[0] + told[1]), ("ben", told[2] + told[3])):
        lines = _lines(review, name)
        assert len(lines) == 240
        written = [(int(str(line["time"])[20:26]), line["item"]) for line in lines]
        assert sorted(written) == sorted(acknowledged)
        last = {line["item"]: line["answers"] for line in lines}
        assert {i: v.answers for i, v in Review.open(review.path).verdicts(name).items()} == last


def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=60)
    rng = random.Random(4)
    newest: dict[str, dict[str, int]] = {"ann": {}, "ben": {}}
    kills = 0
    for life in range(4):
        names = ("ann", "ben")
        writers = [
            _start(review, name, 100_000 * life, rounds=100_000, at_once=rng.choice([1, 1, 60])) for name in names
        ]
        _go(writers)
        time.sleep(rng.uniform(0.005, 0.15))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for name, writer in zip(names, writers, strict=True):
            newest[name].update({item_id: number for number, item_id in _acknowledged(writer)})
            kills += writer.returncode == -signal.SIGKILL
        opened = Review.open(review.path)
        for name in names:
            found = opened.verdicts(name)
            for item_id, number in newest[name].items():
                # The disk may hold a later one, which was written and not yet acknowledged.
                assert int(found[item_id].time[20:26]) >= number
    assert kills == 8
    assert all(newest.values())
    journals = {name: _lines(review, name) for name in ("ann", "ben")}
    for name, lines in journals.items():
        last = {line["item"]: line["answers"] for line in lines}
        assert {i: v.answers for i, v in Review.open(review.path).verdicts(name).items()} == last


def test_a_line_torn_at_any_byte_is_not_read_and_is_cut_off(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=4)
    first, second, *_ = review.queue("ann")
    review.record("ann", first, ACCEPT)
    journal = review.path / "journal" / "ann.jsonl"
    whole = journal.read_bytes()
    review.record("ann", second, REJECT)
    torn = journal.read_bytes()[len(whole) : -1]
    tails = [torn[:n] for n in range(1, len(torn) + 1)] + [b"\0" * 40, torn[:9] + b"\0" * 20, b"\xff\xfe"]
    for tail in tails:
        journal.write_bytes(whole + tail)
        opened = Review.open(review.path)
        assert set(opened.verdicts("ann")) == {first}
        opened.record("ann", second, ACCEPT)
        assert journal.read_bytes().startswith(whole)
        assert {i: v.answers for i, v in Review.open(review.path).verdicts("ann").items()} == {
            first: ACCEPT,
            second: ACCEPT,
        }


def test_the_journals_alone_rebuild_the_review(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=30)
    rng = random.Random(0)
    for _ in range(200):
        name = rng.choice(review.labelers)
        review.record(name, rng.choice(review.queue(name)), rng.choice([ACCEPT, REJECT, {"cue": "yes"}, None]))
    for consensus in review.consensus().values():
        if consensus.state == "disagreed":
            review.adjudicate(consensus.item_id, "cyn", ACCEPT)
    again = Review.open(review.path)
    assert again.consensus() == review.consensus()
    assert again.status() == review.status()
    assert {c.state.value for c in again.consensus().values()} == {"open", "agreed", "adjudicated"}


def test_a_reader_sees_what_another_process_writes(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=10)
    assert review.verdicts("ann") == {}
    writer = _start(review, "ann", 0, rounds=1)
    _go([writer])
    assert len(_acknowledged(writer)) == 10
    assert len(review.verdicts("ann")) == 10


def test_damage_inside_a_journal_is_named(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=4)
    for item_id in review.queue("ann")[:3]:
        review.record("ann", item_id, ACCEPT)
    journal = review.path / "journal" / "ann.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    for damaged in (b"{]\n", b"\xff\xff\n", b"[1]\n", b"\n"):
        journal.write_bytes(lines[0] + damaged + lines[2])
        with pytest.raises(StoreError, match=r"ann.jsonl, line 2 is damaged"):
            Review.open(review.path).verdicts("ann")
    journal.write_bytes(lines[0].replace(b"npca", b"nope"))
    opened = Review.open(review.path)
    for _ in range(2):  # refused again, not skipped
        with pytest.raises(StoreError, match="line 1 is not of this review: no item 'nope"):
            opened.verdicts("ann")
    with pytest.raises(StoreError, match="line 1 is not of this review"):
        opened.record("ann", opened.queue("ann")[0], ACCEPT)
    assert journal.read_bytes() == lines[0].replace(b"npca", b"nope")
    journal.write_bytes(b'{"item": 3}\n')
    with pytest.raises(StoreError, match="expected item, answers and time"):
        Review.open(review.path).verdicts("ann")
    journal.unlink()
    with pytest.raises(StoreError, match=r"ann.jsonl is missing"):
        Review.open(review.path).verdicts("ann")


def test_a_journal_that_shrinks_under_a_reader_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl", dict)
    journal.path.touch()
    journal.append([{"n": 1}, {"n": 2}])
    os.truncate(journal.path, 9)
    with pytest.raises(StoreError, match="was shortened"):
        journal.read_new()


def test_a_full_disk_keeps_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    review = image_review(tmp_path / "r", count=4)
    first, second, *_ = review.queue("ann")
    review.record("ann", first, ACCEPT)
    before = (review.path / "journal" / "ann.jsonl").read_bytes()
    write = os.write

    def half_then_full(descriptor: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:-30])

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(OSError, match="No space left") as caught:
        review.record("ann", second, ACCEPT)
    assert caught.value.filename.endswith("ann.jsonl")
    monkeypatch.undo()
    assert (review.path / "journal" / "ann.jsonl").read_bytes() == before
    assert set(review.verdicts("ann")) == {first}
    review.record("ann", second, ACCEPT)
    assert set(Review.open(review.path).verdicts("ann")) == {first, second}
