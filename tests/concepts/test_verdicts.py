from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spurious_imagenet.concepts import (
    BankInfo,
    ConceptBank,
    ConceptVerdict,
    ConceptVerdicts,
    Vote,
    apply_verdicts,
)
from spurious_imagenet.concepts.verdict_files import inert_cell, original_text
from spurious_imagenet.errors import ConfigError, DataError, StoreError

FORMULAS = ("=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=x", "'=x", "'quoted'", "''", 'a\nb,"c" #')


def verdict(component: int = 0, value: str = "spurious", **fields: object) -> ConceptVerdict:
    plain = {"kind": "npca", "class_index": 1, "class_id": "bird", "component": component, "verdict": value}
    return ConceptVerdict.model_validate(plain | {"source": "sfe"} | fields)


def every_kind() -> ConceptVerdicts:
    votes = (
        Vote(labeler="52", answer="background", confidence=4, reason="= water around it"),
        Vote(labeler="ann", answer="spurious", time="2026-01-02T03:04:05+00:00"),
    )
    rows = [verdict(0, votes=votes, name="water, “deep”"), verdict(1, "core"), verdict(2, "unclear", concept_id="x/2")]
    texts = [verdict(3 + i, votes=(Vote(labeler=t, answer=t, reason=t),), name=t) for i, t in enumerate(FORMULAS)]
    return ConceptVerdicts((*rows, *texts, verdict(99, weights_sha256="ab" * 32)))


