"""Reading a published dataset of spurious images, from a folder, the Hub, or an open ``datasets.Dataset``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from spurious_imagenet.datasets.manifest import hub_repository
from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.process_state import Bars

__all__ = ["SpuriousDataset", "SpuriousImage", "open_dataset", "without_bars"]

_COLUMNS = ("image", "class_id", "class_name", "concept_id")


@cache
def _bars() -> Bars:
    import datasets

    return Bars(datasets.are_progress_bars_disabled, datasets.disable_progress_bars, datasets.enable_progress_bars)


def without_bars() -> AbstractContextManager[None]:
    """Keep the progress bars of ``datasets`` away while a block runs."""
    return _bars().hidden()


@dataclass(frozen=True)
class SpuriousImage:
    """An image that shows a spurious feature of a class, without the class."""

    class_id: str
    concept_id: str
    data: bytes


class SpuriousDataset:
    """Spurious images, read one at a time.

    Args:
        source: A dataset folder written by ``spurious publish`` or ``spurious import``, of any version, or a Hub id,
            whose default config is opened; or what ``datasets.load_dataset`` returns of it.
        split: Which split, where ``source`` is not one split already.

    Raises:
        DataError: It cannot be opened, or lacks a column.
    """

    def __init__(self, source: str | Path | Any, *, split: str = "test") -> None:
        from datasets import DatasetDict, Image, IterableDataset, IterableDatasetDict

        table = open_dataset(source, split=split) if isinstance(source, str | Path) else source
        if isinstance(table, DatasetDict):
            if split not in table:
                raise DataError(f"the dataset has no split {split!r}: it has {', '.join(table)}.")
            table = table[split]
        if isinstance(table, IterableDataset | IterableDatasetDict):
            raise DataError("got a streamed dataset, which can be read once only: load it without streaming=True.")
        self.name = str(source) if isinstance(source, str | Path) else type(source).__name__
        missing = [c for c in _COLUMNS if c not in table.column_names]
        if missing:
            raise DataError(
                f"dataset {self.name} lacks the columns {missing}: expected {list(_COLUMNS)}, as config 'spurious' has."
            )
        if not len(table):
            raise DataError(f"dataset {self.name} holds no images.")
        self._table = table.select_columns(list(_COLUMNS)).cast_column("image", Image(decode=False))
        ids, names = self._table["class_id"][:], self._table["class_name"][:]
        self.class_names: dict[str, str] = dict(sorted(zip(ids, names, strict=True)))
        self.concepts: list[tuple[str, str]] = list(zip(ids, self._table["concept_id"][:], strict=True))

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[SpuriousImage]:
        for row in self._table:
            image = row["image"]
            data = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
            yield SpuriousImage(row["class_id"], row["concept_id"], data)

    def sha256(self) -> str:
        """Hash the class, concept and bytes of every image, whatever their order."""
        lines = sorted(f"{i.class_id}\t{i.concept_id}\t{hashlib.sha256(i.data).hexdigest()}\n" for i in self)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_dataset(source: str | Path, *, config: str | None = None, split: str) -> Any:
    """Open one split of a published dataset as a ``datasets.Dataset``.

    Args:
        source: Folder, or id on the Hub: ``org/name``, or ``org/name@v1.2.0`` for one version of it.
        config: Its default one where left out.
        split: Which split.

    Raises:
        DataError: There is no such dataset, or ``datasets`` cannot read it.
    """
    from datasets import load_dataset

    address = hub_repository(source)
    folder = Path(source).expanduser()
    if address is None and not folder.is_dir():
        raise DataError(f"there is no dataset folder {source}.")
    name, revision = address or (str(folder), None)
    try:
        with without_bars():
            return load_dataset(name, config, split=split, revision=revision)
    except Exception as error:
        raise DataError(f"dataset {source} cannot be opened: {one_line(error, 300)}") from error
