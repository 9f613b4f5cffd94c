"""Equal predictions under two names are said, on the page and when the second comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from leaderboard_helpers import random_table, submission_info, tiny_version

from spurious_imagenet.leaderboard.entry import Entry
from spurious_imagenet.leaderboard.pages._table import equal_entries
from spurious_imagenet.leaderboard.pages.board import BoardData
from spurious_imagenet.leaderboard.scoring.alike import alike_to
from spurious_imagenet.leaderboard.store.rescore import score_under
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.read import Submission


@pytest.fixture
def store(tmp_path: Path) -> Store:
    board = Store(tmp_path / "board", create=True)
    board.add_version(tiny_version(3))
    return board


def add(store: Store, seed: int, name: str, change: str = "") -> Entry:
    version = store.version()
    table = random_table(version, seed)
    if change == "rounding":
        table["probability"] = table["probability"].round(4)
    elif change == "one image":
        table.loc[0, "probability"] = np.clip(table.loc[0, "probability"] - 0.05, 0, 1)
    protocol = "standard" if change == "protocol" else "paper"
    entry = store.add(Submission(submission_info(version, seed, model=name, protocol=protocol), table))
    score_under(store, entry)
    return entry


@pytest.mark.parametrize(
    ("change", "same"), [("", True), ("rounding", True), ("one image", False), ("protocol", False)]
)
def test_equal_predictions_are_found_and_others_are_not(store: Store, change: str, same: bool) -> None:
    first, other = add(store, 1, "first"), add(store, 2, "other")
    second = add(store, 1, "second", change)
    board = BoardData.read(store).latest
    assert board.alike == ({first.id: [second.id], second.id: [first.id]} if same else {})
    assert len(equal_entries(board)) == same
    scores = {i: s.score for i, s in store.summaries().items()}
    entries = {e.id: e for e in store.entries()}
    assert alike_to(second.id, entries, scores, store.submitted) == ([first.id] if same else [])
    assert alike_to(other.id, entries, scores, store.submitted) == []
