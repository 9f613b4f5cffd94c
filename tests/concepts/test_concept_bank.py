from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.errors import StoreError


def a_bank(count: int = 5, dim: int = 7) -> ConceptBank:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "concept_id": [f"npca/a/{i}" for i in range(count)],
            "kind": "npca",
            "class_index": np.arange(count) // 2,
            "class_id": "a",
            "class_name": "the ä",
            "component": range(count),
            "name": ["", "bird feeder", "", "", ""][:count],
            "eigenvalue": [float("nan"), *rng.random(count - 1)],
            "top_keys": [[f"part/{i}", "part/x"] for i in range(count)],
        }
    )
    info = BankInfo(
        model="file:x",
        weights_sha256="12" * 32,
        feature_dim=dim,
        feature_config_sha256="34" * 32,
        config={"top": 3, "classes": None},
        counts={"images": 9},
        rejects=({"class_id": "b", "reason": "too few"},),
    )
    directions = rng.standard_normal((count, dim)).astype(np.float32)
    return ConceptBank(directions, rng.standard_normal(count).astype(np.float32), table, info)


def test_scores_are_dot_products_plus_offsets_in_float32() -> None:
    bank = a_bank()
    features = np.random.default_rng(1).standard_normal((11, 7)).astype(np.float16)
    scores = bank.score(features)
    assert scores.dtype == np.float32
    for i, x in enumerate(features):
        for m in range(len(bank)):
            expected = sum(float(a) * float(b) for a, b in zip(x, bank.directions[m], strict=True)) + bank.offsets[m]
            assert scores[i, m] == pytest.approx(expected, abs=1e-5)


def test_a_saved_bank_comes_back_the_same(tmp_path: Path) -> None:
    bank = a_bank()
    bank.save(tmp_path / "bank")
    again = ConceptBank.load(tmp_path / "bank")
    np.testing.assert_array_equal(again.directions, bank.directions)
    np.testing.assert_array_equal(again.offsets, bank.offsets)
    assert again.info == bank.info
    assert [list(keys) for keys in again.table["top_keys"]] == bank.table["top_keys"].tolist()
    columns = bank.table.columns.drop("top_keys")
    pd.testing.assert_frame_equal(again.table[columns], bank.table[columns], check_dtype=False)


def test_a_selection_that_is_not_contiguous_is_saved_as_it_is(tmp_path: Path) -> None:
    bank = a_bank()
    wide = replace(bank, directions=np.asfortranarray(bank.directions))
    wide.select([4, 0]).save(tmp_path / "bank")
    np.testing.assert_array_equal(ConceptBank.load(tmp_path / "bank").directions, bank.directions[[4, 0]])


def test_selecting_keeps_rows_and_table_together() -> None:
    bank = a_bank()
    by_index, by_mask = bank.select([3, 1]), bank.select(bank.table["class_index"].to_numpy() == 0)
    assert by_index.table["concept_id"].tolist() == ["npca/a/3", "npca/a/1"]
    assert by_index.table.index.tolist() == [0, 1]
    np.testing.assert_array_equal(by_index.directions, bank.directions[[3, 1]])
    np.testing.assert_array_equal(by_mask.offsets, bank.offsets[:2])
    assert len(bank.select([])) == 0


def test_saving_over_a_bank_is_refused_and_leaves_it_whole(tmp_path: Path) -> None:
    bank = a_bank()
    bank.save(tmp_path / "bank")
    with pytest.raises(StoreError, match="already exists"):
        bank.select([0]).save(tmp_path / "bank")
    assert len(ConceptBank.load(tmp_path / "bank")) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["bank"]


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    bank = a_bank()
    unwritable = replace(bank, table=bank.table.assign(mixed=[1, "two", 3.0, None, b"5"]))
    with pytest.raises(Exception, match="mixed"):
        unwritable.save(tmp_path / "bank")
    assert list(tmp_path.iterdir()) == []


def test_features_of_another_model_or_preprocessing_are_refused() -> None:
    bank = a_bank()
    bank.check_features("12" * 32, "34" * 32, "pool")
    with pytest.raises(StoreError, match="pool holds features of a model with weights ffffffffffff"):
        bank.check_features("ff" * 32, "34" * 32, "pool")
    with pytest.raises(StoreError, match="pool was made by the bank's model with other preprocessing"):
        bank.check_features("12" * 32, "ff" * 32, "pool")


def test_arrays_and_table_must_fit() -> None:
    bank = a_bank()
    with pytest.raises(StoreError, match=r"torn: directions \(4, 7\)"):
        replace(bank, directions=bank.directions[:4])
    with pytest.raises(StoreError, match=r"torn.*offsets \(2,\)"):
        replace(bank, offsets=bank.offsets[:2])
    with pytest.raises(StoreError, match=r"lacks the columns \['kind'\]"):
        replace(bank, table=bank.table.drop(columns="kind"))


