"""``spurious review`` from the making of a review to its verdicts, by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import run_spurious
from review_sources import CONCEPTS, write_boards, write_candidates, write_check, write_world

from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.concepts import ConceptVerdicts


def _run(*arguments: object) -> str:
    ran = run_spurious("review", *arguments)
    assert ran.code == 0, ran.err
    return ran.out


def test_images_by_two_scripted_labelers(tmp_path: Path) -> None:
    candidates, boards = write_candidates(tmp_path / "candidates"), write_boards(tmp_path / "boards")
    world, check, review = write_world(tmp_path / "world"), write_check(tmp_path / "check"), tmp_path / "images"
    made = _run("create", "--candidates", candidates, "--boards", boards, "--labelers", "ann, ben", "--out", review)
    assert "18 items, 0 of them with known answers; ann 18, ben 18." in made
    for labeler in ("ann", "ben"):
        said = _run("script", review, "--labeler", labeler, "--truth", world, "--check", check, "--error-rate", 0.2)
        assert f"{labeler}: 18 verdicts by script, each answer wrong with probability 0.2." in said
    status = json.loads(_run("status", review, "--json"))
    assert status["items"] == 18 == sum(status["states"].values())
    disagreed = json.loads(_run("adjudicate", review, "--json"))
    assert len(disagreed) == status["states"]["disagreed"] > 0
    assert all(set(d) == {"item_id", "ann", "ben"} for d in disagreed)
    listed = _run("adjudicate", review)
    assert all(d["item_id"] in listed for d in disagreed)
    sheet = tmp_path / "third.jsonl"
    _run("adjudicate", review, "--sheet", sheet)
    rows = [json.loads(line) | {"cue": "yes", "object": "no"} for line in sheet.read_text().splitlines()]
    sheet.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert f"{len(disagreed)} verdicts recorded" in _run("adjudicate", review, "--who", "cyn", "--answers", sheet)
    assert json.loads(_run("status", review, "--json"))["states"]["adjudicated"] == len(disagreed)
    kappa = json.loads(_run("kappa", review, "--json"))
    assert [k["scope"] for k in kappa] == ["all", *sorted(CONCEPTS)]
    assert kappa[0]["value"] is not None
    assert "npca/c0/0" in _run("kappa", review)
    out = tmp_path / "reviewed.parquet"
    assert "18 items" in _run("collect", review, "--out", out)
    accepted = pq.read_table(out).to_pandas()["accepted"].sum()
    assert accepted == json.loads(_run("status", review, "--json"))["accepted"] >= len(disagreed)


def test_boards_by_sheet_and_by_single_answers(tmp_path: Path) -> None:
    boards, review, sheet = write_boards(tmp_path / "boards"), tmp_path / "pilot", tmp_path / "ann.csv"
    gold = tmp_path / "gold.csv"
    gold.write_text(f"item_id,npfv,images,heat\n{CONCEPTS[1]},yes,yes,yes\n")
    _run("create", "--boards", boards, "--labelers", "ann,ben", "--out", review, "--gold", gold)
    assert "3 items of ann; fill in npfv, images, heat" in _run("export", review, "--labeler", "ann", "--out", sheet)
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([lines[0], *(line.removesuffix(",,,") + ",y,y,y" for line in lines[1:])]) + "\n")
    assert "3 verdicts recorded, 0 were there already, 0 empty" in _run("import", review, sheet)
    answer = ("answer", review, "--labeler", "ben", "--item", CONCEPTS[1])
    assert "not all questions are answered" in _run(*answer, "--set", "npfv=no")
    assert "core" in _run(*answer, "--set", "npfv=no", "--set", "images=no", "--set", "heat=no")
    warned = run_spurious("review", "status", review)
    assert f"warning: ben failed 1 of 1 gold items, such as {CONCEPTS[1]}." in warned.err
    assert "ann failed" not in warned.err
    assert "3 items: 2 open, 0 agreed, 1 disagreed, 0 adjudicated; 0 accepted." in warned.out
    assert "no verdict" in _run(*answer, "--clear")
    assert Review.open(review).verdicts("ben") == {}
    for concept in CONCEPTS:
        _run(
            "answer",
            review,
            "--labeler",
            "ben",
            "--item",
            concept,
            *["--set", "npfv=yes", "--set", "images=yes", "--set", "heat=yes"],
        )
    _run("collect", review, "--out", tmp_path / "v.jsonl")
    verdicts = ConceptVerdicts.load(tmp_path / "v.jsonl")
    assert [(v.verdict, v.source) for v in verdicts] == [("spurious", "review:pilot")] * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("create", "--labelers", "ann,ben", "--out", "OUT"), "expected --boards, --candidates"),
        (("create", "--boards", "BOARDS", "--labelers", "ann", "--out", "OUT"), "per_item is 2: expected 1 to 1"),
        (("create", "--boards", "BOARDS", "--labelers", "ann,", "--out", "OUT"), "'' is not a labeler's name"),
        (("create", "--boards", "BOARDS", "--labelers", "ann,ben", "--out", "REVIEW"), "already exists"),
        (
            ("create", "--boards", "BOARDS", "--labelers", "a,b", "--out", "OUT", "--form", "x.txt"),
            "expected board, image, label",
        ),
        (
            ("create", "--boards", "BOARDS", "--labelers", "a,b", "--out", "OUT", "--gold", "x.csv"),
            "x.csv cannot be read",
        ),
        (("status", "OUT"), "is not a review"),
        (("answer", "REVIEW", "--labeler", "ann", "--item", CONCEPTS[0]), "expected either --set"),
        (("answer", "REVIEW", "--labeler", "ann", "--item", CONCEPTS[0], "--set", "npfv"), "expected QUESTION=ANSWER"),
        (("answer", "REVIEW", "--labeler", "ann", "--item", "nope", "--set", "npfv=yes"), "no item 'nope'"),
        (("answer", "REVIEW", "--labeler", "eve", "--item", CONCEPTS[0], "--set", "npfv=yes"), "no labeler 'eve'"),
        (
            ("answer", "REVIEW", "--labeler", "ann", "--item", CONCEPTS[0], "--set", "npfv=Yes"),
            "'Yes' is not an answer",
        ),
        (("export", "REVIEW", "--labeler", "ann", "--out", "OUT.txt"), "ends in .csv or .jsonl"),
        (("import", "REVIEW", "OUT.csv"), "cannot be read"),
        (("adjudicate", "REVIEW", "--answers", "OUT.csv"), "--who is missing"),
        (("collect", "REVIEW", "--out", "OUT.parquet"), "nothing to collect"),
        (("script", "REVIEW", "--labeler", "ann", "--truth", "BOARDS"), "expected --check"),
    ],
)
def test_bad_input_ends_in_one_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    boards, review = write_boards(tmp_path / "boards"), tmp_path / "review"
    _run("create", "--boards", boards, "--labelers", "ann,ben", "--out", review)
    places = {"BOARDS": str(boards), "REVIEW": str(review), "OUT": str(tmp_path / "out")}
    named = [
        places.get(a.split(".")[0], a) + a[len(a.split(".")[0]) :] if a.split(".")[0] in places else a
        for a in arguments
    ]
    error = run_spurious("review", *named).the_error()
    assert sentence in error
    assert not list(tmp_path.glob("out*"))