def bank(weights: str = "w") -> ConceptBank:
    rows = [
        {"concept_id": f"npca/{c}/{i}", "kind": "npca" if i >= 0 else "npca_residual", "class_index": n, "class_id": c}
        | {"class_name": c, "component": i, "name": ""}
        for n, c in enumerate(("apple", "bird"))
        for i in (0, 1, 2, -1)
    ]
    info = BankInfo(model="file:m", weights_sha256=weights, feature_dim=3, feature_config_sha256="f")
    rng = np.random.default_rng(0)
    return ConceptBank(rng.random((8, 3), np.float32), rng.random(8, np.float32), pd.DataFrame(rows), info)


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_verdicts_survive_every_form_and_give_equal_bytes(tmp_path: Path, ending: str) -> None:
    made = every_kind()
    for name in ("a", "b"):
        made.save(tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    assert ConceptVerdicts.load(tmp_path / f"a.{ending}") == made
    assert ConceptVerdicts.load(tmp_path / f"a.{ending}").rows[0].votes[0].confidence == 4.0


def without_roles(path: Path) -> None:
    """Rewrite a file of verdicts as it was before votes had a role."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
        for vote in (v for row in rows for v in row["votes"]):
            del vote["role"]
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for vote in (v for row in rows for v in row["votes"]):
            del vote["role"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = list(csv.reader(path.read_text().splitlines()))
        assert lines[0][-1] == "role"
        path.write_text("".join(",".join(line[:-1]) + "\n" for line in lines))


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_votes_of_older_files_get_their_role_from_the_reason(tmp_path: Path, ending: str) -> None:
    reasons = (None, "heat: yes", "after adjudication; heat: yes", "adjudication; heat: yes")
    votes = tuple(Vote(labeler=f"w{i}", answer="core", reason=reason) for i, reason in enumerate(reasons))
    ConceptVerdicts((verdict(votes=votes),)).save(path := tmp_path / f"v.{ending}")
    assert [v.role for v in ConceptVerdicts.load(path).rows[0].votes] == ["labeler"] * 4
    without_roles(path)
    assert [v.role for v in ConceptVerdicts.load(path).rows[0].votes] == ["labeler"] * 3 + ["adjudicator"]


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_no_verdicts_are_a_file_too(tmp_path: Path, ending: str) -> None:
    ConceptVerdicts(()).save(tmp_path / f"none.{ending}")
    assert len(ConceptVerdicts.load(tmp_path / f"none.{ending}")) == 0


def test_csv_has_a_line_a_vote_no_formula_and_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    every_kind().save(path, comment="two people\nfour eyes")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# two people\n# four eyes\nconcept_id,kind,")
    rows = list(csv.reader(text.splitlines(keepends=True)[2:]))
    assert len(rows) == 1 + 2 + 1 + 1 + len(FORMULAS) + 1
    assert not [c for row in rows for c in row if c.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
    assert ConceptVerdicts.load(path) == every_kind()


@given(st.text())
def test_inert_cells_give_their_text_back(text: str) -> None:
    cell = inert_cell(text)
    assert original_text(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_file_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.parquet, \.jsonl, \.csv"):
        every_kind().save(tmp_path / "v.txt")
    with pytest.raises(ConfigError, match="cannot carry a comment"):
        every_kind().save(tmp_path / "v.jsonl", comment="x")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "header.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bytes.csv").write_bytes(b"a,\xff\xfe")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    wanted = {
        "other.parquet": "lacks the columns",
        "torn.parquet": "cannot be read",
        "header.csv": r"columns \['a', 'b'\]",
        "bytes.csv": "cannot be read",
        "list.jsonl": "row 1 is not a JSON object",
        "deep.jsonl": "row 1 is not JSON of",
        "missing.jsonl": "cannot be read",
        "missing.parquet": "no verdicts file",
    }
    for name, words in wanted.items():
        with pytest.raises(DataError, match=words) as raised:
            ConceptVerdicts.load(tmp_path / name)
        assert name in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "bad"}, "row 2: verdict"),
        ({"component": -1}, "row 2: component"),
        ({"component": 2**40}, "row 2: component"),
        ({"votes": [{"labeler": "a", "answer": "b", "confidence": float("nan")}]}, r"row 2: votes\.0\.confidence"),
        ({"votes": [{"labeler": "a", "answer": "b", "reason": "x" * 10_001}]}, r"row 2: votes\.0\.reason"),
        ({"votes": [{"labeler": "", "answer": "b"}]}, r"row 2: votes\.0\.labeler"),
        ({"extra": 1}, "row 2: extra"),
    ],
)
def test_rows_that_are_no_verdicts_are_named(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = tmp_path / "v.jsonl"
    good = verdict().model_dump(mode="json")
    path.write_text("".join(json.dumps(r) + "\n" for r in (good, good | {"component": 5} | changes)))
    with pytest.raises(DataError, match=words) as raised:
        ConceptVerdicts.load(path)
    assert len(str(raised.value)) < 400


def test_a_concept_has_one_verdict() -> None:
    with pytest.raises(DataError, match=r"\('npca', 'bird', 0\) has 2 verdicts"):
        ConceptVerdicts((verdict(), verdict(1), verdict(0, "core")))
    with pytest.raises(DataError, match="'x' has 2 verdicts"):
        ConceptVerdicts((verdict(0, concept_id="x"), verdict(1, concept_id="x")))
    with pytest.raises(ValidationError):
        verdict(0, "maybe")


def test_verdicts_go_to_their_rows_and_the_others_are_named(tmp_path: Path) -> None:
    votes = (Vote(labeler="1", answer="background", confidence=3.0, reason="sky"), Vote(labeler="2", answer="x"))
    given_ = [
        verdict(1, votes=votes, name="sky"),
        verdict(2, "core", concept_id="npca/apple/0", class_id="apple", class_index=0),
        verdict(7),
        verdict(0, concept_id="npca/nothing/0"),
        verdict(3, kind="neuron"),
        verdict(0, class_id="cow"),
    ]
    found = apply_verdicts(bank(), ConceptVerdicts(tuple(given_)))
    assert found.matched == 2
    assert [(u.verdict, u.reason) for u in found.unmatched] == [
        (given_[2], "the bank has no component 7 of class 'bird' (3 others)"),
        (given_[3], "the bank has no concept 'npca/nothing/0'"),
        (given_[4], "the bank has no concept of kind 'neuron'"),
        (given_[5], "the bank has no class 'cow'"),
    ]
    found.bank.save(tmp_path / "bank")
    table = ConceptBank.load(tmp_path / "bank").table.set_index("concept_id")
    assert table["verdict"].dropna().to_dict() == {"npca/apple/0": "core", "npca/bird/1": "spurious"}
    assert table["verdict_source"].notna().sum() == 2
    assert [Vote.model_validate(v) for v in table["votes"]["npca/bird/1"]] == list(votes)
    assert len(table["votes"]["npca/apple/0"]) == 0
    assert table["name"].to_dict() == dict.fromkeys(table.index, "") | {"npca/bird/1": "sky"}
    np.testing.assert_array_equal(found.bank.directions, bank().directions)
    assert "verdict" not in bank().table


def test_later_verdicts_replace_earlier_ones_and_leave_the_rest(tmp_path: Path) -> None:
    first = apply_verdicts(bank(), ConceptVerdicts((verdict(0, votes=(Vote(labeler="a", answer="b"),)), verdict(1))))
    first.bank.save(tmp_path / "bank")
    again = apply_verdicts(ConceptBank.load(tmp_path / "bank"), ConceptVerdicts((verdict(1, "core", source="s2"),)))
    again.bank.save(tmp_path / "again")
    table = pq.read_table(tmp_path / "again/table.parquet").to_pylist()
    assert {r["concept_id"]: (r["verdict"], r["verdict_source"]) for r in table if r["verdict"]} == {
        "npca/bird/0": ("spurious", "sfe"),
        "npca/bird/1": ("core", "s2"),
    }
    assert next(r for r in table if r["concept_id"] == "npca/bird/0")["votes"][0]["labeler"] == "a"


def test_verdicts_on_another_model_or_two_on_one_row_are_refused() -> None:
    with pytest.raises(StoreError, match="weights other"):
        apply_verdicts(bank(), ConceptVerdicts((verdict(weights_sha256="other"),)))
    assert apply_verdicts(bank("same"), ConceptVerdicts((verdict(weights_sha256="same"),))).matched == 1
    both = ConceptVerdicts((verdict(0), verdict(1, concept_id="npca/bird/0")))
    with pytest.raises(DataError, match="'npca/bird/0' is given two verdicts"):
        apply_verdicts(bank(), both)


def test_table_holds_the_verdicts() -> None:
    table = every_kind().table()
    assert list(table["component"])[:3] == [0, 1, 2]
    assert table["votes"][0][0]["reason"] == "= water around it"
    assert list(ConceptVerdicts(()).table().columns) == list(ConceptVerdict.model_fields)


def test_a_wrong_row_below_a_comment_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    verdict = ConceptVerdict(kind="npca", class_index=0, class_id="n01", component=0, verdict="core", source="x")
    ConceptVerdicts((verdict,)).save(path, comment="who judged,\nand how")
    path.write_text(path.read_text("utf-8") + "too,few,cells\n", "utf-8")
    with pytest.raises(DataError, match="row 5: got 3 cells, expected 15"):
        ConceptVerdicts.load(path)
