"""Packing a folder of images into WebDataset tars: the same folder gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import Field, ValidationError

from spurious_imagenet.builders.shards._attribution import AttributionTable
from spurious_imagenet.builders.shards._manifest import MANIFEST_NAME, ShardManifest, ShardRecord
from spurious_imagenet.builders.shards._survey import Survey, survey
from spurious_imagenet.builders.shards.folder import ImageFile, ImageFolder
from spurious_imagenet.errors import DataError
from spurious_imagenet.io import atomic_path, remove_leftovers, sha256_file
from spurious_imagenet.records import Record

_JOURNAL = "shards.partial.jsonl"
_SKIPPED = "skipped.jsonl"
_LABEL_COLUMNS = frozenset({"wnid", "class_id", "class_name"})


class ShardsConfig(Record):
    """What to pack, and how."""

    source: Path
    """Folder of images, or of one folder per class."""
    output: Path
    """Directory for the tars and their manifest; outside of ``source``."""
    metadata: Path | None = None
    """CSV with one row per image, such as OpenImages' attribution file."""
    images_per_shard: int = Field(default=1000, ge=1)
    prefix: str = Field(default="images", pattern=r"^[A-Za-z0-9_-]{1,100}$")
    """Start of the tars' names: ``<prefix>-00000.tar``."""


class _JournalEntry(Record):
    plan_sha256: str
    record: ShardRecord


def pack_shards(
    config: ShardsConfig,
    *,
    progress: Callable[[ShardRecord], None] | None = None,
    on_survey: Callable[[Survey], None] | None = None,
) -> ShardManifest:
    """Pack a folder of images into WebDataset tars and write their manifest.

    Image bytes are kept as they are. Beside each image stands its JSON (``class_id``, ``class_name``, ``file_name``
    and the cells of its row in the CSV) and, with class folders, its ``.cls``. For keys see :class:`ImageFolder`.
    Every JSON of a packing has the same fields; an image without a row has empty text in those of the CSV, since
    ``datasets`` takes the fields of all samples, and their types, from the first five.
    Each tar appears whole and the manifest last. A run that was stopped goes on where it was: tars whose images
    (names, sizes, times of change) and JSON are as they were are kept.

    Args:
        config: What to pack.
        progress: Called after each shard.
        on_survey: Told, before anything is packed, what will be.

    Raises:
        DataError: The folder, the CSV or an image cannot be used, no row is of any image, or the output is already
            there.
    """
    folder = ImageFolder(config.source)
    _check_output(config)
    config.output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(config.output)
    with ExitStack() as stack:
        table = None
        if config.metadata is not None:
            table = stack.enter_context(AttributionTable(config.metadata, scratch=config.output))
            _check_columns(table, folder)
        endings, found = survey(folder, table)
        if on_survey is not None:
            on_survey(found)
        skipped = stack.enter_context(_SkipList(config.output / _SKIPPED))
        packer = _Packer(config, folder, table, endings)
        files = folder.files(skipped.add)
        records = []
        for number, chunk in enumerate(_chunks(files, config.images_per_shard)):
            records.append(packer.pack(number, chunk))
            if progress is not None:
                progress(records[-1])
    manifest = packer.manifest(records, skipped.counts, found)
    packer.remove_stale(records)
    manifest.write(config.output / MANIFEST_NAME)
    (config.output / _JOURNAL).unlink(missing_ok=True)
    return manifest


def _check_output(config: ShardsConfig) -> None:
    output = config.output
    if output.resolve().is_relative_to(config.source.resolve()):
        raise DataError(f"output {output} lies inside the source {config.source}: choose a directory outside of it.")
    if (output / MANIFEST_NAME).exists():
        raise DataError(f"{output} is already packed ({MANIFEST_NAME} is there): choose a new directory.")
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and not (output / _JOURNAL).exists())):
        raise DataError(f"{output} is not an empty directory: choose a new one.")


def _check_columns(table: AttributionTable, folder: ImageFolder) -> None:
    """Refuse columns that would silently contradict the class folders."""
    clash = sorted(_LABEL_COLUMNS & set(table.columns))
    if clash and folder.labels[0] is not None:
        raise DataError(
            f"metadata {table.path} has the columns {clash}, but the class folders already give the labels: "
            "remove the columns, or pack the images from a flat folder."
        )


def _chunks(files: Iterator[ImageFile], size: int) -> Iterator[list[ImageFile]]:
    while chunk := list(islice(files, size)):
        yield chunk


