"""Writing rankings as a Hugging Face dataset folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image

from spurious_imagenet.builders.rankings._config import RankConfig
from spurious_imagenet.builders.rankings.join import OwnImages
from spurious_imagenet.data_cards.rankings_card import render_rankings_card
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, RankingsInfo
from spurious_imagenet.errors import DataError
from spurious_imagenet.io import atomic_directory, sha256_file

#: Rows a row group: what the Hub's viewer reads at once.
_ROW_GROUP = 100


def write_rankings(
    out: Path,
    splits: Mapping[str, Iterable[pd.DataFrame]],
    info: Callable[[], RankingsInfo],
    config: RankConfig,
    class_names: Mapping[str, str],
) -> RankingsInfo:
    """Write the rows of each split, what they were made from, and a card; whole or not at all.

    Args:
        out: The folder.
        splits: Tables of consecutive classes of each split.
        info: Asked when all rows are written.
        config: What was ranked.
        class_names: Class id -> name.

    Returns:
        ``info()``.
    """
    own = OwnImages(config.embed, allow_pipe=config.allow_pipe) if config.embed else None
    with atomic_directory(out) as directory:
        data = directory / "data"
        data.mkdir()
        files = {split: _write_split(data, split, tables, own) for split, tables in splits.items()}
        made = info()
        (directory / "rankings.json").write_text(made.to_json(), encoding="utf-8")
        (directory / "README.md").write_text(_card(made, config, files, class_names), encoding="utf-8")
    return made


def _write_split(folder: Path, split: str, tables: Iterable[pd.DataFrame], own: OwnImages | None) -> str:
    """Write a split's parquet file; return its path in the dataset.

    Its name carries the hash of its bytes: ``datasets`` caches what it has read by names alone, and would take the new
    version of a file for the old one.
    """
    unnamed = folder / f"{split}.parquet"
    features = Features.from_arrow_schema(RANKINGS_SCHEMA)
    if own is not None:
        features["image"] = Image()
    schema = features.arrow_schema
    with pq.ParquetWriter(unnamed, schema, compression="zstd") as writer:
        for group in _groups(tables):
            rows = (
                group if own is None else group.assign(image=pd.Series(_pixels(group, own), group.index, dtype=object))
            )
            writer.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False), row_group_size=_ROW_GROUP)
    named = unnamed.rename(folder / f"{split}-{sha256_file(unnamed)[:16]}.parquet")
    return f"data/{named.name}"


def _pixels(rows: pd.DataFrame, own: OwnImages) -> pd.Series[Any]:
    hashes, names = rows["sha256"].tolist(), rows["name"].tolist()
    found = [image for image in own.find(hashes, names) if image is not None]
    if len(found) < len(rows):
        missing = next(n for n, image in zip(names, own.find(hashes, names), strict=True) if image is None)
        raise DataError(f"image {missing!r} is not in {own.name}: expected a file of the bytes that were ranked.")
    content = [{"bytes": d, "path": f.file_name} for d, f in zip(own.read(hashes, found), found, strict=True)]
    return pd.Series(content, rows.index, dtype=object)


def _groups(tables: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Cut consecutive tables into row groups; the last one may be smaller."""
    held = pd.DataFrame()
    for table in tables:
        held = pd.concat([held, table], ignore_index=True) if len(held) else table
        full = len(held) - len(held) % _ROW_GROUP
        for start in range(0, full, _ROW_GROUP):
            yield held.iloc[start : start + _ROW_GROUP]
        held = held.iloc[full:]
    if len(held):
        yield held


def _card(info: RankingsInfo, config: RankConfig, files: Mapping[str, str], class_names: Mapping[str, str]) -> str:
    counted = ("images", "classes", "controls", "unlabelled_images", "repeated_images", "constant_concepts")
    splits = {
        split: {what: info.counts.get(f"{split}_{what}", 0) for what in counted}
        | {"data_file": file, "left_out": sum(left.split == split for left in info.left_out)}
        for split, file in files.items()
    }
    return render_rankings_card(
        name=config.name,
        model=info.model,
        judged=info.judged,
        verdict=None if info.judged is None else config.verdict or "spurious",
        classes=[
            {"class_id": class_id, "class_name": class_names.get(class_id, class_id), "concepts": concepts}
            for class_id, concepts in sorted(info.concepts.items())
        ],
        splits=splits,
        ends=f"{config.share:.1%}" if config.share else f"the {config.ends(0)} images",
        image_license=config.image_license,
    )
