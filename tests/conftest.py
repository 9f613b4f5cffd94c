"""What holds for every test: an order of chance, a process left as it was found, and on CI nothing left out."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings
from process_state import changes, process_state

#: What a machine that has everything that [dev] names may still lack.
_MAY_BE_MISSING = ("SPURIOUS_DATA", "GPU", "CUDA")

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Python chooses it when it is first asked for, which is not the doing of whichever test comes first.
tempfile.gettempdir()


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what runs behind them deaf to Ctrl-C, and every process that a test starts would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _the_process_stays_as_it_was() -> Iterator[None]:
    """Nothing that the product or a test does outlives the test, so that no test can depend on another."""
    before = process_state(draws=False)
    yield
    left = changes(before, process_state(draws=False))
    assert not left, f"this outlives the test, and would change others: {'; '.join(left)}"


def _not_run(reason: str) -> str | None:
    """Return why a skip is a failure, None where it is allowed."""
    if os.environ.get("CI") != "true" or any(word in reason for word in _MAY_BE_MISSING):
        return None
    return (
        f"skipped on CI ({reason}): there, only tests that need real images (SPURIOUS_DATA) or a GPU may be skipped; "
        "install what is missing."
    )


def _demand(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if (said := _not_run(str(reason).removeprefix("Skipped: "))) is not None:
        report.outcome, report.longrepr = "failed", said


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Make a skipped test a failed one on CI."""
    report = yield
    _demand(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Make a skipped module a failed one on CI."""
    report = yield
    _demand(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to run the same order again, however quiet the run is."""
    seed = getattr(config.option, "randomly_seed", None)
    if isinstance(seed, int) and not hasattr(config, "workerinput"):
        terminalreporter.write_line(f"the order of this run: pytest --randomly-seed={seed}")
