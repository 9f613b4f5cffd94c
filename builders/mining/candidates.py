"""Reading what mining left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import sha256_file

__all__ = ["read_candidates"]


def read_candidates(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read the candidates of a finished run.

    Args:
        path: Folder written by ``spurious mine``.
        columns: Which columns of :data:`~spurious_imagenet.builders.mining._schema.CANDIDATES`; None: all of them.

    Raises:
        StoreError: The run is unfinished, or its table has changed or cannot be read.
    """
    folder = Path(path)
    receipt, table = folder / "receipt.json", folder / "candidates.parquet"
    if not receipt.is_file():
        raise StoreError(
            f"{folder} holds no finished candidates: receipt.json is missing; run `spurious mine` to its end."
        )
    try:
        mined = json.loads(receipt.read_text(encoding="utf-8"))["outputs_sha256"][table.name]
        if sha256_file(table) != mined:
            raise StoreError(f"{table} has changed since it was mined: its SHA-256 is not the receipt's.")
        rows: pd.DataFrame = pq.read_table(table, columns=None if columns is None else list(columns)).to_pandas()
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise StoreError(f"{folder} holds no readable candidates: {error}") from error
    return rows
