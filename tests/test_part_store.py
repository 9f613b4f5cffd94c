from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import canonical_json
from spurious_imagenet.part_store import PartStore, config_sha256


class Receipt(BaseModel):
    rows: int
    sha256: str


CONTENTS: dict[str, Any] = {
    "features.npy": np.arange(12, dtype=np.float16).reshape(3, 4),
    "logits.npy": np.zeros((0, 0), np.float32),
    "rows.parquet": pa.table({"key": ["a", "b", "c"]}),
}


def made(path: Path) -> PartStore:
    store = PartStore(path)
    store.prepare()
    return store


@pytest.mark.parametrize("name", CONTENTS)
def test_a_part_appears_with_its_files_and_a_receipt_of_their_hashes(tmp_path: Path, name: str) -> None:
    store = made(tmp_path)
    with store.write("one") as part:
        receipt = Receipt(rows=3, sha256=part.save(name, CONTENTS[name]))
        part.say(receipt)
        part.say(Receipt(rows=0, sha256=""), "shard.json")
        assert store.folders == []
    folder = store.place("one")
    assert store.folders == [folder]
    assert sorted(path.name for path in folder.iterdir()) == sorted([name, "receipt.json", "shard.json"])
    assert receipt.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert (folder / "receipt.json").read_text() == canonical_json(receipt.model_dump())
    if name.endswith(".npy"):
        np.testing.assert_array_equal(np.load(folder / name), CONTENTS[name])
    else:
        assert pq.read_table(folder / name) == CONTENTS[name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, StoreError])
def test_an_interrupted_part_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    store = made(tmp_path)

    def interrupted() -> None:
        with store.write("one") as part:
            part.save("features.npy", CONTENTS["features.npy"])
            raise error

    with pytest.raises(error):
        interrupted()
    assert list((tmp_path / "parts").iterdir()) == []


def test_parts_come_by_name_and_only_finished_ones(tmp_path: Path) -> None:
    store = made(tmp_path)
    for name in ("c", "a", "b"):
        with store.write(name) as part:
            part.say(Receipt(rows=0, sha256=""))
    for half in (".tmp-d-0a1b", "no-receipt"):
        store.place(half).mkdir()
    (store.place(".tmp-d-0a1b") / "receipt.json").write_text("{}")
    assert [folder.name for folder in store.folders] == ["a", "b", "c"]
    (tmp_path / ".tmp-store.json-0a1b").touch()
    made(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["parts", "a", "b", "c", "no-receipt", *["receipt.json"] * 3]
    )


def test_only_what_changes_the_content_is_in_the_hash_of_a_configuration() -> None:
    class Config(BaseModel):
        model: str
        weights: str

    first = Config(model="timm:x", weights="ab")
    assert config_sha256(first) == config_sha256(first.model_copy(update={"model": "file:x"}))
    assert config_sha256(first) != config_sha256(first.model_copy(update={"weights": "cd"}))
    assert config_sha256(first) == hashlib.sha256((json.dumps({"weights": "ab"}, indent=1) + "\n").encode()).hexdigest()
