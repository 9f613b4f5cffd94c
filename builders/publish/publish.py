"""The publishing stage: accepted candidates, with their bytes, as parquet and a card."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.benchmark.shards import parse_metadata, read_ranges
from spurious_imagenet.builders.mining import read_candidates
from spurious_imagenet.builders.mining.select import Status
from spurious_imagenet.builders.publish.config import PublishConfig
from spurious_imagenet.builders.publish.review import ReviewSummary, keep_accepted
from spurious_imagenet.builders.publish.schema import FEATURES, public_spec, row_of, summarise
from spurious_imagenet.data_cards import render_card
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.io import atomic_directory, sha256_file

__all__ = ["PublishResult", "publish"]

#: Rows a row group: what the Hub's viewer reads at once.
_ROW_GROUP = 100
_SPLIT = "test"


@dataclass(frozen=True)
class PublishResult:
    """What was published.

    Attributes:
        path: The dataset folder.
        images: Images in it.
        concepts: One row a published concept: class, concept id, images.
        left_out: One row a concept that was not published, with the images it had.
        repeated: Images left out because another concept of the same class has them with a higher rank.
        review: How the candidates were judged; None if nobody has looked at them.
    """

    path: Path
    images: int
    concepts: pd.DataFrame
    left_out: pd.DataFrame
    repeated: int
    review: ReviewSummary | None


def publish(
    config: PublishConfig, out: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> PublishResult:
    """Write accepted candidates as a dataset that ``datasets.load_dataset(out)`` opens.

    The images' original bytes are fetched from the shards by byte offset and compared with the hashes that were taken
    when they were scored.

    Args:
        config: What to publish.
        out: Dataset folder; appears whole, must not exist with content.
        progress: Called with (images written, of all).

    Raises:
        StoreError: The candidates are unfinished, or ``out`` holds something.
        ConfigError: A named concept has no candidates, or nothing is left to publish.
        DataError: An image changed since it was mined, or the review is of other candidates.
    """
    candidates = read_candidates(config.candidates)
    kept = _kept(candidates, config)
    review = None
    if config.reviewed is not None:
        kept, review = keep_accepted(kept, config.reviewed)
    rows, left_out, repeated = _choose(kept, config)
    with atomic_directory(out) as directory:
        data = _write_data(directory / "data", rows, config, progress or (lambda *_: None))
        concepts = summarise(rows)
        card = render_card(
            name=config.name,
            split=_SPLIT,
            data_file=f"data/{data}",
            images=len(rows),
            concepts=[{str(k): v for k, v in c.items()} for c in concepts.to_dict("records")],
            models=[public_spec(m["model"]) for m in rows["models"].iloc[0]],
            scorer=public_spec(rows["models"].iloc[0][0]["model"]),
            min_agree=int(rows["votes"].min()),
            review=None if review is None else review.as_dict(),
        )
        (directory / "README.md").write_text(card, encoding="utf-8")
    return PublishResult(Path(out), len(rows), concepts, left_out, repeated, review)


def _kept(candidates: pd.DataFrame, config: PublishConfig) -> pd.DataFrame:
    unknown = sorted(set(config.concepts) - set(candidates["concept_id"]))
    if unknown:
        raise ConfigError(f"concept {unknown[0]!r} has no candidates in {config.candidates}.")
    kept = candidates[candidates["status"] == Status.KEPT.value]
    if config.concepts:
        kept = kept[kept["concept_id"].isin(config.concepts)]
    return kept


def _choose(kept: pd.DataFrame, config: PublishConfig) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Return the rows to publish, the concepts left out, and how many repeated images were dropped."""
    # An image may serve several components of a class; it counts once, where it ranks best.
    once = kept.sort_values(["rank", "component"], kind="stable").drop_duplicates(["class_id", "sha256"])
    counts = once.groupby("concept_id")["sha256"].transform("size")
    rows, few = once[counts >= config.min_images], once[counts < config.min_images]
    if config.per_concept is not None:
        rows = rows.sort_values("rank", kind="stable").groupby("concept_id").head(config.per_concept)
    if rows.empty:
        raise ConfigError(
            f"nothing to publish: no concept in {config.candidates} has {config.min_images} "
            f"{'accepted' if config.reviewed else 'kept'} images or more."
        )
    ordered = rows.sort_values(["class_id", "component", "rank"], kind="stable").reset_index(drop=True)
    return ordered, summarise(few), len(kept) - len(once)


def _write_data(folder: Path, rows: pd.DataFrame, config: PublishConfig, progress: Callable[[int, int], None]) -> str:
    """Write the one parquet file; return its name, which carries the hash of its bytes.

    ``datasets`` caches what it has read under the folder's last name and the files' names alone: two datasets of the
    same names, or an old and a new version in one place, would otherwise be taken for each other.
    """
    folder.mkdir()
    unnamed = folder / "unnamed.parquet"
    _write_parquet(unnamed, rows, config, progress)
    named = folder / f"{_SPLIT}-00000-of-00001-{sha256_file(unnamed)[:16]}.parquet"
    unnamed.rename(named)
    return named.name


def _write_parquet(path: Path, rows: pd.DataFrame, config: PublishConfig, progress: Callable[[int, int], None]) -> None:
    schema = FEATURES.arrow_schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(rows), _ROW_GROUP):
            group = rows.iloc[start : start + _ROW_GROUP]
            content = list(_with_bytes(group, config.allow_pipe))
            writer.write_table(pa.Table.from_pylist(content, schema=schema), row_group_size=_ROW_GROUP)
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


_RANGES = (("offset", "size"), ("meta_offset", "meta_size"))
