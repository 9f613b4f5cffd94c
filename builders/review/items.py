"""Review items: one thing to judge, whatever kind of thing it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.texts import json_rows, unknown_key

__all__ = ["BoardTable", "ReviewItem", "items_from_boards", "items_from_file", "read_items", "write_items"]


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One thing to judge.

    Attributes:
        item_id: Unique in its review.
        kind: ``board``, ``image`` or any other word; says what the item is, not what is asked of it.
        media: Image file that the labeler judges: absolute, or relative to the review.
        class_id: The class that it is about.
        class_name: That class's name for people.
        class_index: That class's index, where known.
        concept_id: The concept that it is about, if any.
        component: That concept's component, if any.
        references: Images of the class, as ``media``.
        board: Board of the concept, as ``media``, if any.
        batch: Items of one batch follow one another in every labeler's queue, so that nobody changes between concepts
            at each image.
        gold: Known answers, by which labelers are checked; never shown to them.
        info: What else is known of the item, such as an image's key and hash.
    """

    item_id: str
    kind: str
    media: str
    class_id: str
    class_name: str
    class_index: int | None = None
    concept_id: str | None = None
    component: int | None = None
    references: tuple[str, ...] = ()
    board: str | None = None
    batch: str = ""
    gold: dict[str, str] | None = None
    info: dict[str, Any] = field(default_factory=dict)


_FIELDS = tuple(f.name for f in fields(ReviewItem))
_KNOWN = frozenset(_FIELDS)
_TEXTS = ("item_id", "kind", "media", "class_id", "class_name")


def write_items(path: Path, items: Iterable[ReviewItem]) -> None:
    """Write items as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            content = {n: v for n in _FIELDS if (v := getattr(item, n)) not in (None, "", (), {})}
            file.write(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def read_items(path: str | Path) -> Iterator[ReviewItem]:
    """Read items from JSON lines, one object per line with the fields of :class:`ReviewItem`.

    Raises:
        DataError: The file cannot be read, a line is not an item, or two are of one id; the sentence names it.
    """
    seen: dict[str, int] = {}
    for number, content in json_rows(path, "items"):
        item = _item_of(content, f"items {path}, row {number}")
        if (first := seen.setdefault(item.item_id, number)) != number:
            raise DataError(f"items {path}, row {number}: item {item.item_id!r} is given twice, first in row {first}.")
        yield item


def items_from_file(path: str | Path) -> list[ReviewItem]:
    """Read items of any kind that someone wrote, with images relative to the file or absolute.

    Args:
        path: JSON lines, see :func:`read_items`.

    Returns:
        The items, their images absolute.

    Raises:
        DataError: The file cannot be read, a line is not an item, or an image is missing.
    """
    folder = Path(path).resolve().parent
    items = []
    for item in read_items(path):
        files = [str((folder / name).resolve()) for name in (item.media, *item.references)]
        board = None if item.board is None else str((folder / item.board).resolve())
        for file in (*files, *([board] if board else [])):
            if not Path(file).is_file():
                raise DataError(f"image {file} of item {item.item_id!r} in {path} is missing.")
        items.append(replace(item, media=files[0], references=tuple(files[1:]), board=board))
    return items


def _item_of(content: dict[str, Any], where: str) -> ReviewItem:
    if unknown := sorted(content.keys() - _KNOWN):
        raise DataError(f"{where}: {unknown_key(unknown[0], _FIELDS)}")
    for name in _TEXTS:
        if not isinstance(content.get(name), str) or not content[name]:
            raise DataError(f"{where}: {name} is {content.get(name)!r}, expected text.")
    content["references"] = tuple(content.get("references", ()))
    return ReviewItem(**content)


class BoardTable:
    """What ``spurious boards`` drew: one board per concept, and images of the classes.

    Args:
        boards_dir: Folder written by ``spurious boards``.

    Raises:
        StoreError: There is no readable ``boards.parquet`` in it.
    """

    _COLUMNS = (
        *("concept_id", "kind", "class_index", "class_id", "class_name", "component", "name", "png", "reference"),
        "weights_sha256",
    )

    def __init__(self, boards_dir: str | Path) -> None:
        self.path = Path(boards_dir).resolve()
        file = self.path / "boards.parquet"
        try:
            self.rows: list[dict[str, Any]] = pq.read_table(file, columns=list(self._COLUMNS)).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{file} cannot be read: {error}; run `spurious boards` to its end.") from error
        self._by_concept = {str(row["concept_id"]): row for row in self.rows}

    def __contains__(self, concept_id: object) -> bool:
        return concept_id in self._by_concept

    def board(self, concept_id: str) -> str:
        """Return the board's PNG (absolute)."""
        return str(self.path / self._by_concept[concept_id]["png"])

    def references(self, concept_id: str) -> tuple[str, ...]:
        """Return images of the concept's class (absolute)."""
        return tuple(str(self.path / r) for r in self._by_concept[concept_id]["reference"] or ())


def items_from_boards(boards_dir: str | Path, concepts: Iterable[str] = ()) -> list[ReviewItem]:
    """Make one item of each board.

    Args:
        boards_dir: Folder written by ``spurious boards``.
        concepts: Take these concept ids only.

    Returns:
        The items, in the order of the boards; their ids are the concepts' ids, a class is a batch.

    Raises:
        StoreError: The folder has no readable boards.
        DataError: A board's image is missing, or a wanted concept has no board.
    """
    boards, wanted = BoardTable(boards_dir), set(concepts)
    for concept_id in sorted(wanted):
        if concept_id not in boards:
            raise DataError(f"concept {concept_id!r} has no board in {boards_dir}.")
    items = [_board_item(boards, row) for row in boards.rows if not wanted or row["concept_id"] in wanted]
    for item in items:
        if not Path(item.media).is_file():
            raise DataError(f"board {item.media} of concept {item.item_id} is missing.")
    return items


def _board_item(boards: BoardTable, row: dict[str, Any]) -> ReviewItem:
    concept_id = str(row["concept_id"])
    info = {"concept_kind": str(row["kind"]), "weights_sha256": row["weights_sha256"]}
    if row["name"]:
        info["name"] = str(row["name"])
    return ReviewItem(
        item_id=concept_id,
        kind="board",
        media=boards.board(concept_id),
        class_id=str(row["class_id"]),
        class_name=str(row["class_name"]),
        class_index=int(row["class_index"]),
        concept_id=concept_id,
        component=int(row["component"]),
        references=boards.references(concept_id),
        board=boards.board(concept_id),
        batch=str(row["class_id"]),
        info=info,
    )
