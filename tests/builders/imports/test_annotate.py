from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import run_spurious

from spurious_imagenet.concepts import BankInfo, ConceptBank, ConceptVerdict, ConceptVerdicts
from spurious_imagenet.models.labels import imagenet_label_space

IDS = imagenet_label_space("imagenet-1k").class_ids
COLUMNS = "WorkerId,Input.wordnet_id,Input.class_index,Input.feature_index,Input.feature_rank,Answer.main,"
COLUMNS += "Answer.confidence,Answer.reasons\n"


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """Four neurons of two classes."""
    rows = [
        {"concept_id": f"neuron/{IDS[k]}/{i}", "kind": "neuron", "class_index": k, "class_id": IDS[k]}
        | {"class_name": f"[red]{k}", "component": i, "name": "", "importance_rank": 1 + n % 2}
        for n, (k, i) in enumerate([(0, 59), (0, 7), (94, 3), (94, 5)])
    ]
    info = BankInfo(model="file:m", weights_sha256="w", feature_dim=8, feature_config_sha256="f")
    ConceptBank(np.eye(8, dtype=np.float32)[:4], np.zeros(4, np.float32), pd.DataFrame(rows), info).save(
        tmp_path / "bank"
    )
    return tmp_path / "bank"


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Votes on two of the bank's neurons and on twelve others."""
    text = COLUMNS
    for k, feature in [(0, 59), (94, 5), *((5, i) for i in range(12))]:
        for w in range(5):
            answer = "background" if w < 3 and k != 0 else "main_object"
            text += f"{w},{IDS[k]},{k},{feature},1,{answer},4.0,[bold]=1+{w}\n"
    path = tmp_path / "votes.csv"
    path.write_text(text)
    return path


def test_imported_votes_become_verdicts_on_rows_of_the_bank(bank: Path, csv: Path, tmp_path: Path) -> None:
    verdicts, out = tmp_path / "v.parquet", tmp_path / "out"
    assert run_spurious("import", "salient-imagenet", csv, "--out", verdicts).code == 0
    ran = run_spurious("annotate", "--bank", bank, "--verdicts", verdicts, "--out", out)
    assert ran.code == 0, ran
    assert f"{out}: 4 concepts; 2 of 14 verdicts matched, 12 did not (1 core, 1 spurious)." in ran.out
    assert ran.err.count("not matched: neuron") == 10
    assert f"the bank has no class '{IDS[5]}'" in ran.err
    assert "and 2 more" in ran.err
    assert "they hold only if it was file:m" in ran.err
    table = ConceptBank.load(out).table.set_index("concept_id")
    assert table["verdict"].dropna().to_dict() == {f"neuron/{IDS[0]}/59": "core", f"neuron/{IDS[94]}/5": "spurious"}
    votes = table["votes"][f"neuron/{IDS[94]}/5"]
    assert [(v["labeler"], v["answer"], v["confidence"], v["reason"]) for v in votes] == [
        (str(w), "background" if w < 3 else "main_object", 4.0, f"[bold]=1+{w}") for w in range(5)
    ]


@pytest.mark.parametrize(("only", "wanted"), [("spurious", [(94, 5)]), ("core", [(0, 59)])])
def test_only_the_rows_with_a_verdict_are_kept(
    bank: Path, csv: Path, tmp_path: Path, only: str, wanted: list[tuple[int, int]]
) -> None:
    verdicts, out = tmp_path / "v.jsonl", tmp_path / "out"
    assert run_spurious("import", "salient-imagenet", csv, "--out", verdicts).code == 0
    ran = run_spurious("annotate", "--bank", bank, "--verdicts", verdicts, "--out", out, "--only", only)
    assert ran.code == 0, ran
    found, whole = ConceptBank.load(out), ConceptBank.load(bank)
    assert [(k, i) for k, i in found.table[["class_index", "component"]].itertuples(index=False)] == wanted
    rows = whole.table["concept_id"].isin(found.table["concept_id"]).to_numpy()
    np.testing.assert_array_equal(found.directions, whole.directions[rows])


def test_what_cannot_be_annotated_is_one_sentence(bank: Path, csv: Path, tmp_path: Path) -> None:
    def error(verdicts: Path, *more: str) -> str:
        return run_spurious(
            "annotate", "--bank", bank, "--verdicts", verdicts, "--out", tmp_path / "out", *more
        ).the_error()

    one = ConceptVerdict(kind="npca", class_index=0, class_id=IDS[0], component=59, verdict="spurious", source="sfe")
    ConceptVerdicts((one,)).save(tmp_path / "npca.parquet")
    ConceptVerdicts(()).save(tmp_path / "none.parquet")
    ConceptVerdicts((one.model_copy(update={"kind": "neuron"}),)).save(tmp_path / "one.parquet")
    ConceptVerdicts((one.model_copy(update={"kind": "neuron", "weights_sha256": "other"}),)).save(tmp_path / "o.jsonl")
    assert "none of 1 verdicts is on a concept" in error(tmp_path / "npca.parquet")
    assert "the bank has no concept of kind 'npca'" in error(tmp_path / "npca.parquet")
    assert "none.parquet holds no verdicts" in error(tmp_path / "none.parquet")
    assert "no concept" in error(tmp_path / "one.parquet", "--only", "core")
    assert "weights other" in error(tmp_path / "o.jsonl")
    assert "ends in .parquet, .jsonl, .csv" in error(tmp_path / "x.txt")
    assert "there is no verdicts file" in error(tmp_path / "x.parquet")
    assert not (tmp_path / "out").exists()
