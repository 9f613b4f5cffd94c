"""Run the whole suite several times, in another order and with other rounding each time, and print what failed where.

    python benchmarks/test_orders.py --runs 10

A test that needs another to have run before it, or that states what one processor's rounding gave, fails in some of the
runs. Everything after ``--`` goes to pytest.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What changes the order in which sums are rounded: threads, and the instructions that torch and oneDNN may use.
SETTINGS: tuple[dict[str, str], ...] = (
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
)
_OUTCOME = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")


@dataclass(frozen=True)
class Run:
    """One run of the suite."""

    seed: int
    settings: dict[str, str]
    seconds: float
    processor: float
    counts: dict[str, int]
    wrong: tuple[str, ...]

    def row(self) -> str:
        said = " ".join(f"{k.removeprefix('ONEDNN_MAX_').removeprefix('ATEN_')}={v}" for k, v in self.settings.items())
        numbers = " | ".join(str(self.counts.get(k, 0)) for k in ("passed", "failed", "error", "skipped"))
        return f"| {self.seed} | {said} | {numbers} | {self.seconds:.0f} | {self.processor:.0f} |"


def run_once(seed: int, settings: dict[str, str], workers: int, log: Path, more: list[str]) -> Run:
    """Run the suite in the order of a seed, with variables that change rounding."""
    command = [sys.executable, "-m", "pytest", "-q", f"--randomly-seed={seed}", *more]
    if workers > 1:
        command += ["-n", str(workers), "--dist", "worksteal"]
    begin, before = time.monotonic(), os.times()
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | settings, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    after, text = os.times(), log.read_text(encoding="utf-8", errors="replace")
    last = next((line for line in reversed(text.splitlines()) if " in " in line and _COUNTS.search(line)), "")
    counts = {name.rstrip("s") if name == "errors" else name: int(n) for n, name in _COUNTS.findall(last)}
    wrong = tuple(sorted(set(_OUTCOME.findall(text))))
    if done.returncode and not wrong:
        wrong = (f"pytest ended with {done.returncode}: {log}",)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seed, settings, time.monotonic() - begin, used, counts, wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=1, help="the runs have this seed and the ones after it")
    parser.add_argument("--workers", type=int, default=2, help="processes of pytest-xdist")
    parser.add_argument("--logs", type=Path, default=ROOT / "out" / "orders", help="where the output of each run goes")
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest, after --")
    given = parser.parse_args()
    given.logs.mkdir(parents=True, exist_ok=True)
    print(
        "| seed | settings | passed | failed | errors | skipped | s | CPU s |\n|---:|---|---:|---:|---:|---:|---:|---:|"
    )
    runs = []
    for number in range(given.runs):
        seed, settings = given.first_seed + number, SETTINGS[number % len(SETTINGS)]
        runs.append(run_once(seed, settings, given.workers, given.logs / f"{seed}.log", given.pytest))
        print(runs[-1].row(), flush=True)
    for run in runs:
        for name in run.wrong:
            print(f"seed {run.seed}, {run.settings}: {name}")
    raise SystemExit(any(run.wrong for run in runs))


if __name__ == "__main__":
    main()
