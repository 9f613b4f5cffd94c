"""``predictions.safetensors``: all logits of a model, turned into the probabilities that are compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.leaderboard.submission._package import looks_like
from spurious_imagenet.leaderboard.submission.predictions import missing_problems, unknown_classes
from spurious_imagenet.leaderboard.submission.problems import (
    Limits,
    Problem,
    SubmissionError,
    listed,
    of_rows,
    said,
    shown,
)
from spurious_imagenet.leaderboard.submission.table import KEY, SIDES, SUBMISSION_SCHEMA
from spurious_imagenet.leaderboard.version import BenchmarkVersion
from spurious_imagenet.models.inference import softmax, top_k
from spurious_imagenet.tensors import SafetensorError, open_tensors

_TENSORS = {"logits": "(N, K) float16 or float32", "sha256": "(N, 32) uint8", "side": "(N,) uint8"}
_MOST_CLASSES = 100_000
_ROWS = 512


def read_logits(path: Path, limits: Limits, version: BenchmarkVersion | None) -> pd.DataFrame:
    """Read logits as submitted rows, one for each class of each image that the version has.

    Raises:
        SubmissionError: The file is not what it must be, or has not exactly the version's images.
    """
    where = path.name
    if version is None:
        raise SubmissionError([Problem(where, "logits can only be read together with the version they are for.")])
    _check_header(path, limits, where)
    try:
        with open_tensors(path) as file:
            problems, class_ids = _header_problems(file, version, where)
            if problems:
                raise SubmissionError(problems)
            sha256 = [row.tobytes().hex() for row in file.get_tensor("sha256")]
            given = pd.DataFrame({"side": file.get_tensor("side"), "sha256": sha256})
            problems = _image_problems(given, version, where)
            wanted = None if problems else _wanted(given, version)
            logits = file.get_slice("logits")
            problems += _finite_problems(logits, len(given), where)
            if problems or wanted is None:
                raise SubmissionError(problems)
            return _table(wanted, logits, class_ids)
    except (SafetensorError, OSError, ValueError) as error:
        raise SubmissionError([Problem(where, f"it is damaged: {said(error)}.")]) from None


def _check_header(path: Path, limits: Limits, where: str) -> None:
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:] != b"{" or length > path.stat().st_size - 8:
        what = f"it is {looks_like(start)}" if start else "it is empty"
        raise SubmissionError([Problem(where, f"{what}, or cut off: expected a safetensors file.")])
    if length > limits.metadata:
        message = f"its header claims {length} bytes: expected at most {limits.metadata}."
        raise SubmissionError([Problem(where, message)])


def _header_problems(file: Any, version: BenchmarkVersion, where: str) -> tuple[list[Problem], list[str]]:
    """Check names, types and shapes before any tensor is read."""
    names = list(file.keys())
    if set(names) != set(_TENSORS):
        got = listed(sorted(shown(name) for name in names)) if names else "nothing"
        expected = ", ".join(f"{name} {shape}" for name, shape in _TENSORS.items())
        return [Problem(where, f"it holds the tensors {got}: expected {expected}, and nothing else.")], []
    shapes = {name: (file.get_slice(name).get_dtype(), tuple(file.get_slice(name).get_shape())) for name in names}
    rows = shapes["side"][1][0] if len(shapes["side"][1]) == 1 else -1
    class_ids, problems = _class_ids(file.metadata(), version, where)
    fits = {
        "logits": shapes["logits"][0] in ("F16", "F32")
        and len(shapes["logits"][1]) == 2
        and shapes["logits"][1][0] == rows
        and (not class_ids or shapes["logits"][1][1] == len(class_ids)),
        "sha256": shapes["sha256"] == ("U8", (rows, 32)),
        "side": shapes["side"][0] == "U8" and rows >= 0,
    }
    for name in (name for name in _TENSORS if not fits[name]):
        dtype, shape = shapes[name]
        more = f", with K = {len(class_ids)} class_ids" if name == "logits" and class_ids else ""
        message = f"it is {shape} {dtype}: expected {_TENSORS[name]}{more}, N the same in all."
        problems.append(Problem(f"{where}, tensor {name}", message))
    return problems, class_ids


def _class_ids(metadata: Any, version: BenchmarkVersion, where: str) -> tuple[list[str], list[Problem]]:
    where = f"{where}, metadata class_ids"
    try:
        found = json.loads((metadata or {}).get("class_ids", "null"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_CLASSES or not all(isinstance(c, str) for c in found):
        return [], [
            Problem(where, "they are missing or no JSON list of class ids, where one for each logit is expected.")
        ]
    problems = []
    if len(set(found)) < len(found):
        problems.append(Problem(where, f"{len(found) - len(set(found))} of the {len(found)} ids are there twice."))
    unknown = unknown_classes(found, version)
    if unknown:
        known = f"version {version.info.version}"
        problems.append(Problem(where, f"they name {listed(unknown)}: neither of {known} nor a WordNet id."))
    missing = sorted(set(version.images["class_id"]) - set(found))
    if missing:
        problems.append(Problem(where, f"they lack {listed(missing)}: expected all classes of the images."))
    return found, problems


def _image_problems(given: pd.DataFrame, version: BenchmarkVersion, where: str) -> list[Problem]:
    sha256 = given["sha256"].to_numpy(object)
    unsided = (given["side"] > 1).to_numpy()
    problems = of_rows(f"{where}, tensor side", unsided, "a side other than 0 or 1", given["side"].to_numpy())
    keys = pd.MultiIndex.from_arrays([given["side"].map(dict(enumerate(SIDES))), given["sha256"]])
    wanted = pd.MultiIndex.from_frame(version.images[["side", "sha256"]].drop_duplicates())
    problems += of_rows(where, keys.duplicated(), "an image that an earlier row has already", sha256)
    extra = ~keys.isin(wanted) & ~unsided
    problems += of_rows(
        where, extra, f"an image that version {version.info.version} does not have on that side", sha256
    )
    return [*problems, *missing_problems(wanted[~wanted.isin(keys)], where)]


def _finite_problems(logits: Any, rows: int, where: str) -> list[Problem]:
    blocks = [~np.isfinite(logits[i : min(i + _ROWS, rows)]).all(axis=1) for i in range(0, rows, _ROWS)]
    wrong = np.concatenate(blocks) if blocks else np.zeros(0, bool)
    return of_rows(f"{where}, tensor logits", wrong, "NaN or infinite logits")


@dataclass(frozen=True)
class _Wanted:
    keys: pd.DataFrame
    row: NDArray[np.int64]


def _wanted(given: pd.DataFrame, version: BenchmarkVersion) -> _Wanted:
    """Find the row of logits of each distinct side, class and image."""
    given = pd.DataFrame({"side": given["side"].map(dict(enumerate(SIDES))), "sha256": given["sha256"]})
    keys = version.images[KEY].drop_duplicates().merge(given.reset_index(names="row"), on=["side", "sha256"])
    keys = keys.sort_values("row", kind="stable", ignore_index=True)
    return _Wanted(keys[KEY], keys["row"].to_numpy(np.int64))


def _table(wanted: _Wanted, logits: Any, class_ids: list[str]) -> pd.DataFrame:
    place = {class_id: i for i, class_id in enumerate(class_ids)}
    target = wanted.keys["class_id"].map(place).to_numpy(np.int64)
    ids, blocks = np.array(class_ids, dtype=object), []
    for first in range(0, len(target), _ROWS):
        row = wanted.row[first : first + _ROWS]  # rising, so that a block lies together in the file
        values = np.asarray(logits[int(row[0]) : int(row[-1]) + 1])[row - row[0]].astype(np.float32)
        probability, best = softmax(values), top_k(values, 5)
        blocks.append(
            wanted.keys.iloc[first : first + _ROWS].assign(
                probability=probability[np.arange(len(row)), target[first : first + _ROWS]],
                top5_id=ids[best].tolist(),
                top5_probability=list(np.take_along_axis(probability, best, axis=1).astype(np.float32)),
            )
        )
    return pd.concat(blocks, ignore_index=True) if blocks else SUBMISSION_SCHEMA.empty_table().to_pandas()
