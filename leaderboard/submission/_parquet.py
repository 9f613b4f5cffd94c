"""``predictions.parquet``: looked at before it is read, and read in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spurious_imagenet.leaderboard.submission._package import looks_like
from spurious_imagenet.leaderboard.submission._pages import PagesError, page_totals
from spurious_imagenet.leaderboard.submission.problems import Limits, Problem, SubmissionError, listed, said, shown
from spurious_imagenet.leaderboard.submission.table import SUBMISSION_SCHEMA

_MOST_COLUMNS = 100
_MOST_LISTED = 64


def read_parquet(path: Path, limits: Limits, rows: int) -> pd.DataFrame:
    """Read submitted rows, in the file's order.

    Args:
        path: The file.
        limits: How large it may be.
        rows: The most rows that are read.

    Raises:
        SubmissionError: It is not a parquet file, too large, or of other columns; with everything that is wrong.
    """
    where = path.name
    _check_ends(path, limits, where)
    try:
        with _file(path, limits) as file:
            problems = [*_schema_problems(file.schema_arrow, where), *_size_problems(file, path, limits, rows, where)]
            texts = [
                c.path for c in map(file.schema.column, range(len(file.schema))) if c.physical_type == "BYTE_ARRAY"
            ]
        if problems:
            raise SubmissionError(problems)
        with _file(path, limits, texts) as file:
            tables = [
                _bounded(file.read_row_group(i, SUBMISSION_SCHEMA.names, use_threads=False), limits, where)
                for i in range(file.num_row_groups)
            ]
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        raise SubmissionError([Problem(where, f"it is damaged: {said(error)}.")]) from None
    table = pa.concat_tables(tables) if tables else SUBMISSION_SCHEMA.empty_table()
    rows_read: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return rows_read


def _file(path: Path, limits: Limits, read_dictionary: Sequence[str] = ()) -> pq.ParquetFile:
    return pq.ParquetFile(
        path,
        read_dictionary=list(read_dictionary),
        thrift_string_size_limit=limits.metadata,
        thrift_container_size_limit=limits.metadata // 4,
    )


def _check_ends(path: Path, limits: Limits, where: str) -> None:
    """Look at both ends of the file, so that no reader is given what is not parquet or has a boundless footer."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(max(0, size - 8))
        end = file.read(8)
    if not start.startswith(b"PAR1"):
        what = f"it is {looks_like(start)}" if size else "it is empty"
        raise SubmissionError([Problem(where, f"{what}: expected a parquet file.")])
    if size < 12 or end[4:] != b"PAR1":
        raise SubmissionError([Problem(where, "it is cut off: a parquet file ends with PAR1.")])
    footer = int.from_bytes(end[:4], "little")
    if footer > min(limits.metadata, size - 12):
        raise SubmissionError(
            [Problem(where, f"its footer claims {footer} bytes: expected {limits.metadata} at most.")]
        )


def _schema_problems(schema: pa.Schema, where: str) -> list[Problem]:
    problems = []
    missing = [name for name in SUBMISSION_SCHEMA.names if name not in schema.names]
    extra = [name for name in schema.names if name not in SUBMISSION_SCHEMA.names]
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if missing:
        problems.append(
            Problem(where, f"it lacks {listed(missing)}: expected the columns {', '.join(SUBMISSION_SCHEMA.names)}.")
        )
    if extra:
        expected = ", ".join(SUBMISSION_SCHEMA.names)
        names = listed([shown(name) for name in extra])
        problems.append(Problem(where, f"it also has the columns {names}: expected {expected}, and nothing else."))
    if twice:
        names = listed([shown(name) for name in twice])
        problems.append(Problem(where, f"it has the columns {names} more than once."))
    for field in SUBMISSION_SCHEMA:
        found = schema.get_all_field_indices(field.name)
        if len(found) == 1 and not _fits(schema.field(found[0]).type, field.type):
            got = shown(str(schema.field(found[0]).type))
            problems.append(Problem(f"{where}, column {field.name}", f"it is {got}: expected {_words(field.type)}."))
    return problems


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    if isinstance(found, pa.BaseExtensionType):
        return False
    if pa.types.is_list(wanted):
        return (pa.types.is_list(found) or pa.types.is_large_list(found)) and _fits(found.value_type, wanted.value_type)
    if pa.types.is_string(wanted):
        value = found.value_type if pa.types.is_dictionary(found) else found
        return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))
    return bool(pa.types.is_float32(found) or pa.types.is_float64(found))


def _words(wanted: pa.DataType) -> str:
    if pa.types.is_list(wanted):
        return f"a list of {_words(wanted.value_type)}"
    return "text (string)" if pa.types.is_string(wanted) else "float32 or float64"


def _size_problems(file: pq.ParquetFile, path: Path, limits: Limits, rows: int, where: str) -> list[Problem]:
    found = file.metadata
    if found.num_columns > _MOST_COLUMNS:
        return [Problem(where, f"it has {found.num_columns} columns: expected {len(SUBMISSION_SCHEMA)}.")]
    if found.num_rows > rows:
        return [Problem(where, f"it has {found.num_rows} rows: expected at most {rows}.")]
    groups = [found.row_group(i) for i in range(found.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(found.num_columns)]
    size = sum(max(column.total_uncompressed_size, 0) for column in columns)
    allowed = found.num_rows * limits.row + limits.metadata
    if size > allowed:
        return [Problem(where, f"its columns inflate to {size} bytes: expected at most {allowed}, for as many rows.")]
    return _page_problems(path, found, limits, where)


def _page_problems(path: Path, found: pq.FileMetaData, limits: Limits, where: str) -> list[Problem]:
    allowed = found.num_rows * limits.row + limits.metadata
    try:
        with path.open("rb") as file:
            totals = page_totals(file, found)
    except PagesError as error:
        return [Problem(where, f"{error}.")]
    if totals.inflated > allowed:
        return [Problem(where, f"its pages inflate to {totals.inflated} bytes: expected at most {allowed}.")]
    if totals.values > _MOST_LISTED * max(found.num_rows, 1):
        return [
            Problem(where, f"a column has {totals.values} values for {found.num_rows} rows: expected five per row.")
        ]
    return []


def _bounded(table: pa.Table, limits: Limits, where: str) -> pa.Table:
    """Turn dictionaries into text once none of their values is too long: one long value may stand in every row."""
    problems = []
    for field in table.schema:
        chunks = [c.flatten() if pa.types.is_nested(c.type) else c for c in table.column(field.name).chunks]
        texts = [chunk.dictionary for chunk in chunks if pa.types.is_dictionary(chunk.type)]
        longest = max((pc.max(pc.binary_length(values)).as_py() or 0 for values in texts), default=0)
        if longest > 4 * limits.text:  # bytes; characters are counted row by row
            message = f"a value has {longest} bytes: expected at most {limits.text} characters."
            problems.append(Problem(f"{where}, column {field.name}", message))
    if problems:
        raise SubmissionError(problems)
    texts_and_numbers = table.cast(SUBMISSION_SCHEMA)
    texts_and_numbers.validate(full=True)  # text may be no UTF-8
    return texts_and_numbers
