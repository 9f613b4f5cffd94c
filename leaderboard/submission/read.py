"""Reading a submission: its information and its rows, or everything that is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spurious_imagenet.leaderboard.entry import SubmissionInfo
from spurious_imagenet.leaderboard.submission._logits import read_logits
from spurious_imagenet.leaderboard.submission._package import INFORMATION, opened
from spurious_imagenet.leaderboard.submission._parquet import read_parquet
from spurious_imagenet.leaderboard.submission.information import read_information
from spurious_imagenet.leaderboard.submission.problems import DEFAULT_LIMITS, Limits, Problem, SubmissionError
from spurious_imagenet.leaderboard.submission.table import canonical, row_problems
from spurious_imagenet.leaderboard.version import BenchmarkVersion

__all__ = ["Parts", "Submission", "read_parts", "read_submission"]


@dataclass(frozen=True, eq=False)
class Submission:
    """What one model says of the images, and who says so.

    Attributes:
        info: The file ``submission.yaml``.
        table: Rows of :data:`~spurious_imagenet.leaderboard.submission.table.SUBMISSION_SCHEMA`, sorted by side, class
            and hash.
    """

    info: SubmissionInfo
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Parts:
    """What could be read of a submission, and what is wrong with it.

    Attributes:
        info: None where it is wrong.
        table: Rows in the order of the file; None where they cannot be read.
        file: Name of the predictions file, for messages.
        problems: Of the package, the information and the rows in themselves.
    """

    info: SubmissionInfo | None
    table: pd.DataFrame | None
    file: str
    problems: tuple[Problem, ...]


def read_submission(
    path: str | Path, limits: Limits = DEFAULT_LIMITS, version: BenchmarkVersion | None = None
) -> Submission:
    """Read a submission and check all that can be checked without the benchmark's images.

    Args:
        path: A directory or zip of ``submission.yaml`` and ``predictions.parquet`` or ``predictions.safetensors``.
        limits: How large it may be.
        version: Of the benchmark; needed for logits, whose rows do not say of which class an image is.

    Raises:
        SubmissionError: It cannot be used; its ``problems`` are all that is wrong with it.
    """
    parts = read_parts(path, limits, version)
    if parts.problems or parts.info is None or parts.table is None:
        raise SubmissionError(parts.problems)
    return Submission(parts.info, canonical(parts.table))


def read_parts(path: str | Path, limits: Limits, version: BenchmarkVersion | None) -> Parts:
    """Read what can be read, and collect what is wrong."""
    info, table, name = None, None, "predictions"
    with opened(path, limits) as package:
        problems = list(package.problems)
        if package.information is not None:
            try:
                info = read_information(package.information)
            except SubmissionError as error:
                problems += error.problems
        if package.predictions is not None:
            name = package.predictions.name
            try:
                table = _rows(package.predictions, limits, version)
            except SubmissionError as error:
                problems += error.problems
    if table is not None:
        problems += row_problems(table, limits, name)
    if info is None and not problems:
        problems.append(Problem(INFORMATION, "it cannot be read."))
    return Parts(info, table, name, tuple(problems))


def _rows(file: Path, limits: Limits, version: BenchmarkVersion | None) -> pd.DataFrame:
    if file.suffix == ".parquet":
        # A row too many is worth naming, a million of them is not.
        most = limits.rows if version is None else min(limits.rows, 2 * len(version.images) + 1000)
        return read_parquet(file, limits, most)
    return read_logits(file, limits, version)
