from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from spurious_imagenet.benchmark.evaluation.output_cache import OutputCache, OutputsConfig
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
