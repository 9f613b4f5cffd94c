from __future__ import annotations

import csv
import io
import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from helpers import run_spurious

from spurious_imagenet.builders.imports import read_salient_imagenet
from spurious_imagenet.concepts import ConceptVerdicts
from spurious_imagenet.errors import DataError
from spurious_imagenet.models.labels import imagenet_label_space

COLUMNS = [
    *("WorkerId", "Input.wordnet_id", "Input.class_index", "Input.feature_index", "Input.feature_rank"),
    *("Answer.main", "Answer.confidence", "Answer.reasons"),
]
IDS = imagenet_label_space("imagenet-1k").class_ids
Row = list[object]

#: Answers of five people: how many of them say background or separate object decides.
ANSWERS = {
    (0, 59): "mmmmm",
    (0, 7): "bmmmm",
    (0, 2047): "bsmmm",
    (1, 3): "bsbmm",
    (1, 59): "sbsbm",
    (999, 12): "bbbbb",
    (340, 0): "sssss",
}
WORDS = {"m": "main_object", "s": "separate_object", "b": "background"}


def votes() -> list[Row]:
    rows: list[Row] = []
    for n, ((k, feature), answers) in enumerate(ANSWERS.items()):
        for w, answer in enumerate(answers):
            reason = ("=HYPERLINK(1)", 'the "sky", wide', "two\nlines", "", "+1")[w]
            rows.append([10 * n + w, IDS[k], k, feature, 1 + n % 5, WORDS[answer], f"{1 + w}.0", reason])
    return rows


def written(path: Path, rows: list[Row], columns: list[str] = COLUMNS) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


def test_every_vote_is_kept_and_three_of_five_decide(tmp_path: Path) -> None:
    verdicts = read_salient_imagenet(written(tmp_path / "v.csv", votes()))
    assert {(v.class_index, v.component): v.verdict for v in verdicts} == {
        pair: "spurious" if pair in {(1, 3), (1, 59), (999, 12), (340, 0)} else "core" for pair in ANSWERS
    }
    assert {(v.kind, v.source) for v in verdicts} == {("neuron", "salient-imagenet")}
    assert [v.class_id for v in verdicts] == [IDS[k] for k, _ in ANSWERS]
    found = [[v.labeler, v.answer, v.confidence, v.reason] for row in verdicts for v in row.votes]
    assert found == [[str(r[0]), r[5], float(str(r[6])), r[7]] for r in votes()]


def test_order_of_rows_and_columns_does_not_matter(tmp_path: Path) -> None:
    straight = read_salient_imagenet(written(tmp_path / "a.csv", votes()))
    turned = written(tmp_path / "b.csv", [r[::-1] for r in sorted(votes(), key=str)], COLUMNS[::-1])
    turned.write_bytes(b"\xef\xbb\xbf" + turned.read_bytes())
    key = {v.key: (v.verdict, Counter(v.votes)) for v in straight}
    assert {v.key: (v.verdict, Counter(v.votes)) for v in read_salient_imagenet(turned)} == key


def test_the_command_writes_verdicts_with_formulas_inert(tmp_path: Path) -> None:
    source = written(tmp_path / "v.csv", votes())
    for ending in ("parquet", "jsonl", "csv"):
        out = tmp_path / f"out.{ending}"
        ran = run_spurious("import", "salient-imagenet", source, "--out", out)
        assert ran.code == 0, ran
        assert "7 pairs of class and neural feature with 35 single votes; 4 are spurious, of 3 classes." in ran.out
        assert len(ConceptVerdicts.load(out)) == 7
    cells = [c for row in csv.reader((tmp_path / "out.csv").open(newline="")) for c in row]
    assert "'=HYPERLINK(1)" in cells
    assert not [c for c in cells if c.startswith(("=", "+", "@", "\t", "\r"))]


