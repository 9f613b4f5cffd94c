"""The pages of classes and of images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.leaderboard.pages._pictures import board_key, board_picture, image_key, image_picture
from spurious_imagenet.leaderboard.pages._table import related_words, verified
from spurious_imagenet.leaderboard.pages.board import ClassValues, VersionBoard
from spurious_imagenet.leaderboard.pages.rendering import slug

_SHOWN_IMAGES, _SHOWN_ENTRIES = 48, 200


def class_list(board: VersionBoard) -> list[dict[str, Any]]:
    """Say of every class how hard it is for the entries, the hardest first; every entry's full score is read."""
    sides = {side: board.version.side(side)["class_id"].value_counts() for side in ("spurious", "validation")}
    concepts = board.spurious.drop_duplicates("concept_id").groupby("class_id")["concept_id"]
    of = {str(c): [str(i) for i in ids] for c, ids in concepts}
    found = []
    for (class_id, name), means in zip(board.version.info.class_names.items(), board.class_means(), strict=True):
        mean, low, high = (None if np.isnan(v) else float(v) for v in means)
        found.append(
            {
                "class_id": class_id,
                "name": name,
                "slug": slug(class_id),
                **{"mean": mean, "low": low, "high": high},
                "spurious": int(sides["spurious"].get(class_id, 0)),
                "validation": int(sides["validation"].get(class_id, 0)),
                "concepts": [board.version.info.concept_names.get(i, i) for i in of.get(class_id, [])],
            }
        )
    return sorted(found, key=lambda c: (c["mean"] is None, c["mean"] or 0.0, c["class_id"]))


def class_context(board: VersionBoard, class_id: str) -> dict[str, Any]:
    """Gather what the page of a class shows."""
    images = board.spurious[board.spurious["class_id"] == class_id]
    values = board.class_values(class_id)
    validation = board.version.side("validation")
    return {
        "class_id": class_id,
        "name": board.version.info.class_names[class_id],
        "spurious": len(images),
        "validation": int((validation["class_id"] == class_id).sum()),
        "mean": fmean(v.auc for v in values.values()) if values else None,
        "boards": [_concept(board, str(i), group) for i, group in images.groupby("concept_id", sort=True)],
        "rows": [_row(board, entry_id, values[entry_id]) for entry_id in list(values)[:_SHOWN_ENTRIES]],
        "hidden": max(0, len(values) - _SHOWN_ENTRIES),
    }


def _row(board: VersionBoard, entry_id: str, values: ClassValues) -> dict[str, Any]:
    entry, state = board.entries[entry_id], verified(board.verification(entry_id))
    return {
        "id": entry_id,
        "model": entry.info.model,
        "protocol": entry.info.protocol.value,
        "mitigation": entry.info.mitigation,
        "verified": state > 0,
        "refuted": state < 0,
        "kin": related_words(board.score(entry_id)),
        "auc": _interval(values, "auc"),
        "ap": _interval(values, "ap"),
    }


def _interval(values: ClassValues, name: str) -> dict[str, Any]:
    low, high = getattr(values, f"{name}_low"), getattr(values, f"{name}_high")
    return {"value": getattr(values, name), "interval": None if np.isnan(low) else Interval(low=low, high=high)}


def _concept(board: VersionBoard, concept_id: str, images: pd.DataFrame) -> dict[str, Any]:
    """Of one concept, the board and the images, those that mislead the judges most first."""
    rows: Any = images.itertuples()
    judged = [(_misleading(board, row.class_id, row.sha256), row) for row in rows]
    ordered = sorted(judged, key=lambda pair: (-pair[0][0], pair[1].sha256))
    shown = ordered[:_SHOWN_IMAGES]
    judges = len(board.judges)
    return {
        "concept_id": concept_id,
        "name": board.version.info.concept_names.get(concept_id, concept_id),
        "images": len(images),
        "picture": board_picture(concept_id) if board_key(concept_id) in board.pictured else None,
        "judges": "the only entry" if judges == 1 else f"the {judges} best entries",
        "shown": [_shown(board, row, mean, fooled) for (mean, fooled), row in shown],
        "more": max(0, len(images) - _SHOWN_IMAGES),
        "rest": [row.sha256 for _, row in ordered[_SHOWN_IMAGES:]],
    }


def _misleading(board: VersionBoard, class_id: str, sha256: str) -> tuple[float, int]:
    said = board.said.get((class_id, sha256), [])
    if not said:
        return 0.0, 0
    return fmean(s.probability for s in said), sum(s.predicted == class_id for s in said)


def _shown(board: VersionBoard, row: Any, mean: float, fooled: int) -> dict[str, Any]:
    judges = len(board.judges)
    return {
        "sha256": row.sha256,
        "class_name": row.class_name,
        "probability": mean if judges else None,
        "said": f"{fooled} of {judges}" if judges else "",
        "picture": image_picture(row.sha256) if image_key(row.sha256) in board.pictured else None,
    }


def image_context(board: VersionBoard, sha256: str) -> dict[str, Any] | None:
    """Gather what is known of an image, of each class whose feature it shows; None if it is not of the board."""
    info = board.version.info
    images = board.images.get(sha256, [])
    retired = [r for r in info.retired if r.sha256 == sha256]
    if not images and not retired:
        return None
    return {
        "sha256": sha256,
        "rows": [_image_row(board, row) for row in images],
        "retired": retired,
        "miners": info.miners,
        "min_agree": info.min_agree,
        "picture": image_picture(sha256) if image_key(sha256) in board.pictured else None,
    }


def _image_row(board: VersionBoard, row: Mapping[Any, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {key: None if _absent(value) else value for key, value in row.items()}
    whole = {
        key: None if known[key] is None else int(known[key])
        for key in ("component", "rank", "votes", "shard_offset", "shard_size")
    }
    class_id = str(row["class_id"])
    return {
        **known,
        **whole,
        "slug": slug(class_id),
        "concept_name": board.version.info.concept_names.get(str(row["concept_id"]), row["concept_id"]),
        "models": [] if known["models"] is None else list(known["models"]),
        "verdicts": [] if known["verdicts"] is None else list(known["verdicts"]),
        "said": [
            {
                "id": s.entry,
                "model": board.entries[s.entry].info.model,
                "protocol": board.entries[s.entry].info.protocol.value,
                "probability": s.probability,
                "predicted": board.class_labels.get(s.predicted, s.predicted),
            }
            for s in board.said.get((class_id, str(row["sha256"])), [])
        ],
    }


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
