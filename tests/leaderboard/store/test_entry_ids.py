"""The id of an entry: of what was submitted, not of the bytes of the file that keeps it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from leaderboard_helpers import random_submission, tiny_version

from spurious_imagenet.leaderboard.store import _entries as entries
from spurious_imagenet.leaderboard.store._entries import entry_path, predictions_path
from spurious_imagenet.leaderboard.store.object_store import ObjectStore
from spurious_imagenet.leaderboard.store.records import canonical_predictions, content_sha256, entry_id, json_bytes
from spurious_imagenet.leaderboard.store.store import Store

VERSION = tiny_version()


def _store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "board", create=True)
    store.add_version(VERSION)
    return store


def test_an_id_is_of_what_was_submitted_and_not_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store(tmp_path)
    first, late = (random_submission(VERSION, seed) for seed in (1, 2))
    entry = store.add(first)
    unfinished = Store(store.url, create=True).add(late)
    (tmp_path / "board" / entry_path(unfinished.id)).unlink()  # as if killed between the two files

    def otherwise(table: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="none", use_dictionary=False)
        return sink.getvalue().to_pybytes()

    monkeypatch.setattr(entries, "parquet_bytes", otherwise)
    assert Store(store.url).add(first) == entry
    finished = Store(store.url).add(late)
    assert (finished.id, finished.predictions_sha256) == (unfinished.id, unfinished.predictions_sha256)
    assert Store(store.url).submitted(finished.id)["probability"].tolist()


def test_ids_are_the_same_on_every_machine() -> None:
    rows = {
        "side": ["validation", "spurious"],
        "class_id": ["n01", "Äpfel"],
        "sha256": ["b" * 64, "a" * 64],
        "probability": [0.25, -0.0],
        "top5_id": [["n02", "n01"], ["n03"]],
        "top5_probability": [[0.5, 0.25], [1.0]],
    }
    table = canonical_predictions(pd.DataFrame(rows))
    content = content_sha256(table)
    assert content == "bc2769be777d191f32e7540bdf9ad9d06d91b62e1415551000e659605c587608"
    assert content_sha256(pa.concat_tables([table[:1], table[1:]])) == content


def test_entries_of_older_code_count_by_the_hash_of_their_file(tmp_path: Path) -> None:
    entry = _store(tmp_path).add(random_submission(VERSION, 1))
    number = entry_id(entry.info, entry.predictions_sha256)
    older = entry.model_copy(update={"id": number, "content_sha256": None})
    place = ObjectStore(tmp_path / "board")
    place.write_once(predictions_path(number), place.read(predictions_path(entry.id)))
    place.write_once(entry_path(number), json_bytes(older))
    found = Store(tmp_path / "board")
    assert {e.id for e in found.entries()} == {entry.id, number}
    pd.testing.assert_frame_equal(found.submitted(number), found.submitted(entry.id))
