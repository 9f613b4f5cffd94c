"""The votes of Salient ImageNet (SR §3.1): 5 people on each of the 5 most important neural features of a class.

Each saw the images of highest activation and said whether the feature looks at the main object, at a separate object or
at the background. A feature is spurious if at least 3 of 5 say one of the latter two, and core otherwise.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from spurious_imagenet.concepts import ConceptVerdict, ConceptVerdicts, Vote
from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.models.labels import LabelSpace, imagenet_label_space
from spurious_imagenet.tables import Columns, TableRow, open_table

_COLUMNS = (
    "WorkerId",
    "Input.wordnet_id",
    "Input.class_index",
    "Input.feature_index",
    "Input.feature_rank",
    "Answer.main",
    "Answer.confidence",
    "Answer.reasons",
)
_SPURIOUS_ANSWERS = frozenset({"separate_object", "background"})
_ANSWERS = _SPURIOUS_ANSWERS | {"main_object"}
_VOTES = 5
_MAJORITY = 3
_MAX_BYTES = 64 << 20  # 25 times the published file
_MAX_INDEX = 2**31 - 1


class _Line(NamedTuple):
    """One vote as published, and the row it stands in; the header is row 1."""

    row: int
    class_index: int
    feature: int
    vote: Vote


def read_salient_imagenet(path: str | Path) -> ConceptVerdicts:
    """Read ``discover_spurious_features.csv`` of Salient ImageNet.

    Class indices are those of ImageNet-1k; each row's WordNet id must be its index's.

    Args:
        path: The CSV, one vote per row.

    Returns:
        One verdict of kind ``neuron`` a pair of class and feature, in the order of the file, with every vote's worker,
        answer, confidence (1 to 5, higher is surer) and reason.

    Raises:
        DataError: The file is missing or of another form, or a row is not a vote: the sentence names file and row.
    """
    file = Path(path)
    labels = imagenet_label_space("imagenet-1k")
    pairs: dict[tuple[int, int], list[_Line]] = defaultdict(list)
    for row in _rows(file):
        line = _parse(row.where, row.number, row.cells, labels)
        pairs[line.class_index, line.feature].append(line)
    if not pairs:
        raise DataError(f"{file} holds no votes.")
    return ConceptVerdicts(tuple(_verdict(file, lines, labels) for lines in pairs.values()))


def _rows(path: Path) -> Iterator[TableRow]:
    """Yield the data rows; memory holds one at a time, and no cell of more than the csv module's 128 KiB."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if size > _MAX_BYTES:
        raise DataError(f"{path} has {size} bytes: expected at most {_MAX_BYTES}.")
    with open_table(path, "votes", Columns(_COLUMNS, required=_COLUMNS, others="pass")) as table:
        yield from table


def _parse(where: str, row: int, cells: dict[str, str], labels: LabelSpace) -> _Line:
    class_index = _index(where, "Input.class_index", cells)
    class_id = cells["Input.wordnet_id"]
    if class_index >= len(labels) or labels.class_ids[class_index] != class_id:
        expected = labels.class_ids[class_index] if class_index < len(labels) else f"an index below {len(labels)}"
        raise DataError(f"{where}: class {class_index} with id {_short(class_id)} is unknown: expected {expected}.")
    _index(where, "Input.feature_rank", cells)
    if cells["Answer.main"] not in _ANSWERS:
        raise DataError(f"{where}: answer {_short(cells['Answer.main'])}: expected one of {sorted(_ANSWERS)}.")
    try:
        vote = Vote(
            labeler=str(_index(where, "WorkerId", cells)),
            answer=cells["Answer.main"],
            confidence=_confidence(where, cells["Answer.confidence"]),
            reason=cells["Answer.reasons"],
        )
    except ValidationError as error:
        raise DataError(f"{where}: {one_line(error)}.") from None
    return _Line(row, class_index, _index(where, "Input.feature_index", cells), vote)


def _index(where: str, column: str, cells: dict[str, str]) -> int:
    text = cells[column]
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_INDEX):
        raise DataError(f"{where}: {column} is {_short(text)}: expected a number from 0 to {_MAX_INDEX}.")
    return int(text)


def _confidence(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= 5:
        raise DataError(f"{where}: confidence {_short(text)}: expected a number from 1 to 5.")
    return value


def _verdict(path: Path, lines: list[_Line], labels: LabelSpace) -> ConceptVerdict:
    first = lines[0]
    pair = f"class {first.class_index}, feature {first.feature}"
    twice = _second_vote_of_one(lines)
    if twice is not None:
        raise DataError(f"{path}, row {twice.row}: worker {twice.vote.labeler} votes a second time on {pair}.")
    if len(lines) != _VOTES:
        raise DataError(f"{path}, row {first.row}: {pair} has {len(lines)} votes: expected {_VOTES}.")
    against = sum(line.vote.answer in _SPURIOUS_ANSWERS for line in lines)
    return ConceptVerdict(
        kind="neuron",
        class_index=first.class_index,
        class_id=labels.class_ids[first.class_index],
        component=first.feature,
        verdict="spurious" if against >= _MAJORITY else "core",
        source="salient-imagenet",
        votes=tuple(line.vote for line in lines),
    )


def _second_vote_of_one(lines: Iterable[_Line]) -> _Line | None:
    seen: set[str] = set()
    for line in lines:
        if line.vote.labeler in seen:
            return line
        seen.add(line.vote.labeler)
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
