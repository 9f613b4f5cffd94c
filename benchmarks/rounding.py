"""How much of each tolerance in the tests is used, on this processor and on simulated others.

    python benchmarks/rounding.py tests/builders/visualise [PYTEST OPTIONS …] [--settings plain,sse] [--least 0.1]

Runs the selection once a setting that changes the order or the width of sums: one thread, and the instructions of older
processors, for torch, oneDNN, MKL, OpenBLAS and NumPy. Every comparison with a tolerance (``pytest.approx``,
``numpy.testing.assert_allclose``, ``torch.testing.assert_close``) is watched, passing or not, and the table gives by
line of the tests the largest share of its tolerance that was used: 1 is the limit, and a line that moves between the
settings and comes near it is a statement about a processor. Comparisons that are exact, and thresholds, show as failed
tests alone; these are listed with their settings. Exits with 1 if a test failed or a tolerance was exceeded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_HERE = Path(__file__).resolve()
_NO_AVX2 = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"  # NumPy's names of what is beyond SSE4.2
#: Names → environments. An instruction set that a processor lacks is not used, whatever is asked for.
SETTINGS: dict[str, dict[str, str]] = {
    "plain": {},
    "one-thread": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "avx": {"ONEDNN_MAX_CPU_ISA": "AVX", "MKL_CBWR": "AVX", "OPENBLAS_CORETYPE": "Sandybridge"},
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": _NO_AVX2,
    },
}


class Watch:
    """A pytest plugin that writes down what share of its tolerance each comparison uses."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.used: dict[str, float] = {}
        self.failed: list[str] = []

    def note(self, share: float) -> None:
        """Keep the largest share of the line of the tests that compares."""
        frame = sys._getframe(1)
        while frame is not None and "/tests/" not in frame.f_code.co_filename:
            frame = frame.f_back  # type: ignore[assignment]
        if frame is not None and share == share:
            file = frame.f_code.co_filename.split("/tests/", 1)[1]
            line = f"{file}:{frame.f_lineno}"
            self.used[line] = max(share, self.used.get(line, 0.0))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the names of failed tests."""
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write what was seen."""
        self._out.write_text(json.dumps({"used": self.used, "failed": self.failed}))

    def install(self) -> None:
        """Wrap the three comparisons."""
        import numpy as np
        import pytest
        import torch

        def share_of(actual: Any, expected: Any, rtol: float, atol: float) -> None:
            plain = (v.detach().cpu() if isinstance(v, torch.Tensor) else v for v in (actual, expected))
            a, e = (np.asarray(v, dtype=np.float64) for v in plain)
            with np.errstate(all="ignore"):
                shares = np.abs(a - e) / (atol + rtol * np.abs(e))
            if shares.size and (atol or rtol):
                self.note(float(np.nanmax(np.where(a == e, 0.0, shares))))

        allclose, close = np.testing.assert_allclose, torch.testing.assert_close

        def assert_allclose(actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, **more: Any) -> None:
            share_of(actual, desired, rtol, atol)
            allclose(actual, desired, rtol=rtol, atol=atol, **more)

        def assert_close(actual: Any, expected: Any, **more: Any) -> None:
            rtol, atol = more.get("rtol"), more.get("atol")
            share_of(actual, expected, 1.3e-6 if rtol is None else rtol, 1e-5 if atol is None else atol)
            close(actual, expected, **more)

        np.testing.assert_allclose = assert_allclose
        torch.testing.assert_close = assert_close
        scalar: Any = type(pytest.approx(1.0))
        equal: Callable[[Any, Any], bool] = scalar.__eq__

        def watched(own: Any, actual: Any) -> bool:
            if isinstance(actual, float | int) and isinstance(own.expected, float | int) and actual != own.expected:
                self.note(float(abs(actual - own.expected) / max(float(own.tolerance), 1e-300)))
            return equal(own, actual)

        scalar.__eq__ = watched


def watch(out: Path, arguments: list[str]) -> int:
    """Run pytest in this process and write what was seen."""
    import pytest

    plugin = Watch(out)
    plugin.install()
    return int(pytest.main([*arguments, "-q", "-p", "no:cacheprovider"], plugins=[plugin]))


def run(setting: str, arguments: list[str]) -> dict[str, Any]:
    """Run pytest in a process of the setting's environment."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seen.json"
        command = [sys.executable, str(_HERE), "--watch", str(out), *arguments]
        ended = subprocess.run(command, env=os.environ | SETTINGS[setting], check=False, capture_output=True, text=True)
        print(f"{setting}: {ended.stdout.strip().splitlines()[-1]}", flush=True)
        if not out.exists():
            raise SystemExit(ended.stdout + ended.stderr)
        seen: dict[str, Any] = json.loads(out.read_text())
        return seen


def main() -> None:
    """Run a selection of the tests under every setting and print the table."""
    if sys.argv[1:2] == ["--watch"]:
        sys.exit(watch(Path(sys.argv[2]), sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--least", type=float, default=0.1, help="Least share of a tolerance for a line to be listed.")
    options, arguments = parser.parse_known_args()
    names = options.settings.split(",")
    seen = {name: run(name, arguments) for name in names}
    lines = sorted({line for s in seen.values() for line in s["used"]})
    most = {line: max(s["used"].get(line, 0.0) for s in seen.values()) for line in lines}
    table = Table(title=f"share of the tolerance used, of {len(lines)} lines with one", title_justify="left")
    table.add_column("line of tests/", overflow="fold")
    for name in names:
        table.add_column(name, justify="right")
    for line in sorted((li for li in lines if most[li] >= options.least), key=lambda li: -most[li]):
        table.add_row(line, *(f"{seen[name]['used'].get(line, 0.0):.2g}" for name in names))
    Console(width=110).print(table)
    failed = sorted({test for s in seen.values() for test in s["failed"]})
    for test in failed:
        print(f"failed under {', '.join(n for n in names if test in seen[n]['failed'])}: {test}")
    sys.exit(1 if failed or max(most.values(), default=0.0) > 1 else 0)


if __name__ == "__main__":
    main()
