"""Checking a submission against a version of the benchmark: every problem at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spurious_imagenet.datasets.manifest import images_sha256
from spurious_imagenet.datasets.validation import once_each
from spurious_imagenet.leaderboard.entry import SubmissionInfo
from spurious_imagenet.leaderboard.submission._package import INFORMATION
from spurious_imagenet.leaderboard.submission.predictions import class_problems, coverage_problems
from spurious_imagenet.leaderboard.submission.problems import DEFAULT_LIMITS, Limits, Problem, shown
from spurious_imagenet.leaderboard.submission.read import Submission, read_parts
from spurious_imagenet.leaderboard.submission.table import canonical
from spurious_imagenet.leaderboard.version import BenchmarkVersion

__all__ = ["Checked", "check_submission"]


@dataclass(frozen=True, eq=False)
class Checked:
    """What a check found.

    Attributes:
        submission: None if there is any problem.
        problems: What is wrong, each in one sentence, in an order that only the submission decides.
        warnings: What a submitter should know though it is accepted.
    """

    submission: Submission | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()


def check_submission(path: str | Path, version: BenchmarkVersion, limits: Limits = DEFAULT_LIMITS) -> Checked:
    """Find everything that is wrong with a submission; nothing that it holds makes this raise.

    That the predictions are those of the weights whose hash it gives cannot be seen from the files, except where a
    model that chose the images is named with another hash: only running the model again on some images shows that.

    Args:
        path: A directory or zip; see :func:`~spurious_imagenet.leaderboard.submission.read.read_submission`.
        version: The version that it must be for.
        limits: How large it may be.
    """
    parts = read_parts(path, limits, version)
    problems = list(parts.problems)
    if parts.info is not None:
        problems += _version_problems(parts.info, version)
    if parts.table is not None:
        problems += coverage_problems(parts.table, version, parts.file)
        problems += class_problems(parts.table, version, parts.file)
    if problems or parts.info is None or parts.table is None:
        return Checked(None, tuple(dict.fromkeys(problems)))
    return Checked(Submission(parts.info, canonical(parts.table)), (), tuple(_warnings(parts.info)))


def _version_problems(info: SubmissionInfo, version: BenchmarkVersion) -> list[Problem]:
    wanted = version.info
    pairs = {
        "dataset_version": (info.dataset_version, wanted.version),
        "dataset_sha256": (info.dataset_sha256, wanted.dataset_sha256),
        "validation_sha256": (info.validation_sha256, wanted.validation_sha256),
    }
    what = f"that of {shown(wanted.name)} version {wanted.version}"
    found = [
        Problem(f"{INFORMATION}, field {field}", f"got {shown(got, 12)}, expected {shown(expected, 12)}, {what}.")
        for field, (got, expected) in pairs.items()
        if got != expected
    ]
    if info.validation_sha256 in _also_right(version):
        found = [problem for problem in found if problem.where != f"{INFORMATION}, field validation_sha256"]
    known = {m.model: m.weights_sha256 for m in wanted.miners if m.weights_sha256 is not None}
    if info.spec in known and info.weights_sha256 != known[info.spec]:
        got, expected = shown(info.weights_sha256, 12), shown(known[info.spec], 12)
        message = f"got {got}, expected {expected}, that of the weights of {shown(info.spec)}."
        found.append(Problem(f"{INFORMATION}, field weights_sha256", message))
    return found


def _also_right(version: BenchmarkVersion) -> set[str]:
    """Return the hash of the version's validation images once each: versions of old may hold copies of some."""
    table, said = once_each(version.side("validation"))
    return {images_sha256(table, ["class_id", "sha256"])} if said else set()


def _warnings(info: SubmissionInfo) -> list[Problem]:
    if info.spec is not None:
        return []
    return [Problem(f"{INFORMATION}, field spec", "it is not given, so that no one can verify the entry by a new run.")]
