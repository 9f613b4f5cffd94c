"""A Ctrl-C of a terminal, which every process of a command gets, is answered by the first alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import signal, sys, time
from spurious_imagenet.processes import process_pool

def held(_):
    time.sleep(0.2)
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())

if __name__ == "__main__":
    workers = int(sys.argv[1])
    with process_pool(workers) as pool:
        print(all(pool.map(held, range(3 * workers))))
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set()))
"""


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_no_process_of_a_pool_sees_an_interrupt(workers: int, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(workers)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.split() == ["True", "False"]
