"""Odd input as it comes from people and other programs: one module per topic, one function per case."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CASES", "Case", "Seen", "Workbench", "case", "load_cases"]


@dataclass(frozen=True)
class Seen:
    """What became of one input.

    Attributes:
        said: The sentence, or the sentences, that the program printed.
        kept: What is there afterwards, in words.
    """

    said: str
    kept: str


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        topic: Heading under which it stands.
        given: The input, in words.
        run: Makes the input in an empty folder, runs the program, says what was seen.
    """

    topic: str
    given: str
    run: Callable[[Workbench], Seen]


@dataclass(frozen=True)
class Workbench:
    """An empty folder and the command line.

    Attributes:
        folder: The folder; commands run in it, so that sentences name relative paths.
    """

    folder: Path

    def spurious(self, *arguments: object) -> tuple[int, str]:
        """Run ``spurious`` with some arguments; return its exit code and all that it printed."""
        command = [sys.executable, "-c", "from spurious_imagenet.cli import main; main()", *map(str, arguments)]
        ended = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False)
        return ended.returncode, ended.stdout + ended.stderr

    def said(self, *arguments: object, about: str = "") -> str:
        """Run ``spurious``; return the exit code and the lines that hold ``about``, or else the last line."""
        code, output = self.spurious(*arguments)
        lines = [line.strip() for line in output.splitlines() if line.strip() and "\u2501" not in line]  # no bars
        chosen = [line for line in lines if about in line] if about else lines[-1:]
        return f"exit {code}: " + " / ".join(chosen or lines[-1:])


CASES: list[Case] = []


def case(topic: str, given: str) -> Callable[[Callable[[Workbench], Seen]], Callable[[Workbench], Seen]]:
    """Register a function as the case of an input."""

    def register(run: Callable[[Workbench], Seen]) -> Callable[[Workbench], Seen]:
        CASES.append(Case(topic, given, run))
        return run

    return register


def load_cases() -> list[Case]:
    """Import every module of this folder; return the cases in the order of module and place."""
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    return CASES
