"""Submitted rows held against the images of a version of the benchmark."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.leaderboard.submission.problems import Problem, SubmissionError, listed, of_rows, shown
from spurious_imagenet.leaderboard.submission.table import KEY
from spurious_imagenet.leaderboard.version import BenchmarkVersion

__all__ = ["as_predictions", "class_problems", "coverage_problems"]

_WORDNET = re.compile(r"n\d{8}")


def as_predictions(table: pd.DataFrame, version: BenchmarkVersion) -> Predictions:
    """Give every image of a version its submitted row.

    Args:
        table: Rows of :data:`~spurious_imagenet.leaderboard.submission.table.SUBMISSION_SCHEMA`, in any order.
        version: What was predicted.

    Returns:
        Predictions in the order in which evaluation leaves them, so that they are summarised to the same bits.

    Raises:
        SubmissionError: The rows are not exactly those of the version's images.
    """
    problems = coverage_problems(table, version, "predictions")
    if problems:
        raise SubmissionError(problems)
    images = version.images[["side", "class_id", "concept_id", "name", "sha256"]]
    found = images.merge(table[[*KEY, "probability", "top5_id", "top5_probability"]], on=KEY, validate="many_to_one")
    found["predicted_id"] = [best[0] for best in found["top5_id"]]
    return Predictions(found).ordered()


def coverage_problems(table: pd.DataFrame, version: BenchmarkVersion, where: str) -> list[Problem]:
    """Find images that are missing, too many or there more than once."""
    given, wanted = _keys(table, KEY), _keys(version.images.drop_duplicates(KEY), KEY)
    problems = of_rows(
        where, given.duplicated(), "an image that an earlier row has already", table["sha256"].to_numpy(object)
    )
    problems += of_rows(
        where,
        ~given.isin(wanted),
        f"an image that version {version.info.version} does not have on that side and of that class",
        table["sha256"].to_numpy(object),
    )
    return [*problems, *missing_problems(wanted[~wanted.isin(given)], where)]


def missing_problems(missing: pd.Index[Any], where: str) -> list[Problem]:
    """Name images, by their keys, that have no row."""
    if not len(missing):
        return []
    number = f"{len(missing)} images" if len(missing) > 1 else "1 image"
    first = [" ".join([*key[:-1], shown(key[-1])]) for key in missing[:3].tolist()]
    return [Problem(where, f"no row for {number}, where each needs one: {listed(first, len(missing))}.")]


def class_problems(table: pd.DataFrame, version: BenchmarkVersion, where: str) -> list[Problem]:
    """Find most probable classes that are neither of the version nor ImageNet's."""
    known = set(version.images["class_id"]) | set(version.info.class_names)
    best = [classes if np.ndim(classes) == 1 else () for classes in table["top5_id"]]
    unknown = [next((c for c in classes if c is not None and not is_class(c, known)), None) for classes in best]
    wrong: NDArray[np.bool_] = np.array([c is not None for c in unknown], bool)
    message = f"a class that is neither of version {version.info.version} nor a WordNet id"
    return of_rows(f"{where}, column top5_id", wrong, message, np.array(unknown, object))


def is_class(class_id: Any, known: set[str]) -> bool:
    """Tell whether an id is one of the version's classes, or a WordNet id: models may know more than is measured."""
    return isinstance(class_id, str) and (class_id in known or _WORDNET.fullmatch(class_id) is not None)


def _keys(table: pd.DataFrame, columns: list[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[columns])


def unknown_classes(class_ids: list[str], version: BenchmarkVersion) -> list[str]:
    """Return those of some class ids that :func:`is_class` refuses, as they may be shown."""
    known = set(version.images["class_id"]) | set(version.info.class_names)
    return [shown(c) for c in class_ids if not is_class(c, known)]
