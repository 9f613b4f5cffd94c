"""The files of one class's boards: pictures, cards and what the pages say of them, as one directory."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from spurious_imagenet.builders.boards._evidence import Board, Example, Pixels
from spurious_imagenet.builders.boards._pages import Pages
from spurious_imagenet.builders.boards._words import component_words, describe, score_word, verdict_words
from spurious_imagenet.builders.boards.drawing import draw_board, draw_tiles, tile_rows
from spurious_imagenet.builders.boards.gather import ClassBoards
from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.io import atomic_directory, canonical_json

__all__ = ["board_name", "read_class", "write_class"]

_COMPRESSION = 3  # of PNG: the default takes far longer for a few per cent less


def board_name(concept: dict[str, Any]) -> str:
    """Return the stem of a board's files; characters that a file name should not hold become ``-``."""
    kind = re.sub(r"[^A-Za-z0-9_-]", "-", str(concept["kind"]))
    return f"{kind}-{int(concept['component']):04d}"


def write_class(found: ClassBoards, folder: Path, pages: Pages, workers: int) -> None:
    """Write the boards of one class, whole or not at all.

    Args:
        found: The boards.
        folder: The directory to appear, named by the class's index.
        pages: Renders the cards.
        workers: Threads that draw.

    Raises:
        DataError: Two concepts would have one name.
    """
    names = [board_name(board.concept) for board in found.boards]
    if len(set(names)) < len(names):
        concept = found.boards[0].concept
        raise DataError(f"class {concept['class_id']} has two concepts of one kind and component: {sorted(names)}.")
    with atomic_directory(folder) as directory:
        references = [f"reference-{i}.jpg" for i in range(len(found.references))]
        for file, pixels in zip(references, found.references, strict=True):
            Image.fromarray(pixels).save(directory / file, quality=92, subsampling=0)
        with ThreadPoolExecutor(workers) as pool:
            write = partial(_write_pictures, references=found.references)
            list(pool.map(write, found.boards, (directory / name for name in names)))
        records = [_record(board, name) for board, name in zip(found.boards, names, strict=True)]
        content = {"name": folder.name, "boards": records, "references": references}
        for place, name in enumerate(names):
            (directory / f"{name}.html").write_text(pages.card(content, place), encoding="utf-8")
        (directory / "class.json").write_text(canonical_json(content), encoding="utf-8")


def read_class(folder: Path) -> dict[str, Any]:
    """Read what :func:`write_class` said of its boards.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "class.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{folder}/class.json cannot be read: {error}; delete the folder to have it made again."
        ) from None
    return content


def _write_pictures(board: Board, stem: Path, references: Pixels) -> None:
    draw_board(board, references).save(stem.with_suffix(".png"), compress_level=_COMPRESSION)
    draw_tiles(board).save(stem.with_suffix(".jpg"), quality=90, subsampling=0)
    if board.npfv:
        Image.fromarray(board.npfv.pixels).save(f"{stem}-npfv.png")


def _record(board: Board, name: str) -> dict[str, Any]:
    """Put what the pages and the table say of a board into JSON types."""
    concept = board.concept
    identity = {key: concept[key] for key in ("concept_id", "kind", "class_index", "class_id", "class_name")}
    npfv = board.npfv
    return {
        **identity,
        "component": int(concept["component"]),
        "name": str(concept["name"] or ""),
        "file": name,
        "title": component_words(concept),
        "symbol": score_word(concept),
        "description": describe(board),
        "verdict": verdict_words(concept),
        "images": board.images,
        "rows": tile_rows(board),
        "most": [_said(example) for example in board.most],
        "least": [_said(example) for example in board.least],
        "npfv": {"score": npfv.score, "confidence": npfv.confidence} if npfv else None,
        "counts": board.scores.counts,
        "edges": (board.scores.edges[0], board.scores.edges[-1]),
        "percentiles": [(percent, value) for percent, value in board.scores.percentiles.items()],
    }


def _said(example: Example) -> dict[str, Any]:
    return {
        "key": example.key,
        "score": example.score,
        "confidence": example.confidence,
        "predicted": example.predicted,
    }