class _SkipList:
    """Streams what is not packed to a file that appears when the packing succeeds."""

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._stack = ExitStack()
        self._path = path

    def __enter__(self) -> _SkipList:
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._file = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    def add(self, file: str, reason: str) -> None:
        self.counts[reason] += 1
        self._file.write(json.dumps({"file": file, "reason": reason}, ensure_ascii=False, sort_keys=True) + "\n")


class _Packer:
    def __init__(
        self, config: ShardsConfig, folder: ImageFolder, table: AttributionTable | None, endings: dict[str, str]
    ) -> None:
        self._config = config
        self._space, self._indices, self._names = folder.labels
        self._table = table
        self._blank = dict.fromkeys(table.columns if table else (), "")
        self._endings = endings
        self._journal_path = config.output / _JOURNAL
        self._journal = _read_journal(self._journal_path)
        self._journal_path.touch()

    def pack(self, number: int, files: list[ImageFile]) -> ShardRecord:
        """Write one shard, or keep the one that an earlier run wrote from the same files."""
        name = f"{self._config.prefix}-{number:05d}.tar"
        notes = [self._notes(file) for file in files]
        endings = [self._endings.get(file.extension, file.extension) for file in files]
        plan = _plan_sha256(files, endings, notes)
        path = self._config.output / name
        done = self._journal.get(name)
        if (
            done is not None
            and done.plan_sha256 == plan
            and path.is_file()
            and path.stat().st_size == done.record.bytes
        ):
            return done.record
        with atomic_path(path) as temporary:
            _write_tar(temporary, files, endings, notes)
            record = ShardRecord(
                name=name, sha256=sha256_file(temporary), bytes=temporary.stat().st_size, samples=len(files)
            )
        with self._journal_path.open("a", encoding="utf-8") as journal:
            journal.write(_JournalEntry(plan_sha256=plan, record=record).model_dump_json() + "\n")
        return record

    def remove_stale(self, records: Iterable[ShardRecord]) -> None:
        """Delete shards that a stopped run wrote under names that this one, with other options, does not use."""
        for name in self._journal.keys() - {record.name for record in records}:
            (self._config.output / name).unlink(missing_ok=True)

    def manifest(self, records: Iterable[ShardRecord], skipped: Counter[str], found: Survey) -> ShardManifest:
        shards = tuple(records)
        coverage = found.coverage
        if not shards:
            raise DataError(f"{self._config.source} holds no image that can be packed: {dict(skipped)}.")
        return ShardManifest(
            shards=shards,
            samples=sum(record.samples for record in shards),
            label_space=self._space,
            classes=self._indices,
            skipped=dict(skipped),
            without_metadata=None if coverage is None else coverage.without_row,
            unused_rows=None if coverage is None else coverage.unused,
            types=found.types,
        )

    def _notes(self, file: ImageFile) -> dict[str, bytes]:
        """Return the members that stand beside an image, by extension."""
        row = self._table.find(file.name) if self._table is not None else None
        content: dict[str, Any] = {**(row or self._blank), "file_name": file.name}
        notes = {}
        if file.class_id is not None:
            content |= {"class_id": file.class_id, "class_name": self._names[file.class_id]}
            notes["cls"] = str(self._indices[file.class_id]).encode()
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return {"json": text.encode()} | notes


def _read_journal(path: Path) -> dict[str, _JournalEntry]:
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = _JournalEntry.model_validate_json(line)
        except ValidationError:
            continue  # the line at which an earlier run was stopped: its shard is written again
        entries[entry.record.name] = entry
    return entries


def _plan_sha256(files: list[ImageFile], endings: list[str], notes: list[dict[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for file, beside in zip(files, notes, strict=True):
        status = _status(file)
        digest.update(repr((file.key, status.st_size, status.st_mtime_ns, sorted(beside.items()))).encode())
    return digest.hexdigest()


def _status(file: ImageFile) -> os.stat_result:
    try:
        return file.path.stat()
    except OSError as error:
        raise DataError(f"image {file.name} cannot be read: {error.strerror}.") from error


def _write_tar(path: Path, files: list[ImageFile], endings: list[str], notes: list[dict[str, bytes]]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for file, ending, beside in zip(files, endings, notes, strict=True):
            try:
                with file.path.open("rb") as image:
                    size = os.fstat(image.fileno()).st_size
                    _add(tar, f"{file.key}.{ending}", size, image)
            except OSError as error:
                raise DataError(f"image {file.name} cannot be packed: {error}.") from error
            for extension, data in beside.items():
                _add(tar, f"{file.key}.{extension}", len(data), io.BytesIO(data))


def _add(tar: tarfile.TarFile, name: str, size: int, content: BinaryIO) -> None:
    # A TarInfo carries no time, owner or mode of the original, so equal images give equal tars.
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, content)
