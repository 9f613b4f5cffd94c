"""The config ``spurious``: published images with their bytes, and small pictures of some of them for the card."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from spurious_imagenet.benchmark.images import DecodeLimits, decode_image
from spurious_imagenet.benchmark.images.orientation import is_turned_elsewhere
from spurious_imagenet.benchmark.manifest import DataFile
from spurious_imagenet.benchmark.shards import parse_metadata, read_ranges
from spurious_imagenet.builders.publish.schema import row_of
from spurious_imagenet.builders.publish.tables import ROW_GROUP
from spurious_imagenet.data_cards.options import Sample
from spurious_imagenet.errors import DataError

__all__ = ["image_rows", "write_samples"]

_RANGES = (("offset", "size"), ("meta_offset", "meta_size"))
_SAMPLES, _SAMPLE_SIDE, _QUALITY = 6, 256, 85


def image_rows(
    rows: pd.DataFrame, *, allow_pipe: bool, progress: Callable[[int, int], None], turned: set[str]
) -> Iterator[dict[str, Any]]:
    """Yield the published rows with the images' original bytes, a row group of them in memory at a time.

    Args:
        rows: Chosen candidates, in the order of publication.
        allow_pipe: Allow ``pipe:`` addresses.
        progress: Called with (images fetched, of all).
        turned: Receives the hash of each image that others turn (see ``is_turned_elsewhere``).

    Raises:
        DataError: An image changed since it was mined.
    """
    for start in range(0, len(rows), ROW_GROUP):
        group = rows.iloc[start : start + ROW_GROUP]
        for row in _with_bytes(group, allow_pipe):
            if is_turned_elsewhere(row["image"]["bytes"]):
                turned.add(row["sha256"])
            yield row
        progress(start + len(group), len(rows))


def _with_bytes(rows: pd.DataFrame, allow_pipe: bool) -> Iterator[dict[str, Any]]:
    """Fetch image and metadata of each row, shard by shard; yield the published rows in their own order."""
    records = rows.to_dict("records")
    fetched: dict[int, dict[str, Any]] = {}
    for shard in sorted(set(rows["shard"])):
        here = [i for i, r in enumerate(records) if r["shard"] == shard]
        ranges = [(int(r[o]), int(r[s])) for i in here for r in [records[i]] for o, s in _RANGES]
        pieces = read_ranges(shard, ranges, allow_pipe=allow_pipe)
        for i in here:
            data, meta = next(pieces), next(pieces)
            row = {str(k): v for k, v in records[i].items()}
            if hashlib.sha256(data).hexdigest() != row["sha256"]:
                raise DataError(f"image {row['key']} of {shard} has changed since it was mined.")
            fetched[i] = row_of(row, data, parse_metadata(meta, b""))
    yield from (fetched[i] for i in range(len(records)))


def write_samples(root: Path, file: DataFile, rows: pd.DataFrame) -> list[Sample]:
    """Write small pictures of the image of highest α of a few concepts, of as many classes as there are.

    Args:
        root: The dataset's folder.
        file: Its images.
        rows: The rows of that file, in its order.
    """
    best = rows.assign(row=range(len(rows))).sort_values("rank", kind="stable").drop_duplicates("class_id")
    chosen = sorted(int(i) for i in best["row"].sort_values().iloc[:: max(1, len(best) // _SAMPLES)][:_SAMPLES])
    (root / "samples").mkdir()
    samples = []
    for place, row in enumerate(_read_rows(root / file.path, chosen)):
        path = f"samples/{place}-{row['sha256'][:16]}.jpg"
        (root / path).write_bytes(_thumbnail(row["image"]["bytes"]))
        samples.append(
            Sample(
                path=path,
                class_name=row["class_name"],
                concept=row["cue"] or row["concept_id"],
                votes=row["votes"],
                license=row["license"],
                author=row["author"],
                link=row["landing_url"],
            )
        )
    return samples


def _read_rows(path: Path, wanted: list[int]) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as parquet:
        first = 0
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            here = [i - first for i in wanted if first <= i < first + count]
            if here:
                yield from parquet.read_row_group(group).take(here).to_pylist()
            first += count


def _thumbnail(data: bytes) -> bytes:
    picture = Image.fromarray(decode_image(data, DecodeLimits(min_side=1)))
    picture.thumbnail((_SAMPLE_SIDE, _SAMPLE_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
