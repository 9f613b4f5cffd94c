"""Mined candidates as review items, with their images fetched from the shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from spurious_imagenet.builders.mining import read_candidates
from spurious_imagenet.builders.mining.select import Status
from spurious_imagenet.builders.review.items import BoardTable, ReviewItem
from spurious_imagenet.errors import DataError
from spurious_imagenet.shards import ShardImages

_ITEM_COLUMNS = ("concept_id", "class_id", "class_name", "component", "rank", "alpha", "key", "member", "sha256")
_PLACE_COLUMNS = ("sha256", "key", "shard", "offset", "size")
#: A browser must know an image by its name; the bytes are the original ones.
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def items_from_candidates(
    candidates_dir: str | Path,
    boards_dir: str | Path | None = None,
    *,
    concepts: Iterable[str] = (),
    per_concept: int | None = None,
) -> list[ReviewItem]:
    """Make one item of each kept candidate of each concept.

    Args:
        candidates_dir: Folder written by ``spurious mine``.
        boards_dir: Folder written by ``spurious boards``: gives each item its concept's board and images of the class.
        concepts: Take the candidates of these concept ids only.
        per_concept: Take the so many kept candidates of highest α of each concept; None: all of them.

    Returns:
        The items, by concept and rank; a concept is a batch. Their images are :func:`candidate_media`.

    Raises:
        StoreError: The candidates are unfinished or changed, or the boards cannot be read.
        DataError: A wanted concept has no kept candidates, or one has no board.
    """
    kept = _read_kept(Path(candidates_dir), [*_ITEM_COLUMNS, "status"])
    if wanted := list(concepts):
        if missing := sorted(set(wanted) - set(kept["concept_id"])):
            raise DataError(f"concept {missing[0]!r} has no kept candidates in {candidates_dir}.")
        kept = kept[kept["concept_id"].isin(wanted)]
    kept = kept.sort_values(["class_id", "component", "concept_id", "rank"], kind="stable")
    if per_concept is not None:
        kept = kept.groupby("concept_id", sort=False).head(per_concept)
    boards = None if boards_dir is None else BoardTable(boards_dir)
    return [_image_item(row, boards) for row in kept.to_dict("records")]


def candidate_media(
    candidates_dir: str | Path, items: Iterable[ReviewItem], *, shards: tuple[str, ...] = (), allow_pipe: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Fetch the items' images by byte offset, each once, shard by shard.

    Args:
        candidates_dir: The folder that the items were made from.
        items: From :func:`items_from_candidates`.
        shards: Where the shards are now, if they are not where the candidates say.
        allow_pipe: Run the command of a ``pipe:`` address.

    Yields:
        (path in the review, original bytes of the image).

    Raises:
        DataError: A shard cannot be read, or an image changed since it was mined.
    """
    wanted = {str(item.info["sha256"]): item.media for item in items}
    rows = _read_kept(Path(candidates_dir), [*_PLACE_COLUMNS, "status"]).drop_duplicates("sha256")
    rows = rows[rows["sha256"].isin(wanted)].sort_values(["shard", "offset"], kind="stable")
    source = ShardImages(Path(candidates_dir), shards, since="it was mined", allow_pipe=allow_pipe)
    for sha256, data in zip(rows["sha256"], source.read_rows(rows), strict=True):
        yield wanted[sha256], data


def _image_item(row: dict[Any, Any], boards: BoardTable | None) -> ReviewItem:
    concept_id, sha256 = str(row["concept_id"]), str(row["sha256"])
    if boards is not None and concept_id not in boards:
        raise DataError(f"concept {concept_id!r} has candidates but no board in {boards.path}.")
    suffix = PurePosixPath(str(row["member"])).suffix.lower()
    return ReviewItem(
        item_id=f"{concept_id}/{sha256[:16]}",
        kind="image",
        media=f"media/{sha256[:2]}/{sha256}{suffix if suffix in _SUFFIXES else '.jpg'}",
        class_id=str(row["class_id"]),
        class_name=str(row["class_name"]),
        concept_id=concept_id,
        component=int(row["component"]),
        references=boards.references(concept_id) if boards else (),
        board=boards.board(concept_id) if boards else None,
        batch=concept_id,
        info={"key": str(row["key"]), "sha256": sha256, "rank": int(row["rank"]), "alpha": float(row["alpha"])},
    )


def _read_kept(path: Path, columns: list[str]) -> pd.DataFrame:
    rows = read_candidates(path, columns)
    return rows[rows["status"] == Status.KEPT.value]
