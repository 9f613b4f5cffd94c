"""Writing a submission: equal submissions give equal bytes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from spurious_imagenet.io import atomic_directory, atomic_path
from spurious_imagenet.leaderboard.entry import SubmissionInfo
from spurious_imagenet.leaderboard.submission._package import INFORMATION, PREDICTIONS
from spurious_imagenet.leaderboard.submission.information import read_information
from spurious_imagenet.leaderboard.submission.problems import DEFAULT_LIMITS, SubmissionError
from spurious_imagenet.leaderboard.submission.read import Submission
from spurious_imagenet.leaderboard.submission.table import SUBMISSION_SCHEMA, canonical, row_problems

__all__ = ["information_bytes", "write_submission"]


def write_submission(submission: Submission, out: str | Path) -> Path:
    """Write a submission as a zip, or as a directory where ``out`` does not end in ``.zip``.

    Raises:
        SubmissionError: It would be refused for its information or its rows.
        StoreError: The directory is there already.
    """
    target, name = Path(out), PREDICTIONS[0]
    information = information_bytes(submission.info)
    read_information(information)
    problems = row_problems(submission.table, DEFAULT_LIMITS, name)
    if problems:
        raise SubmissionError(problems)
    files = {INFORMATION: information, name: _parquet_bytes(submission)}
    if target.suffix.lower() != ".zip":
        with atomic_directory(target) as folder:
            for file, data in files.items():
                (folder / file).write_bytes(data)
        return target
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file, data in files.items():
            member = zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o100644 << 16
            archive.writestr(member, data, zipfile.ZIP_STORED)  # parquet is compressed in itself
    return target


def information_bytes(info: SubmissionInfo) -> bytes:
    """Return the file ``submission.yaml``, fields in the order in which they are documented."""
    fields = info.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000).encode()


def _parquet_bytes(submission: Submission) -> bytes:
    rows = canonical(submission.table)
    table = pa.Table.from_pandas(rows, schema=SUBMISSION_SCHEMA, preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), buffer, compression="zstd")
    return buffer.getvalue()
