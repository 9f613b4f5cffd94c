from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from shard_helpers import WebFiles, local, serve, write_samples

from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.shards import index_shard, read_ranges, remote


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_DELAYS", (0.01, 0.01, 0.01))


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "x.tar", 40, 3000)


@pytest.fixture
def wanted(tar: Path) -> tuple[list[tuple[int, int]], list[bytes]]:
    """Ranges out of order, repeated and empty, and the bytes that the standard library finds there."""
    samples = index_shard(local(tar)).samples
    chosen = [samples[i] for i in (39, 0, 7, 7, *range(30))]
    with tarfile.open(tar) as archive:
        expected = [archive.extractfile(s.member).read() for s in chosen]
    return [(s.offset, s.size) for s in chosen] + [(5, 0)], [*expected, b""]


@pytest.fixture
def web(tar: Path) -> Iterator[tuple[WebFiles, str]]:
    files = WebFiles({"x.tar": tar.read_bytes()})
    with serve(files) as base:
        yield files, f"{base}/x.tar"


def test_local_ranges(tar: Path, wanted: tuple) -> None:
    assert list(read_ranges(str(tar), wanted[0])) == wanted[1]
    assert list(read_ranges(f"file://{tar}", wanted[0])) == wanted[1]
    assert list(read_ranges(str(tar), [])) == []


def test_memory_ranges(tar: Path, wanted: tuple) -> None:
    fsspec.filesystem("memory").pipe_file("/ranges/x.tar", tar.read_bytes())
    assert list(read_ranges("memory://ranges/x.tar", wanted[0])) == wanted[1]


def test_web_ranges_ask_for_those_bytes_only(web: tuple[WebFiles, str], wanted: tuple) -> None:
    files, url = web
    assert list(read_ranges(url, wanted[0])) == wanted[1]
    assert all(asked is not None for _, asked in files.requests)
    assert files.body_bytes == sum(size for _, size in wanted[0]) + 1


def test_a_server_without_ranges_is_streamed_once(web: tuple[WebFiles, str], wanted: tuple, tmp_path: Path) -> None:
    files, url = web
    files.ranges = False
    assert list(read_ranges(url, wanted[0], scratch=tmp_path / "scratch")) == wanted[1]
    assert [asked for _, asked in files.requests if asked is None] == [None]
    assert len(files.requests) == 2  # the question for one byte, and the stream
    assert list((tmp_path / "scratch").iterdir()) == []


def test_passing_failures_are_retried(web: tuple[WebFiles, str], wanted: tuple) -> None:
    files, url = web
    files.failures = [503, 500]
    assert list(read_ranges(url, wanted[0])) == wanted[1]


def test_a_pipe_runs_once(tar: Path, wanted: tuple, tmp_path: Path) -> None:
    url = f"pipe:echo ran >> {tmp_path}/runs; cat {tar}"
    with pytest.raises(ConfigError, match="shell"):
        list(read_ranges(url, wanted[0]))
    assert list(read_ranges(url, wanted[0], allow_pipe=True)) == wanted[1]
    assert (tmp_path / "runs").read_text() == "ran\n"


@pytest.mark.parametrize("kind", ["local", "memory", "web", "web without ranges"])
def test_a_short_read_is_an_error(tar: Path, web: tuple[WebFiles, str], kind: str) -> None:
    size = tar.stat().st_size
    fsspec.filesystem("memory").pipe_file("/short/x.tar", tar.read_bytes())
    web[0].ranges = kind == "web"
    url = {"local": str(tar), "memory": "memory://short/x.tar"}.get(kind, web[1])
    for offset in (size - 10, size + 10):
        with pytest.raises(DataError):
            list(read_ranges(url, [(0, 5), (offset, 20)]))
    with pytest.raises(DataError, match="negative"):
        list(read_ranges(url, [(-5, 5)]))


def test_ranges_are_read_in_bounded_batches(tar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spurious_imagenet.shards import _ranges as ranges

    monkeypatch.setattr(ranges, "_MAX_BATCH_BYTES", 100)
    batches = list(ranges._batches([(0, 60), (60, 40), (100, 1), (101, 500), (601, 1)]))
    assert batches == [[(0, 60), (60, 40)], [(100, 1)], [(101, 500)], [(601, 1)]]
