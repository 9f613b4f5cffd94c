from __future__ import annotations

import errno
import fcntl
import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spurious_imagenet.benchmark.evaluation._output_cache import OutputCache, OutputsConfig
from spurious_imagenet.errors import StoreError
from spurious_imagenet.folder_lock import lock_folder

HOLD = """
import sys
from spurious_imagenet.folder_lock import lock_folder
held = lock_folder(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""
CONFIG = OutputsConfig(model="file:x", weights_sha256="ab", temperature=1.0, transform={}, backend="eager")


def held_by_another(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_outputs_that_another_process_writes_are_refused_and_left_alone(tmp_path: Path) -> None:
    outputs = OutputCache(tmp_path / "outputs", CONFIG)
    path = outputs.path
    del outputs
    gc.collect()
    other = held_by_another(path)
    written = path / "parts" / ".tmp-half"  # what the other process is about to rename
    written.mkdir()
    try:
        with pytest.raises(StoreError, match=f"another process is at work in {path}: wait until it ends"):
            OutputCache(path, CONFIG)
        assert written.exists()
    finally:
        other.kill()
        other.communicate()
    OutputCache(path, CONFIG)


def test_one_process_shares_its_lock_and_gives_it_back(tmp_path: Path) -> None:
    first, second = lock_folder(tmp_path), lock_folder(tmp_path / ".")
    assert first is second
    del first
    gc.collect()
    contender = subprocess.run(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert "another process is at work" in contender.stderr
    del second
    gc.collect()
    other = held_by_another(tmp_path)
    with pytest.raises(StoreError, match="another process"):
        lock_folder(tmp_path)
    other.communicate()
    assert lock_folder(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_stops_nobody_and_keeps_no_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_flock(descriptor: int, operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_flock)
    assert lock_folder(tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] in ([], [b""])


def test_another_error_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="the disk is broken"):
        lock_folder(tmp_path)


def test_a_lock_may_be_let_go_by_another_thread(tmp_path: Path) -> None:
    for _ in range(50):  # first takers at once, each time anew
        with ThreadPoolExecutor(8) as pool:
            locks = list(pool.map(lock_folder, [tmp_path] * 16))
        assert all(lock is locks[0] for lock in locks)
        locks.clear()
        gc.collect()
    other = held_by_another(tmp_path)
    other.kill()
    other.communicate()
    assert lock_folder(tmp_path)