def change(row: int, column: str, value: object) -> list[Row]:
    """Change one cell; rows count as in the file, whose header is row 1."""
    rows = votes()
    rows[row - 2][COLUMNS.index(column)] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (change(9, "Answer.confidence", "nan"), "row 9: confidence 'nan': expected a number from 1 to 5"),
        (change(9, "Answer.confidence", "inf"), "row 9: confidence 'inf'"),
        (change(9, "Answer.confidence", ""), "row 9: confidence ''"),
        (change(9, "Answer.confidence", "6"), "row 9: confidence '6'"),
        (change(9, "Answer.main", "maybe"), r"row 9: answer 'maybe': expected one of \['background', 'main_object'"),
        (change(9, "Input.class_index", 1000), "row 9: class 1000 with id 'n01440764' is unknown"),
        (change(9, "Input.class_index", 1), "row 9: class 1 with id 'n01440764' is unknown: expected n01443537"),
        (change(9, "Input.wordnet_id", "n99999999"), "row 9: class 0 with id 'n99999999' is unknown"),
        (change(9, "Input.feature_index", -1), "row 9: Input.feature_index is '-1'"),
        (change(9, "Input.feature_index", 2**31), "row 9: Input.feature_index is '2147483648'"),
        (change(9, "Input.feature_index", "1e3"), "row 9: Input.feature_index is '1e3'"),
        (change(9, "Input.feature_rank", "=1+1"), "row 9: Input.feature_rank is '=1[+]1'"),
        (change(9, "WorkerId", "٣"), "row 9: WorkerId is "),
        (change(9, "WorkerId", votes()[6][0]), "row 9: worker 11 votes a second time on class 0, feature 7"),
        (change(9, "Answer.reasons", "x" * 10_001), "row 9: reason: .* at most 10000 characters"),
        (change(9, "Answer.reasons", "x" * (10 << 20)), "row 9 cannot be read as CSV: field larger"),
        ([*votes(), votes()[20]], "row 37: worker 40 votes a second time on class 1, feature 59"),
        (votes()[:-1], "row 32: class 340, feature 0 has 4 votes: expected 5"),
        ([*votes(), [77, *votes()[0][1:]]], "row 2: class 0, feature 59 has 6 votes: expected 5"),
        ([*votes(), ["1", "2"]], "row 37: got 2 cells, expected 8"),
        ([], "holds no votes"),
    ],
)
def test_what_is_no_vote_is_refused_in_one_sentence(tmp_path: Path, rows: list[Row], words: str) -> None:
    source, out = written(tmp_path / "v.csv", rows), tmp_path / "out.parquet"
    with pytest.raises(DataError, match=words):
        read_salient_imagenet(source)
    error = run_spurious("import", "salient-imagenet", source, "--out", out).the_error()
    assert str(source) in error
    assert len(error) < 400 + len(str(source))
    assert not out.exists()


def test_what_is_no_such_csv_is_refused(tmp_path: Path) -> None:
    files = {
        "columns.csv": (b"a,b\n1,2\n", r"got the columns \['a', 'b'\]"),
        "twice.csv": (",".join([*COLUMNS, "WorkerId"]).encode(), "got the columns"),
        "wide.csv": (b"x," * 60_000, "got the columns"),
        "empty.csv": (b"", r"got the columns \[\]"),
        "bytes.csv": (",".join(COLUMNS).encode() + b"\n\xff\xfe", "cannot be read: line 2 has the byte 0xFF"),
        "quote.csv": (",".join(COLUMNS).encode() + b'\n1,"', "row 2 cannot be read as CSV"),
    }
    for name, (data, words) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=words) as raised:
            read_salient_imagenet(tmp_path / name)
        assert name in str(raised.value)
        assert len(str(raised.value)) < 500 + len(str(tmp_path))
    with pytest.raises(DataError, match="No such file"):
        read_salient_imagenet(tmp_path / "missing.csv")
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(DataError, match="104857600 bytes: expected at most"):
        read_salient_imagenet(tmp_path / "huge.csv")


@pytest.mark.skipif("SPURIOUS_DATA" not in os.environ, reason="SPURIOUS_DATA names no folder with the published file")
def test_the_published_votes_give_630_spurious_pairs_of_357_classes(tmp_path: Path) -> None:
    path = Path(os.environ["SPURIOUS_DATA"]) / "published/discover_spurious_features.csv"
    read_salient_imagenet(path).save(tmp_path / "v.parquet")
    verdicts = ConceptVerdicts.load(tmp_path / "v.parquet")
    spurious = [v for v in verdicts if v.verdict == "spurious"]
    assert (len(verdicts), len(spurious), len({v.class_id for v in spurious})) == (5000, 630, 357)
    assert len({v.class_id for v in verdicts}) == 1000
    frame = pd.read_csv(path)
    published = frame[[*COLUMNS[:4], *COLUMNS[5:]]].astype({"WorkerId": str}).to_numpy().tolist()
    kept = [
        [w.labeler, v.class_id, v.class_index, v.component, w.answer, w.confidence, w.reason]
        for v in verdicts
        for w in v.votes
    ]
    assert sorted(kept, key=str) == sorted(published, key=str)
