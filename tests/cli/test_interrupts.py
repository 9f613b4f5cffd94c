"""Ctrl-C as a terminal sends it: to every process of a command, while it does real work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import labelled_shard, random_bank, run_spurious, weights_file

from spurious_imagenet.features.store import FeatureStore

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of a terminal")
SHARDS = 16
SENTENCE = "error: interrupted; finished work stays, and the same command goes on from there."


class Ended(NamedTuple):
    code: int
    err: str
    seconds: float


def interrupted(ready: Callable[[str], bool], *arguments: object, times: int = 1, wait: float = 0.0) -> Ended:
    """Start a command, wait until it is at work, press Ctrl-C, and return what it did then."""
    command = [sys.executable, "-P", "-c", "from spurious_imagenet.cli import program; program()", *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)

        def said() -> str:
            log.seek(0)
            return log.read()

        try:
            deadline = time.monotonic() + 120
            while not ready(said()):
                assert process.poll() is None, said()
                assert time.monotonic() < deadline, "it never began"
                time.sleep(0.02)
            time.sleep(wait)
            began = time.monotonic()
            for _ in range(times):
                os.killpg(process.pid, signal.SIGINT)
                time.sleep(0.3)
            code = process.wait(timeout=60)
            return Ended(code, said(), time.monotonic() - began)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def says_so(ended: Ended) -> None:
    # Python ends by the signal itself where a second one comes while it is ending; a shell shows 130 for both.
    assert ended.code in (130, -signal.SIGINT), ended
    assert ended.err.strip().splitlines()[-1] == SENTENCE, ended
    assert "Traceback" not in ended.err, ended.err
    assert ended.err.count("interrupted") == 1, ended.err


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return weights_file(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for i in range(SHARDS):
        labelled_shard(folder / f"s-{i:03d}.tar", range(100 * i, 100 * i + 100))
    return folder


@pytest.mark.parametrize("times", [1, 2])
def test_while_threads_decode_and_score_and_the_rest_is_done_after(
    times: int, model: str, shards: Path, tmp_path: Path
) -> None:
    command = ("features", "--model", model, "--shards", shards, "--out", tmp_path / "out", "--device", "cpu")
    receipts = lambda: list((tmp_path / "out").glob("parts/[!.]*/receipt.json"))  # noqa: E731
    says_so(interrupted(lambda _: bool(receipts()), *command, times=times))
    finished = len(receipts())
    assert 1 <= finished < SHARDS
    assert not list((tmp_path / "out").rglob(".tmp-*/receipt.json"))
    ran = run_spurious(*command)
    assert ran.code == 0, ran
    assert f"({SHARDS - finished} made now, {finished} found)" in ran.out


def test_while_a_program_is_waited_for(model: str, shards: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    address = f"pipe:touch {begun}; cat {shards}/s-000.tar; sleep 300"
    ended = interrupted(
        lambda _: begun.is_file(),
        "features",
        "--model",
        model,
        "--shards",
        address,
        "--allow-pipe",
        "--out",
        tmp_path / "out",
    )
    says_so(ended)
    assert ended.seconds < 20


@pytest.mark.parametrize("times", [1, 2])
def test_while_images_are_searched(times: int, model: str, shards: Path, tmp_path: Path) -> None:
    made = run_spurious("features", "--model", model, "--shards", shards / "s-000.tar", "--out", tmp_path / "features")
    assert made.code == 0, made
    random_bank(FeatureStore.open(tmp_path / "features"), tmp_path / "bank")
    out = tmp_path / "npfv"
    ended = interrupted(
        lambda said: "NPFV: about " in said,  # a week, said after two seconds
        *("npfv", "--bank", tmp_path / "bank", "--out", out, "--steps", 10_000_000, "--device", "cpu"),
        times=times,
    )
    says_so(ended)
    assert sorted(p.name for p in out.iterdir()) == ["config.json"]
    assert " for 80,000,000 steps, 10000000 for each image." in ended.err, ended.err


@pytest.mark.parametrize("times", [1, 2])
def test_while_processes_work_and_none_of_them_is_left(times: int, tmp_path: Path) -> None:
    out = tmp_path / "world"
    drawn = lambda: len(list(tmp_path.glob(".tmp-world-*/**/*.tar")) + list(tmp_path.glob(".tmp-world-*/**/*")))  # noqa: E731
    ended = interrupted(lambda _: drawn() > 3, "planted", "world", out, "--processes", 2, times=times, wait=1)
    says_so(ended)
    assert not list(tmp_path.iterdir())
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(out) not in listed


@pytest.mark.parametrize("wait", [0.7, 2.0])
def test_while_it_is_still_starting(wait: float, model: str, shards: Path, tmp_path: Path) -> None:
    command = ("features", "--model", model, "--shards", shards, "--out", tmp_path / "out")
    says_so(interrupted(lambda _: True, *command, wait=wait))
