"""The table of the board: as rows for the browser, and as CSV for everyone else."""

from __future__ import annotations

import json
from typing import Any

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.benchmark.report.tables import Cell, ReportTable
from spurious_imagenet.leaderboard.entry import Verification
from spurious_imagenet.leaderboard.pages.board import VersionBoard
from spurious_imagenet.leaderboard.scoring.score import LeftOutModels, Score
from spurious_imagenet.models.spec import short_name


def table_rows(board: VersionBoard) -> list[dict[str, Any]]:
    """Say of every entry what the table shows, the best of each protocol first; values are not rounded."""
    return [_row(board, entry_id) for entry_id in board.entries]


def _row(board: VersionBoard, entry_id: str) -> dict[str, Any]:
    info, score, row = board.entries[entry_id].info, board.score(entry_id), board.rows[entry_id]
    left_out, who = _without(score)
    names = board.version.info.class_names
    gain = row.gain.by["spurious_auc"] if row.gain else None
    return {
        "id": entry_id,
        "rank": row.rank,
        "worst_rank": row.worst_rank,
        "ties": row.ties,
        "model": info.model,
        "authors": ", ".join(info.authors),
        **_ends("auc", score.mean.spurious_auc, score.mean_intervals.get("spurious_auc")),
        **_ends("ap", score.mean.spurious_ap, score.mean_intervals.get("spurious_ap")),
        "worst": score.worst_classes_auc,
        "worst_names": _few([names.get(c, c) for c in score.worst_classes]),
        **_ends("gap", score.gaps.gap if score.gaps else None, score.gaps.gap_interval if score.gaps else None),
        **_ends("robust", row.effective_robustness, row.effective_robustness_interval),
        **_ends("acc", score.accuracy, score.accuracy_interval),
        "without": left_out.spurious_auc if left_out else None,
        "without_who": who,
        "without_title": f"Without {', '.join(left_out.miners)}" if left_out else "",
        **_ends("gain", gain.difference if gain else None, gain.interval if gain else None),
        "gain_of": row.gain.over if row.gain else None,
        "protocol": info.protocol.value,
        "data": info.training_data,
        "params": info.parameters,
        "mitigation": info.mitigation,
        "licence": info.licence,
        "received": board.entries[entry_id].received[:10],
        "verified": verified(board.verification(entry_id)),
        "kin": related_words(score),
    }


def undefined_columns(board: VersionBoard) -> list[str]:
    """Say of each protocol what could not be computed, and why."""
    names = {
        "effective_robustness": "Effective robustness",
        "effective_robustness_interval": "The interval of effective robustness",
    }
    return [
        f"{names.get(what, what)} is not shown for the {protocol.value} protocol: {why}"
        for protocol, part in board.ranking.protocols.items()
        for what, why in part.undefined.items()
    ]


def equal_entries(board: VersionBoard) -> list[str]:
    """Say which entries have the same predictions: one model under several names counts as several in ranks."""
    said: list[str] = []
    done: set[str] = set()
    for entry_id, same in board.alike.items():
        group = [entry_id, *same]
        if not done.intersection(group):
            names = ", ".join(f"{board.entries[i].info.model} ({i[:12]})" for i in group)
            said.append(f"Equal predictions in {len(group)} entries, each ranked as a model of its own: {names}.")
        done.update(group)
    return said


def verified(verification: Verification | None) -> int:
    """1 where a new run agreed, -1 where it did not, 0 where there was none."""
    return 0 if verification is None else 1 if verification.verified else -1


def related_words(score: Score) -> str:
    """Say which selection models an entry is related to, and by what; empty if to none."""
    return ", ".join(f"{short_name(r.miner)} (same {r.by})" for r in score.related)


def table_script(board: VersionBoard) -> bytes:
    """Write the table as a script, which pages can load from disk too."""
    rows = table_rows(board)
    columns = list(rows[0]) if rows else []
    data = {"columns": columns, "rows": [[_short(row[c]) for c in columns] for row in rows]}
    return script(f"(window.boardTables ??= {{}})[{json.dumps(board.name)}]", data)


def script(target: str, data: Any) -> bytes:
    """Write an assignment of plain data; nothing in it ends the script or is read as code."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'"use strict";\n{target} = {text};\n'.encode()


def csv_table(board: VersionBoard) -> bytes:
    """Write the table as CSV: numbers in full, text that a spreadsheet would run as a formula made inert."""
    rows = table_rows(board)
    columns = tuple(rows[0]) if rows else ("id", "model")
    cells: tuple[tuple[Cell, ...], ...] = tuple(tuple(row[c] for c in columns) for row in rows)
    return ReportTable("", columns, cells).csv().encode()


def _without(score: Score) -> tuple[LeftOutModels | None, str]:
    """Without all selection models that the entry is related to; else the lowest over leaving out one miner."""
    if score.without_related is not None:
        related = ", ".join(short_name(m) for m in score.without_related.miners)
        return score.without_related, f"without related models {related}"
    known = [(left.spurious_auc, left) for left in score.without_each_miner if left.spurious_auc is not None]
    if not known:
        return None, ""
    lowest = min(known, key=lambda pair: pair[0])[1]
    return lowest, f"lowest: without {', '.join(short_name(m) for m in lowest.miners)}"


def _ends(name: str, value: float | None, interval: Interval | None) -> dict[str, float | None]:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _short(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value
