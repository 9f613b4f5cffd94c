"""The page of models that were asked for."""

from __future__ import annotations

import time
from typing import Any

from spurious_imagenet.leaderboard.pages.board import BoardData

_ORDER = ("running", "waiting", "failed", "done")


def request_rows(data: BoardData) -> list[dict[str, Any]]:
    """Say of every request where it stands: those that run or wait first, then the latest outcomes."""
    now = time.time()
    rows = [
        {
            "id": q.request.id,
            "model": q.request.model,
            "spec": q.request.spec,
            "protocol": q.request.protocol.value,
            "state": q.state(now),
            "entry": q.outcome.entry if q.outcome else None,
            "there": q.outcome is not None and q.outcome.entry in data.entries,
            "reason": q.outcome.reason if q.outcome else None,
            "time": q.outcome.time if q.outcome else "",
        }
        for q in data.requests
    ]
    rows.sort(key=lambda row: (row["time"], row["id"]), reverse=True)
    return sorted(rows, key=lambda row: min(_ORDER.index(row["state"]), 2))
