"""Checking a published folder: files, card, loading, content, and that nothing tells where the publisher keeps it."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from spurious_imagenet.builders.publish._content import content_check
from spurious_imagenet.builders.publish._tables import ROW_GROUP
from spurious_imagenet.datasets.manifest import MANIFEST, DataFile, DatasetManifest
from spurious_imagenet.datasets.spurious import without_bars
from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.io import sha256_file

_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
#: An absolute path of somebody's machine, but no part of an address on the net.
_LOCAL_PATH = re.compile(
    r"(?<![\w/.%-])/(?:home|root|tmp|var|mnt|media|data|work|opt|srv|scratch|private|Users|Volumes)/[^\s\"']+"
    r"|(?<!\w)[A-Za-z]:\\+[^\s\"']+"
)
#: Columns whose text is not the publisher's: strangers wrote it, and may have written anything.
_STRANGERS = {"source_id", "author", "title", "license", "landing_url", "original_url", "metadata"}
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#!|~$])")
_CARD = "README.md"


def check_dataset(folder: str | Path) -> list[str]:
    """Say everything that is wrong with a published folder; an empty list means nothing is.

    Every file is read: hashes and rows against the manifest, every config as ``datasets`` opens it, streamed and not,
    without a connection, every image decoded and hashed. Memory holds one row group.

    Args:
        folder: Written by ``spurious publish``.
    """
    root = Path(folder)
    try:
        manifest = DatasetManifest.load(root)
    except DataError as error:
        return [str(error)]
    problems = [*_file_problems(root, manifest), *_card_problems(root, manifest)]
    if problems:  # what comes next would say the same again, less clearly
        return problems
    strangers: set[str] = set()
    problems = [*_loading_problems(root, manifest, strangers), *_text_problems(root, strangers)]
    return [*problems, *_croissant_problems(root)]


def demand_sound(folder: str | Path) -> None:
    """Refuse a folder with which something is wrong.

    Raises:
        DataError: What is wrong first, and how much more.
    """
    problems = check_dataset(folder)
    if problems:
        more = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(f"the dataset is not sound: {problems[0]}{more}")


def _file_problems(root: Path, manifest: DatasetManifest) -> Iterator[str]:
    known = {file.path for file in manifest.files}
    for path in sorted(p for p in root.rglob("*") if not p.name.startswith(".")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            yield f"{name} is a symbolic link: expected a file."
        elif path.suffix == ".parquet" and name not in known:
            yield f"{name} is not in {MANIFEST}."
    if not manifest.files:
        yield f"{MANIFEST} names no files."
    for file in manifest.files:
        yield from _table_problems(root, file)


def _table_problems(root: Path, file: DataFile) -> Iterator[str]:
    path = root / file.path
    if not path.resolve().is_relative_to(root.resolve()):
        yield f"{file.path} is outside the folder."
        return
    if not path.is_file():
        yield f"{file.path} is missing."
        return
    if (found := sha256_file(path)) != file.sha256:
        yield f"{file.path} has SHA-256 {found[:12]}: expected {file.sha256[:12]} as in {MANIFEST}."
        return
    if file.sha256[:16] not in path.name:
        yield f"{file.path} does not carry the hash of its bytes, {file.sha256[:16]}, in its name."
    try:
        meta = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        yield f"{file.path} is not a readable parquet file: {error}"
        return
    if (meta.num_rows, path.stat().st_size) != (file.rows, file.bytes):
        yield (
            f"{file.path} has {meta.num_rows} rows and {path.stat().st_size} bytes: expected {file.rows} and "
            f"{file.bytes} as in {MANIFEST}."
        )
    largest = max((meta.row_group(i).num_rows for i in range(meta.num_row_groups)), default=0)
    if largest > ROW_GROUP:
        yield f"{file.path} has a row group of {largest} rows: expected at most {ROW_GROUP}."


def _card_problems(root: Path, manifest: DatasetManifest) -> Iterator[str]:
    try:
        found = _FRONT.match((root / _CARD).read_text(encoding="utf-8"))
        front = yaml.safe_load(found[1]) if found else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        yield f"{_CARD} cannot be read: {one_line(error)}"
        return
    if not isinstance(front, dict):
        yield f"{_CARD} has no YAML at its head."
        return
    try:
        listed = {
            (str(config["config_name"]), str(part["split"]), path)
            for config in front.get("configs") or ()
            for part in config["data_files"]
            for path in ([part["path"]] if isinstance(part["path"], str) else part["path"])
        }
    except (KeyError, TypeError) as error:
        yield f"{_CARD} has malformed configs: {error!r}."
        return
    expected = {(file.config, file.split, file.path) for file in manifest.files}
    for config, split, path in sorted(expected - listed):
        yield f"{_CARD} does not list {path} as split {split!r} of config {config!r}."
    for _, _, path in sorted(listed - expected):
        yield f"{_CARD} lists {path}, which is not in {MANIFEST} so."
    if manifest.version not in (text := (root / _CARD).read_text(encoding="utf-8")) or not text.strip():
        yield f"{_CARD} does not say the version, {manifest.version}."


def _loading_problems(root: Path, manifest: DatasetManifest, strangers: set[str]) -> Iterator[str]:
    """Open every config as a user does; have its rows checked; note what paths strangers wrote."""
    from datasets import load_dataset

    check = content_check(root, manifest)
    splits = {(file.config, file.split): 0 for file in manifest.files}
    for file in manifest.files:
        splits[file.config, file.split] += file.rows
    with tempfile.TemporaryDirectory() as cache:
        for (config, split), rows in splits.items():
            where = f"config {config!r}, split {split!r}"
            try:
                opened = load_dataset(str(root), config, split=split, streaming=True, cache_dir=cache)
                columns = _without_pictures(opened)
                for batch in opened.with_format("arrow").iter(batch_size=ROW_GROUP):
                    content = batch.to_pylist()
                    yield from (f"{where}: {said}" for said in check.take(config, split, content))
                    yield from (f"{where}: {said}" for said in _leaks(content, strangers))
                with without_bars():
                    held = load_dataset(str(root), config, split=split, columns=columns, cache_dir=cache)
            except Exception as error:  # whatever a library raises of a file that it cannot read
                yield f"{where} cannot be loaded: {one_line(error, 300)}"
                continue
            if len(held) != rows:
                yield f"{where} loads {len(held)} rows: expected {rows} as in {MANIFEST}."
    yield from check.problems()


def _without_pictures(opened: Any) -> list[str]:
    return [name for name, feature in opened.features.items() if type(feature).__name__ != "Image"]


def _leaks(rows: list[dict[str, Any]], strangers: set[str]) -> Iterator[str]:
    for row in rows:
        for column, value in row.items():
            found = [path for text in _texts(value) for path in _LOCAL_PATH.findall(text)]
            if column in _STRANGERS:
                strangers.update(found)
            elif found:
                yield f"column {column!r} holds the local path {found[0][:100]!r}."


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _text_problems(root: Path, strangers: set[str]) -> Iterator[str]:
    """Look for local paths in what stands beside the tables, which quotes strangers: theirs are no secret of ours."""
    known = tuple(strangers)
    for path in sorted(p for p in root.iterdir() if p.suffix in {".json", ".md", ".txt"}):
        try:
            texts = _unescaped(path)
        except (OSError, ValueError) as error:
            yield f"{path.name} cannot be read: {one_line(error)}"
            continue
        found = (local for text in texts for local in _LOCAL_PATH.findall(text) if not local.startswith(known))
        if (first := next(found, None)) is not None:
            yield f"{path.name} holds the local path {first[:100]!r}."


def _unescaped(path: Path) -> list[str]:
    """Return the texts of a file as they were before they were escaped for JSON or Markdown."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return list(_texts(json.loads(text)))
    return [html.unescape(_ESCAPED.sub(r"\1", text)) if path.suffix == ".md" else text]


def _croissant_problems(root: Path) -> list[str]:
    from spurious_imagenet.data_cards.croissant import CROISSANT
    from spurious_imagenet.data_cards.croissant_check import check_croissant

    if not (root / CROISSANT).is_file() or importlib.util.find_spec("mlcroissant") is None:
        return []
    return check_croissant(root)
