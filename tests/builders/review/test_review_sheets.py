"""Teams without FiftyOne answer in sheets: blind, inert, and refused whole where a row is wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from review_helpers import ACCEPT, REJECT, UNCLEAR, image_items, image_review

from spurious_imagenet.builders.review.forms import load_form
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.builders.review.sheets import (
    export_disagreements,
    export_sheet,
    import_adjudications,
    import_sheet,
    read_sheet,
)
from spurious_imagenet.errors import ConfigError, DataError


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, str]], **options: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), **options)  # type: ignore[arg-type]
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_out_and_in_again(tmp_path: Path, suffix: str) -> None:
    review = image_review(tmp_path / "r")
    sheet = tmp_path / f"sheet{suffix}"
    first = review.queue("ann")[0]
    review.record("ann", first, REJECT)
    assert export_sheet(review, "ann", sheet) == 20
    if suffix == ".csv":
        rows = _rows(sheet)
        assert [row["item_id"] for row in rows] == review.queue("ann")
        assert (rows[0]["cue"], rows[1]["cue"]) == ("no", "")
        for row in rows[1:11]:
            row.update({"cue": "Y", "object": " no "})
        _write(sheet, rows)
    else:
        entries = [json.loads(line) for line in sheet.read_text().splitlines()]
        assert [e["item_id"] for e in entries] == review.queue("ann")
        for entry in entries[1:11]:
            entry.update({"cue": "y", "object": "no"})
        sheet.write_text("".join(json.dumps(e) + "\n" for e in entries))
    done = import_sheet(review, sheet)
    assert (done.recorded, done.unchanged, done.empty) == (10, 1, 9)
    found = review.verdicts("ann")
    assert found[first].answers == REJECT
    assert all(found[i].answers == ACCEPT for i in review.queue("ann")[1:11])
    assert import_sheet(review, sheet).recorded == 0  # again changes nothing


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_sheet_does_not_depend_on_what_others_said(tmp_path: Path, suffix: str) -> None:
    gold = [replace(i, gold=ACCEPT if n % 4 == 0 else None) for n, i in enumerate(image_items(20))]
    plain = [replace(i, gold=None) for i in gold]
    seen: list[bytes] = []
    for items, others in ((plain, None), (plain, ACCEPT), (plain, REJECT), (gold, UNCLEAR)):
        folder = tmp_path / "r"
        review = Review.create(folder, "t", load_form("image"), items, ["ann", "ben"], seed=3)
        review.record("ann", review.queue("ann")[0], ACCEPT)
        if others is not None:
            review.record_many("ben", [(i, others) for i in review.queue("ben")])
            for item_id, consensus in review.consensus().items():
                if consensus.state == "disagreed":
                    review.adjudicate(item_id, "cyn", REJECT)
        sheet = tmp_path / f"s{suffix}"
        export_sheet(review, "ann", sheet)
        seen.append(sheet.read_bytes())
        folder.rename(tmp_path / f"done{len(seen)}")
    assert len(set(seen)) == 1
    assert b"ben" not in seen[0]
    assert b"gold" not in seen[0]


def test_no_cell_is_a_formula_and_ids_survive(tmp_path: Path) -> None:
    nasty = ["=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)", "\tx", "'=x", "plain"]
    items = [
        replace(i, item_id=f"{text}{n}", class_name=text, class_id=text, concept_id=text, media=text)
        for n, (i, text) in enumerate(zip(image_items(len(nasty)), nasty, strict=True))
    ]
    review = Review.create(tmp_path / "r", "t", load_form("image"), items, ["ann", "ben"])
    export_sheet(review, "ann", tmp_path / "s.csv")
    rows = _rows(tmp_path / "s.csv")
    assert not [cell for row in rows for cell in row.values() if cell[:1] in set("=+-@\t\r\n")]
    for row in rows:
        row.update(ACCEPT)
    assert import_sheet(review, _write(tmp_path / "s.csv", rows)).recorded == len(nasty)
    assert set(review.verdicts("ann")) == {i.item_id for i in items}


def test_what_spreadsheets_make_of_a_sheet_is_read(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r")
    export_sheet(review, "ann", tmp_path / "s.csv")
    rows = [row | UNCLEAR for row in _rows(tmp_path / "s.csv")]
    _write(tmp_path / "semicolon.csv", rows, delimiter=";", lineterminator="\r\n")
    text = (tmp_path / "semicolon.csv").read_text(encoding="utf-8")
    (tmp_path / "semicolon.csv").write_text(text, encoding="utf-8-sig", newline="")
    assert import_sheet(review, tmp_path / "semicolon.csv").recorded == 20
    short = [{"item_id": row["item_id"], "cue": "n", "object": "n"} for row in rows]
    with pytest.raises(DataError, match="row 2: no labeler"):
        import_sheet(review, _write(tmp_path / "short.csv", short))
    assert import_sheet(review, tmp_path / "short.csv", "ben").recorded == 20


def _set(row: int, **cells: str) -> Callable[[list[dict[str, str]]], None]:
    return lambda rows: rows[row].update(cells)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_set(4, item_id="nope"), "row 6: there is no item 'nope'"),
        (_set(4, item_id=""), "row 6: expected item_id and answers"),
        (_set(4, labeler="eve"), "row 6: the review has no labeler 'eve'"),
        (_set(4, labeler="ben"), "row 6: the row is ben's, expected ann's alone"),
        (_set(4, cue="maybe"), "row 6: 'maybe' is not an answer to 'cue', expected yes, no or unclear"),
        (_set(4, cue="=1+1"), "row 6: '=1.1' is not an answer"),
        (_set(4, cue="x" * 200_000), "field larger than field limit"),
        (lambda rows: rows.append(dict(rows[3])), "row 22: item .* is answered twice, first in .*row 5"),
        (
            lambda rows: [row.update(objct="n") for row in rows] and [row.pop("object") for row in rows],
            "row 1: .*mean 'object' by 'objct'",
        ),
        (lambda rows: [row.pop("item_id") for row in rows], "row 1: got the columns .*expected item_id"),
        (lambda rows: [(row.pop("cue"), row.pop("object")) for row in rows], "row 2: expected item_id and answers"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_recorded(
    tmp_path: Path, spoil: Callable[[list[dict[str, str]]], object], sentence: str
) -> None:
    review = image_review(tmp_path / "r")
    export_sheet(review, "ann", tmp_path / "s.csv")
    rows = [row | ACCEPT for row in _rows(tmp_path / "s.csv")]
    spoil(rows)
    with pytest.raises(DataError, match=sentence) as caught:
        import_sheet(review, _write(tmp_path / "s.csv", rows), "ann")
    assert len(str(caught.value)) < 700
    assert review.verdicts("ann") == {}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("s.csv", b"", "row 1: got the columns"),
        ("s.csv", b"item_id,cue\n\xff\xfe,yes\n", "cannot be read"),
        ("s.csv", b"item_id,cue,cue\nx,yes,no\n", "each once"),
        ("s.csv", b"item_id,cue\nx\n", "row 2: got 1 cells, expected 2"),
        ("s.csv", b'item_id,cue\n"x,yes\n', "cannot be read"),
        ("s.jsonl", b"{\n", "row 1 is not JSON"),
        ("s.jsonl", b"[]\n", "row 1 is not a JSON object: got list"),
        ("s.jsonl", b"[" * 200_000, "row 1 is not JSON"),
        ("s.jsonl", b'{"item_id": "x", "cue": 1}\n', "'cue' is not text"),
        ("s.jsonl", b'{"item_id": "' + b"x" * (10 << 20) + b'", "cue": "yes"}\n', "row 1 is not JSON of at most 4 MiB"),
        ("missing.csv", None, "cannot be read"),
    ],
)
def test_broken_sheets_are_refused_in_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    review = image_review(tmp_path / "r", count=2)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence) as caught:
        import_sheet(review, tmp_path / name)
    assert len(str(caught.value)) < 500


def test_sheets_of_other_endings_are_refused(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=2)
    with pytest.raises(ConfigError, match=r"ends in \.csv or \.jsonl"):
        export_sheet(review, "ann", tmp_path / "s.xlsx")
    with pytest.raises(ConfigError, match=r"ends in \.csv or \.jsonl"):
        import_sheet(review, tmp_path / "s.xlsx")
    with pytest.raises(ConfigError, match="no labeler 'eve'"):
        export_sheet(review, "eve", tmp_path / "s.csv")
    assert not list(tmp_path.glob("s.*"))


def test_a_third_person_fills_in_a_sheet_of_what_is_disputed(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=6)
    items = list(review.items)
    review.record_many("ann", [(i, ACCEPT) for i in items])
    review.record_many("ben", [(i, REJECT if n < 2 else ACCEPT) for n, i in enumerate(items)])
    assert export_disagreements(review, tmp_path / "d.csv") == 2
    rows = _rows(tmp_path / "d.csv")
    assert {row["item_id"] for row in rows} == set(items[:2])
    assert {(row["cue"], row["object"]) for row in rows} == {("", "")}
    sheet = _write(tmp_path / "d.csv", [row | ACCEPT for row in rows])
    with pytest.raises(ConfigError, match="expected a third person"):
        import_adjudications(review, "ben", sheet)
    assert import_adjudications(review, "cyn", sheet).recorded == 2
    assert import_adjudications(review, "cyn", sheet).unchanged == 2
    assert review.status().accepted == 6
    _write(sheet, [rows[0] | ACCEPT | {"item_id": items[4]}])
    with pytest.raises(DataError, match="is agreed: only items on which labelers differ"):
        import_adjudications(review, "cyn", sheet)


def test_comments_before_the_header_are_skipped_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=2)
    first = review.queue("ann")[0]
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f"# who judged,\n# and how\nitem_id,cue,object\n{first},yes,no\n")
    assert [row.answers for row in read_sheet(sheet, review.form, review.items)] == [{"cue": "yes", "object": "no"}]
    sheet.write_text(f"# who judged\nitem_id,cue,object\n{first},yes,maybe\n")
    with pytest.raises(DataError, match="row 3"):
        list(read_sheet(sheet, review.form, review.items))


def test_remarks_beside_the_answers_are_left_and_named(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=2)
    first = review.queue("ann")[0]
    text = f"Item ID;CUE;object;remarks\n;;;\n{first} ; Yes;n;a picture; blurred\n"
    (tmp_path / "s.csv").write_text(text.replace("picture; blurred", '"picture; blurred"'), encoding="utf-16")
    with pytest.raises(DataError, match="row 3"):
        import_sheet(review, tmp_path / "s.csv", "ann")
    (tmp_path / "s.csv").write_text(text.replace("a picture; blurred", '"a picture; blurred"'), encoding="utf-16")
    done = import_sheet(review, tmp_path / "s.csv", "ann")
    assert (done.recorded, done.unread) == (1, ("remarks",))
    assert review.verdicts("ann")[first].answers == {"cue": "yes", "object": "no"}