@pytest.mark.parametrize("name", ["bank.json", "directions.safetensors", "table.parquet"])
def test_a_missing_or_torn_file_is_named(tmp_path: Path, name: str) -> None:
    a_bank().save(tmp_path / "bank")
    file = tmp_path / "bank" / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(StoreError, match="not a readable concept bank"):
        ConceptBank.load(tmp_path / "bank")
    file.unlink()
    with pytest.raises(StoreError, match=f"{name} is missing"):
        ConceptBank.load(tmp_path / "bank")


def test_another_schema_or_fewer_directions_are_refused(tmp_path: Path) -> None:
    a_bank().save(tmp_path / "bank")
    file, tensors = tmp_path / "bank" / "bank.json", tmp_path / "bank" / "directions.safetensors"
    content = file.read_text(encoding="utf-8")
    file.write_text(json.dumps(json.loads(content) | {"schema_version": 2}), encoding="utf-8")
    with pytest.raises(StoreError, match="schema 2: expected 1"):
        ConceptBank.load(tmp_path / "bank")
    file.write_text(content, encoding="utf-8")
    save_file({k: v[:3].copy() for k, v in load_file(tensors).items()}, tensors)
    with pytest.raises(StoreError, match="torn"):
        ConceptBank.load(tmp_path / "bank")


def test_the_hash_is_of_what_the_rows_score() -> None:
    bank = a_bank()
    expected = hashlib.sha256("\n".join(bank.table["concept_id"]).encode())
    expected.update(bank.directions.tobytes() + bank.offsets.tobytes())
    assert bank.sha256 == expected.hexdigest()
    fortran = replace(bank, directions=np.asfortranarray(bank.directions))
    assert replace(bank, table=bank.table.assign(name="x")).sha256 == fortran.sha256 == bank.sha256
    others = [
        bank.select([0, 1, 2]),
        bank.select([1, 0, 2, 3, 4]),
        replace(bank, offsets=bank.offsets + 1),
        replace(bank, directions=-bank.directions),
    ]
    assert len({bank.sha256, *(other.sha256 for other in others)}) == 5


def two_kinds() -> ConceptBank:
    """Components of two classes in the order of their variance, with a gap, and neurons by importance."""
    rows = [
        ("npca/a/0", "npca", 0, "a", 0, np.nan, "spurious"),
        ("npca/a/3", "npca", 0, "a", 3, np.nan, "core"),
        ("npca/a/1", "npca", 0, "a", 1, np.nan, None),
        ("rest/a", "npca_residual", 0, "a", -1, np.nan, None),
        ("npca/b/0", "npca", 1, "b", 0, np.nan, "spurious"),
        ("neuron/a/900", "neuron", 0, "a", 900, 2, "core"),
        ("neuron/a/7", "neuron", 0, "a", 7, 1, "spurious"),
    ]
    columns = ["concept_id", "kind", "class_index", "class_id", "component", "importance_rank", "verdict"]
    table = pd.DataFrame(rows, columns=columns).assign(class_name="", name="")
    info = BankInfo(model="m", weights_sha256="w", feature_dim=2, feature_config_sha256="f")
    return ConceptBank(np.zeros((7, 2), np.float32), np.zeros(7, np.float32), table, info)


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"residual": False}, [0, 1, 2, 4, 5, 6]),
        ({"kinds": ["npca"]}, [0, 1, 2, 4]),
        ({"kinds": ["npca", "npca_residual"], "class_ids": ["a"]}, [0, 1, 2, 3]),
        ({"class_ids": ["b", "nothing"]}, [4]),
        ({"concept_ids": ["neuron/a/7", "npca/a/0"]}, [0, 6]),
        ({"verdict": "spurious"}, [0, 4, 6]),
        ({"verdict": "spurious", "class_ids": ["a"]}, [0, 6]),
        ({"kinds": ["npca"], "first": 2}, [0, 1, 4]),
        ({"first": 1}, [0, 4]),
        ({"kinds": ["neuron"], "first": 1}, [5]),
        ({"kinds": ["npca"], "numbered_below": 2}, [0, 2, 4]),
        ({"kinds": ["neuron"], "numbered_below": 1}, [6]),
        ({"residual": False, "numbered_below": 2}, [0, 2, 4, 5, 6]),
        ({"verdict": "unclear"}, []),
    ],
)
def test_concepts_are_chosen_by_what_they_are(asked: dict[str, Any], rows: list[int]) -> None:
    bank = two_kinds()
    assert bank.rows_of(**asked).tolist() == rows
    assert bank.choose(**asked).table["concept_id"].tolist() == bank.table["concept_id"].iloc[rows].tolist()


def test_no_concept_has_a_verdict_or_a_rank_where_the_bank_knows_none() -> None:
    bank = a_bank()
    assert len(bank.choose(verdict="spurious")) == 0
    assert bank.choose(numbered_below=2).table["component"].tolist() == [0, 1]
