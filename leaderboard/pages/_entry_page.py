"""The page of an entry, and its data for comparing it with another."""

from __future__ import annotations

import base64
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.errors import StoreError
from spurious_imagenet.leaderboard.entry import Entry
from spurious_imagenet.leaderboard.pages._downloads import predictions_file
from spurious_imagenet.leaderboard.pages._pictures import image_key, image_picture
from spurious_imagenet.leaderboard.pages._table import related_words, script, verified
from spurious_imagenet.leaderboard.pages.board import BoardData, VersionBoard
from spurious_imagenet.leaderboard.pages.rendering import slug
from spurious_imagenet.leaderboard.scoring.ranking import Gain
from spurious_imagenet.leaderboard.scoring.score import Score

_WORST_IMAGES = 12


def entry_context(data: BoardData, entry: Entry) -> dict[str, Any]:
    """Gather what the page of an entry shows; its full score and predictions are read now.

    Raises:
        StoreError: A file of the entry is torn.
    """
    board, info = data.latest, entry.info
    scored = board.whole_score(entry.id) if entry.id in board.entries else None
    score = scored.score if scored else None
    verifications = board.verifications.get(entry.id, [])
    state = verified(verifications[-1] if verifications else None)
    return {
        "id": entry.id,
        "entry": entry,
        "info": info,
        "score": score,
        "verified": state > 0,
        "refuted": state < 0,
        "kin": related_words(score) if score else "",
        "mitigation": info.mitigation,
        "verifications": list(reversed(verifications)),
        "rank_words": _rank_words(board, entry)
        if score
        else "This entry has not been scored on the latest version yet.",
        "big": _big(board, entry.id, score) if score else [],
        "remarks": _remarks(board, entry.id, score) if score else [],
        "images": len(board.spurious),
        "left_out": _left_out(score) if score else [],
        "classes": _classes(score) if score else [],
        "worst": _worst_images(board, entry.id) if score else [],
        "history": _history(data, entry.id),
        **_gains(board, entry.id),
    }


def _rank_words(board: VersionBoard, entry: Entry) -> str:
    row, protocol = board.rows[entry.id], entry.info.protocol
    peers = sum(e.info.protocol is protocol for e in board.entries.values())
    if peers == 1:
        return f"The only entry of the {protocol.value} protocol."
    place = f"Rank {row.rank}{f' to {row.worst_rank}' if row.ties else ''} of {peers}"
    others = "1 other entry" if row.ties == 1 else f"{row.ties} other entries"
    tied = f"; {others} cannot be told apart from it" if row.ties else ""
    return f"{place} by spurious AUC, {protocol.value} protocol{tied}."


def _big(board: VersionBoard, entry_id: str, score: Score) -> list[dict[str, Any]]:
    row, names = board.rows[entry_id], board.version.info.class_names
    worst = ", ".join(names.get(c, c) for c in score.worst_classes[:3])
    gaps = score.gaps
    on = f"{score.accuracy_images:,} images of {board.version.side('validation')['class_id'].nunique():,} classes"
    found = [
        _number("Spurious AUC", score.mean.spurious_auc, score.mean_intervals.get("spurious_auc")),
        _number("Spurious AP", score.mean.spurious_ap, score.mean_intervals.get("spurious_ap")),
        _number("Worst classes, AUC", score.worst_classes_auc, remark=worst),
        _number("Accuracy", score.accuracy, score.accuracy_interval, digits=1, factor=100, unit=" %", remark=on),
    ]
    if gaps is not None:
        found.append(_number("Spurious gap", gaps.gap, gaps.gap_interval))
    if row.effective_robustness is not None:
        found.append(_number("Effective robustness", row.effective_robustness, row.effective_robustness_interval))
    return found


def _number(
    name: str,
    value: float,
    interval: Interval | None = None,
    *,
    digits: int = 3,
    factor: float = 1.0,
    unit: str = "",
    remark: str = "",
) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "interval": interval,
        "digits": digits,
        "factor": factor,
        "unit": unit,
        "remark": remark,
    }


def _remarks(board: VersionBoard, entry_id: str, score: Score) -> list[str]:
    found = []
    if score.related:
        found.append(
            f"Related to models that chose the images, which were picked against such models: {related_words(score)}."
        )
    if same := board.alike.get(entry_id):
        found.append(f"Its predictions equal those of {_named(board, same)} on every image.")
    return found


def _named(board: VersionBoard, ids: list[str]) -> str:
    return ", ".join(f"{board.entries[i].info.model} ({i[:12]})" for i in ids)


