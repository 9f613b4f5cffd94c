"""The config ``spurious``: published images with their bytes, and small pictures of some of them for the card."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from spurious_imagenet.builders.publish._tables import ROW_GROUP
from spurious_imagenet.builders.publish.schema import row_of
from spurious_imagenet.data_cards.options import Sample
from spurious_imagenet.datasets.manifest import DataFile
from spurious_imagenet.images import DecodeLimits, decode_image
from spurious_imagenet.images.orientation import is_turned_elsewhere
from spurious_imagenet.shards import ShardImages, StoredImage, parse_metadata, read_ranges

_SAMPLES, _SAMPLE_SIDE, _QUALITY = 6, 256, 85


def image_rows(
    rows: pd.DataFrame, source: ShardImages, *, progress: Callable[[int, int], None], turned: set[str]
) -> Iterator[dict[str, Any]]:
    """Yield the published rows with the images' original bytes, a row group of them in memory at a time.

    Args:
        rows: Chosen candidates, in the order of publication.
        source: Where their shards are.
        progress: Called with (images fetched, of all).
        turned: Receives the hash of each image that others turn (see ``is_turned_elsewhere``).

    Raises:
        DataError: An image changed since it was mined.
    """
    for start in range(0, len(rows), ROW_GROUP):
        group = rows.iloc[start : start + ROW_GROUP]
        for row in _with_bytes(group, source):
            if is_turned_elsewhere(row["image"]["bytes"]):
                turned.add(row["sha256"])
            yield row
        progress(start + len(group), len(rows))


def _with_bytes(rows: pd.DataFrame, source: ShardImages) -> Iterator[dict[str, Any]]:
    """Fetch image and metadata of each row, shard by shard; yield the published rows in their own order."""
    records = rows.to_dict("records")
    fetched: dict[int, dict[str, Any]] = {}
    for shard in sorted(set(rows["shard"])):
        here = [i for i, r in enumerate(records) if r["shard"] == shard]
        own = [{str(k): v for k, v in records[i].items()} for i in here]
        images = [StoredImage(r["key"], int(r["offset"]), int(r["size"]), r["sha256"]) for r in own]
        notes = [(int(r["meta_offset"]), int(r["meta_size"])) for r in own]
        metadata = read_ranges(source.place(shard, images[0]), notes, allow_pipe=source.allow_pipe)
        for i, row, data, meta in zip(here, own, source.read(shard, images), metadata, strict=True):
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
