from __future__ import annotations

import hashlib
import resource
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from shard_helpers import WebFiles, serve, write_samples

from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.shards import index_shard, open_shard, remote


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_DELAYS", (0.01, 0.01, 0.01))


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "x.tar", 20, 5000)


@pytest.fixture
def web(tar: Path) -> WebFiles:
    return WebFiles({"x.tar": tar.read_bytes()})


@pytest.fixture
def address(web: WebFiles) -> Iterator[str]:
    with serve(web) as base:
        yield f"{base}/x.tar"


def check(url: str, tar: Path, scratch: Path, **options: bool) -> None:
    with open_shard(url, scratch=scratch, **options) as shard:
        assert shard.url == url
        assert shard.path.parent == scratch
        assert shard.path.read_bytes() == tar.read_bytes()
        assert shard.size == tar.stat().st_size
        assert shard.streamed_sha256 == shard.sha256() == hashlib.sha256(tar.read_bytes()).hexdigest()
        assert len(index_shard(shard).samples) == 20
    assert list(scratch.iterdir()) == []


def test_a_local_file_is_used_as_it_is(tar: Path) -> None:
    for url in (str(tar), f"file://{tar}"):
        with open_shard(url) as shard:
            assert shard.path == tar
            assert shard.sha256() == hashlib.sha256(tar.read_bytes()).hexdigest()
    assert tar.exists()
    with pytest.raises(DataError, match="not a file"), open_shard(str(tar.parent)):
        pass


@pytest.mark.parametrize("ranges", [True, False])
def test_web_shards_are_streamed(web: WebFiles, address: str, tar: Path, tmp_path: Path, ranges: bool) -> None:
    web.ranges = ranges
    check(address, tar, tmp_path / "scratch")


def test_memory_shards_are_streamed(tar: Path, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/opening/x.tar", tar.read_bytes())
    check("memory://opening/x.tar", tar, tmp_path / "scratch")


@pytest.mark.parametrize("failures", [[503, 500, 429], ["cut", "cut"], ["cut", 502], ["garbage"]])
def test_passing_failures_are_retried_from_the_start(
    web: WebFiles, address: str, tar: Path, tmp_path: Path, failures: list
) -> None:
    web.failures = failures
    check(address, tar, tmp_path / "scratch")
    assert web.failures == []


def test_lasting_failures_end_in_one_sentence(web: WebFiles, address: str, tmp_path: Path) -> None:
    web.failures = ["cut"] * 4
    with pytest.raises(DataError, match="cannot be read"), open_shard(address, scratch=tmp_path / "scratch"):
        pass
    assert list((tmp_path / "scratch").iterdir()) == []
    assert web.failures == []


def test_not_found_is_not_retried(web: WebFiles, address: str) -> None:
    with pytest.raises(DataError, match=r"none\.tar"), open_shard(address.replace("x.tar", "none.tar")):
        pass
    assert len(web.requests) <= 1


def test_a_server_that_is_away_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waits.append)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match="cannot be read"), open_shard(f"http://127.0.0.1:{port}/x.tar"):
        pass
    assert len(waits) == 3


def test_streaming_holds_blocks_not_the_shard(web: WebFiles, address: str) -> None:
    web.files["x.tar"] = bytes(64 << 20)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    with open_shard(address) as shard:
        peak = tracemalloc.get_traced_memory()[1]
        assert shard.size == 64 << 20
    tracemalloc.stop()
    assert peak - before < 16 << 20


def test_pipes_need_consent_and_run_a_shell(tar: Path, tmp_path: Path) -> None:
    url = f"pipe:cat {tar} | cat"
    with pytest.raises(ConfigError, match="shell"), open_shard(url):
        pass
    check(url, tar, tmp_path / "scratch", allow_pipe=True)


def test_a_failing_command_fails_the_shard(tar: Path) -> None:
    url = f"pipe:cat {tar}; echo gone wrong >&2; exit 3"
    with pytest.raises(DataError, match=r"ended with 3\. gone wrong"), open_shard(url, allow_pipe=True):
        pass


@pytest.mark.parametrize("program", ["sleep 60", "head -c 100000 /dev/zero; sleep 60", "sleep 60 | cat"])
def test_a_ctrl_c_that_another_thread_is_given_ends_the_wait_for_a_command(program: str) -> None:
    code = f"""
import signal, threading, time
from spurious_imagenet.shards import open_shard
def press():
    time.sleep(1)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=press).start()
try:
    with open_shard("pipe:{program}", allow_pipe=True):
        pass
except KeyboardInterrupt:
    print("heard")
"""
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=40, check=False)
    assert ran.stdout == "heard\n", ran.stderr


def test_a_disk_that_takes_no_more_is_named_and_the_command_ended(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, limits[1]))
    try:
        with (
            pytest.raises(DataError, match="cannot be copied"),
            open_shard("pipe:yes", scratch=tmp_path, allow_pipe=True),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.glob("shard-*")) == []