def _left_out(score: Score) -> list[dict[str, Any]]:
    related = [score.without_related] if score.without_related else []
    return [
        {**left.model_dump(), "related": left is score.without_related}
        for left in (*related, *score.without_each_miner)
    ]


def _classes(score: Score) -> list[dict[str, Any]]:
    gaps = {g.class_id: g for g in score.gaps.classes if not g.control} if score.gaps else {}
    ordered = sorted(score.classes, key=lambda c: (c.spurious_auc, c.class_id))
    return [{"record": c, "slug": slug(c.class_id), "gap": gaps.get(c.class_id)} for c in ordered]


def _worst_images(board: VersionBoard, entry_id: str) -> list[dict[str, Any]]:
    """Spurious images of the version to which the entry gives the highest probability of their class."""
    columns = ["class_id", "sha256", "probability"]
    file = pa.BufferReader(predictions_file(board.store, entry_id))
    table = pq.read_table(file, columns=columns, filters=[("side", "=", "spurious")]).to_pandas()
    ordered = table.sort_values("probability", ascending=False, kind="stable").to_numpy(object)
    worst = (row for row in ordered if any(r["class_id"] == row[0] for r in board.images.get(row[1], ())))
    return [
        {
            "sha256": sha256,
            "class_name": board.class_labels.get(class_id, class_id),
            "probability": probability,
            "said": board.class_labels.get(class_id, class_id),
            "picture": image_picture(sha256) if image_key(sha256) in board.pictured else None,
        }
        for class_id, sha256, probability in islice(worst, _WORST_IMAGES)
    ]


def _history(data: BoardData, entry_id: str) -> list[dict[str, Any]]:
    found = []
    for name in data.versions:
        try:
            scored = (
                data.latest.whole_score(entry_id) if name == data.latest.name else data.store.scored(entry_id, name)
            )
        except StoreError:
            scored = None
        score = scored.score if scored else None
        images = sum(c.spurious_images for c in score.classes) if score else 0
        found.append({"version": name, "score": score, "images": images})
    return found


def _gains(board: VersionBoard, entry_id: str) -> dict[str, list[dict[str, Any]]]:
    over = {entry: row.gain for entry, row in board.rows.items() if row.gain is not None}
    own = [(over[entry_id].over, entry_id, "this entry against it")] if entry_id in over else []
    others = [(fixed, fixed, "it against this entry") for fixed, gain in over.items() if gain.over == entry_id]
    return {"gains": [_gain(board, shown, over[fixed], relation) for shown, fixed, relation in (*own, *others)]}


def _gain(board: VersionBoard, shown: str, gain: Gain, relation: str) -> dict[str, Any]:
    info = board.entries[shown].info
    return {"id": shown, "model": info.model, "mitigation": info.mitigation, "relation": relation, "by": gain.by}


def entry_script(board: VersionBoard, entry_id: str) -> bytes:
    """Write what comparing an entry with another needs: means, classes and resamples, as a script.

    Raises:
        StoreError: The full score is missing or torn.
    """
    scored = board.whole_score(entry_id)
    if scored is None:
        raise StoreError(f"entry {entry_id[:12]} has no score on version {board.name}.")
    info, score = board.entries[entry_id].info, scored.score
    data = {
        "id": entry_id,
        "model": info.model,
        "protocol": info.protocol.value,
        "mitigation": info.mitigation or "",
        "verified": verified(board.verification(entry_id)),
        "kin": related_words(score),
        "values": _values(score),
        "resampled": {
            name: base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()
            for name, values in scored.resampled.items()
        },
        "classes": [
            [
                c.class_id,
                c.class_name,
                round(c.spurious_auc, 5),
                *_ends(c.intervals.get("spurious_auc")),
                slug(c.class_id),
            ]
            for c in score.classes
        ],
    }
    target = f'((window.boardEntries ??= {{}})["{board.name}"] ??= {{}})["{entry_id}"]'
    return script(target, data)


def _values(score: Score) -> dict[str, list[float | None]]:
    means = {
        name: [getattr(score.mean, name), *_ends(score.mean_intervals.get(name))]
        for name in ("spurious_auc", "spurious_ap")
    }
    means["accuracy"] = [score.accuracy, *_ends(score.accuracy_interval)]
    if score.gaps is not None:
        means["spurious_gap"] = [score.gaps.gap, *_ends(score.gaps.gap_interval)]
        means["accuracy_high"] = [score.gaps.accuracy_high, None, None]
        means["accuracy_low"] = [score.gaps.accuracy_low, None, None]
    return means


def _ends(interval: Interval | None) -> list[float | None]:
    return [None, None] if interval is None else [interval.low, interval.high]
