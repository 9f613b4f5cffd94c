"""Publishing rankings: what ``spurious rank`` wrote, its ranked splits as configs, a manifest and a card."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spurious_imagenet.builders.publish._config import RankingsConfig
from spurious_imagenet.builders.publish._content import ENDS
from spurious_imagenet.builders.publish._finish import finish
from spurious_imagenet.builders.publish._tables import copy_table, write_table
from spurious_imagenet.builders.publish._versions import changelog, read_previous
from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.data_cards.ranked_card import render_ranked_card
from spurious_imagenet.datasets.manifest import DataFile, DatasetManifest, SelectionModel
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, RankingsInfo
from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.io import atomic_directory, sha256_file

_CONFIG = "rankings"


def publish_rankings(config: RankingsConfig, out: str | Path) -> DatasetManifest:
    """Write rankings as a dataset: config ``rankings`` with a split a set of images, and a config a ranked split.

    Config ``low``, ``middle`` and ``high`` hold the rows of that ranked split alone, for those who want no more.

    Args:
        config: What to publish.
        out: Dataset folder; appears whole, must not exist with content.

    Raises:
        DataError: The folder holds no rankings, or the version before is of something else.
        ConfigError: The version before is not an earlier one.
        StoreError: ``out`` holds something.
    """
    source = Path(config.rankings)
    info, tables = _read(source)
    old = read_previous(config, "rankings")
    with atomic_directory(out) as directory:
        files = [copy_table(directory, path, _CONFIG, split) for split, path in tables.items()]
        files += [f for end in ENDS for split, path in tables.items() if (f := _end(directory, path, end, split))]
        (directory / "rankings.json").write_bytes((source / "rankings.json").read_bytes())
        manifest = DatasetManifest(
            kind="rankings",
            name=str(info.config.get("name") or "Spuriosity rankings"),
            version=config.version,
            code_version=version("spurious-imagenet"),
            files=tuple(files),
            counts=info.counts | {"concepts": sum(map(len, info.concepts.values()))},
            facts={} if info.judged is None else {"judged": info.judged.removesuffix(".")},
            miners=(SelectionModel(model=info.model, role="scorer", weights_sha256=info.weights_sha256),),
            made_from={"rankings": sha256_file(source / "rankings.json"), "features": info.feature_config_sha256},
            changes=changelog(config, old, _counted(old, files)),
        )
        text = render_ranked_card(directory, manifest, info=info, options=_options(config, info))
        finish(directory, manifest, text, config.card, made=source / "rankings.json")
    return manifest


def _read(source: Path) -> tuple[RankingsInfo, dict[str, Path]]:
    """Read what ``spurious rank`` wrote: info, split -> file."""
    try:
        info = RankingsInfo.model_validate_json((source / "rankings.json").read_text(encoding="utf-8"))
        paths = sorted((source / "data").glob("*.parquet"))
        tables = {_split_of(path): path for path in paths}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{source} holds no rankings: {one_line(error)}") from error
    if not tables or len(tables) < len(paths):
        raise DataError(f"{source} has {len(paths)} tables of {len(tables)} splits: expected one of each split.")
    return info, tables


def _split_of(path: Path) -> str:
    with pq.ParquetFile(path) as file:
        missing = [n for n in RANKINGS_SCHEMA.names if n not in file.schema_arrow.names]
        if missing or not file.metadata.num_rows:
            raise DataError(f"{path} lacks {missing or 'rows'}: expected what `spurious rank` writes.")
        return str(next(file.iter_batches(1, columns=["split"]))["split"][0])


def _end(root: Path, path: Path, end: str, split: str) -> DataFile | None:
    """Write the rows of a ranked split as a config; None where there are none, as ``datasets`` opens no empty split."""
    rows = _rows_of(path, end)
    first = next(rows, None)
    if first is None:
        return None

    def every() -> Iterator[dict[str, Any]]:
        yield first
        yield from rows

    return write_table(root, end, end, split, pq.read_schema(path), every())


def _rows_of(path: Path, end: str) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            chosen = batch.filter(pc.equal(batch["ranked_split"], end))
            yield from chosen.to_pylist()


def _counted(old: DatasetManifest | None, files: list[DataFile]) -> str:
    before = {f.split: f.rows for f in old.files if f.config == _CONFIG} if old else {}
    now = {f.split: f.rows for f in files if f.config == _CONFIG}
    return ", ".join(f"{s}: {before.get(s, 0)} images before, {now.get(s, 0)} now" for s in {**before, **now}) + "."


def _options(config: RankingsConfig, info: RankingsInfo) -> CardOptions:
    """Return what the publisher says, and the licence of embedded pixels where the publisher says nothing."""
    licence = info.config.get("image_license")
    if config.card.license is not None or not isinstance(licence, str):
        return config.card
    return config.card.model_copy(update={"license": "other"})
