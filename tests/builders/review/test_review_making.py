"""Reviews made of candidates, boards or anything else, and what is collected from them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import jpeg
from pydantic import ValidationError
from review_helpers import ACCEPT, REJECT
from review_sources import CONCEPTS, POOL, pool_images, write_boards, write_candidates

from spurious_imagenet.builders.review.collect import collect, read_reviewed
from spurious_imagenet.builders.review.making import ReviewSource, make_review
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.concepts import ConceptVerdicts
from spurious_imagenet.errors import ConfigError, DataError, SpuriousImagenetError, StoreError

SPURIOUS = {"npfv": "yes", "images": "yes", "heat": "yes"}
CORE = {"npfv": "no", "images": "no", "heat": "no"}


def _make(tmp_path: Path, **source: object) -> Review:
    options = ReviewSource(**{k: Path(v) if isinstance(v, str) else v for k, v in source.items()})  # type: ignore[arg-type]
    return make_review(options, tmp_path / "review", name="pilot", labelers=["ann", "ben"])


def test_kept_candidates_become_items_with_their_own_bytes(tmp_path: Path) -> None:
    candidates, boards = write_candidates(tmp_path / "candidates"), write_boards(tmp_path / "boards")
    review = _make(tmp_path, candidates=candidates, boards=boards)
    assert review.form.name == "image"
    assert len(review.items) == len(CONCEPTS) * len(POOL)
    for item in review.items.values():
        data = review.media_path(item.media).read_bytes()
        assert hashlib.sha256(data).hexdigest() == item.info["sha256"]
        assert data == pool_images()[int(item.info["key"][1:])]
        assert item.board is not None
        assert Path(item.board).is_file()
        assert all(Path(r).is_file() for r in item.references)
        assert item.references
        assert (item.batch, item.gold) == (item.concept_id, None)
    assert len(list((review.path / "media").rglob("*.jpg"))) == len(POOL)  # each image once


def test_some_concepts_and_their_best_images_only(tmp_path: Path) -> None:
    candidates = write_candidates(tmp_path / "candidates")
    review = _make(tmp_path, candidates=candidates, concepts=("npca/c1/0",), per_concept=2)
    assert [(i.concept_id, i.info["rank"]) for i in review.items.values()] == [("npca/c1/0", 1), ("npca/c1/0", 2)]
    assert {i.board for i in review.items.values()} == {None}


def test_boards_become_items(tmp_path: Path) -> None:
    review = _make(tmp_path, boards=write_boards(tmp_path / "boards"))
    assert review.form.name == "board"
    assert list(review.items) == list(CONCEPTS)
    assert all(review.media_path(i.media).is_file() for i in review.items.values())


def test_a_third_kind_of_item_needs_no_code(tmp_path: Path) -> None:
    form = tmp_path / "form.toml"
    form.write_text(
        'name = "blur"\ntitle = "Is it sharp?"\naccepting = "sharp"\ndefault = "blurred"\n[[questions]]\nid = "sharp"\n'
        'text = "Is it sharp?"\n[[outcomes]]\noutcome = "sharp"\nwhen = { sharp = "yes" }\n'
    )
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    lines = [
        {"item_id": f"i{n}", "kind": "photo", "media": "a.jpg", "class_id": "c", "class_name": "C"} for n in range(3)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ConfigError, match="no bundled form fits items of the kinds"):
        _make(tmp_path, items=tmp_path / "items.jsonl")
    review = make_review(
        ReviewSource(items=tmp_path / "items.jsonl", form=str(form)),
        tmp_path / "review",
        name="sharpness",
        labelers=["ann", "ben"],
    )
    for name in review.labelers:
        review.record_many(name, [(i, {"sharp": "yes"}) for i in review.queue(name)])
    assert review.media_path(review.items["i0"].media) == (tmp_path / "a.jpg").resolve()
    done = collect(review, tmp_path / "out.parquet")
    assert (done.rows, done.accepted) == (3, 3)
    rows, info = read_reviewed(tmp_path / "out.parquet")
    assert list(rows["consensus"]) == ["sharp"] * 3
    assert (info.accepting, info.per_item) == ("sharp", 2)


def test_known_answers_come_from_a_sheet(tmp_path: Path) -> None:
    boards = write_boards(tmp_path / "boards")
    gold = tmp_path / "gold.csv"
    gold.write_text(f"item_id,npfv,images,heat\n{CONCEPTS[1]},n,n,n\n")
    review = _make(tmp_path, boards=boards, gold=gold)
    assert {i.item_id: i.gold for i in review.items.values()} == {
        c: CORE if c == CONCEPTS[1] else None for c in CONCEPTS
    }
    for content, sentence in (
        (f"item_id,npfv,images,heat\n{CONCEPTS[1]},n,,n\n", "row 2: known answers must answer all"),
        ("item_id,npfv\nnope,n\n", "row 2: there is no item 'nope'"),
    ):
        gold.write_text(content)
        with pytest.raises(DataError, match=sentence):
            _make(tmp_path / "other", boards=boards, gold=gold)


def test_collected_images_join_candidates(tmp_path: Path) -> None:
    review = _make(tmp_path, candidates=write_candidates(tmp_path / "candidates"))
    items = list(review.items)
    review.record_many("ann", [(i, ACCEPT) for i in items[:6]])
    review.record_many("ben", [(i, ACCEPT if n < 3 else REJECT) for n, i in enumerate(items[:5])])
    review.adjudicate(items[3], "cyn", ACCEPT)
    done = collect(review, tmp_path / "reviewed.parquet")
    assert (done.rows, done.accepted, done.open, done.disagreed) == (18, 4, 13, 1)
    rows, info = read_reviewed(tmp_path / "reviewed.parquet")
    assert (info.review, info.accepting, info.per_item, info.labelers) == ("pilot", "accept", 2, ("ann", "ben"))
    candidates = pq.read_table(tmp_path / "candidates" / "candidates.parquet").to_pandas()
    joined = rows.merge(candidates[candidates["status"] == "kept"], on=["concept_id", "sha256", "key"])
    assert len(joined) == 18
    by_id = {row["item_id"]: row for row in pq.read_table(tmp_path / "reviewed.parquet").to_pylist()}
    assert [by_id[i]["state"] for i in items[:6]] == [*["agreed"] * 3, "adjudicated", "disagreed", "open"]
    assert [by_id[i]["consensus"] for i in items[:6]] == [*["accept"] * 4, None, None]
    assert [by_id[i]["accepted"] for i in items[:6]] == [*[True] * 4, False, False]
    verdicts = by_id[items[3]]["verdicts"]
    assert [(v["labeler"], v["outcome"]) for v in verdicts] == [("ann", "accept"), ("ben", "reject")]
    assert verdicts[1]["answers"] == [{"question": q, "answer": a} for q, a in REJECT.items()]
    assert verdicts[0]["time"] == review.verdicts("ann")[items[3]].time
    assert by_id[items[3]]["adjudication"]["labeler"] == "cyn"
    with pytest.raises(ConfigError, match=r"written as \.parquet"):
        collect(review, tmp_path / "reviewed.csv")


def test_collected_boards_are_verdicts_on_concepts(tmp_path: Path) -> None:
    review = _make(tmp_path, boards=write_boards(tmp_path / "boards"))
    with pytest.raises(DataError, match="nothing to collect"):
        collect(review, tmp_path / "v.parquet")
    first, second, third = CONCEPTS
    for name in review.labelers:
        review.record(name, first, SPURIOUS)
        review.record(name, second, SPURIOUS if name == "ann" else CORE)
    review.record("ann", third, CORE)
    done = collect(review, tmp_path / "v.parquet")
    assert (done.rows, done.accepted, done.open, done.disagreed) == (2, 1, 1, 1)
    one, two = ConceptVerdicts.load(tmp_path / "v.parquet")
    assert (one.concept_id, one.kind, one.class_index, one.class_id, one.component) == (first, "npca", 0, "c0", 0)
    assert (one.verdict, one.source, one.name) == ("spurious", "review:pilot", "green things")
    assert [(v.labeler, v.answer) for v in one.votes] == [("ann", "spurious"), ("ben", "spurious")]
    assert one.votes[0].reason == "npfv: yes, images: yes, heat: yes"
    assert two.verdict == "unclear"  # they differ, and nobody has decided
    review.adjudicate(second, "cyn", CORE)
    collect(review, tmp_path / "v.csv", comment="Judged by two people.")
    assert (tmp_path / "v.csv").read_text().startswith("# Judged by two people.\n")
    two = ConceptVerdicts.load(tmp_path / "v.csv").rows[1]
    assert two.verdict == "core"
    assert [(v.labeler, v.answer) for v in two.votes] == [("ann", "spurious"), ("ben", "core"), ("cyn", "core")]
    assert [v.role for v in two.votes] == ["labeler", "labeler", "adjudicator"]
    assert two.votes[2].reason == "adjudication; " + str(two.votes[1].reason)


def test_what_cannot_be_reviewed_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    candidates, boards = write_candidates(tmp_path / "candidates"), write_boards(tmp_path / "boards")
    for source in (
        {},
        {"items": "x", "boards": "y"},
        {"boards": "y", "per_concept": 3},
        {"items": "x", "concepts": ("a",)},
    ):
        with pytest.raises(ValidationError, match="expected --"):
            ReviewSource(**source)  # type: ignore[arg-type]
    for options, sentence in (
        ({"candidates": tmp_path / "nothing"}, "receipt.json is missing"),
        ({"candidates": candidates, "concepts": ("npca/x",)}, "concept 'npca/x' has no kept candidates"),
        ({"boards": tmp_path / "nothing"}, "boards.parquet cannot be read"),
        ({"boards": boards, "concepts": ("npca/x",)}, "concept 'npca/x' has no board"),
        ({"items": tmp_path / "nothing.jsonl"}, "nothing.jsonl cannot be read"),
    ):
        with pytest.raises(SpuriousImagenetError, match=sentence):
            _make(tmp_path, **options)
    (boards / "cards" / "00000" / "npca-0000.png").unlink()
    with pytest.raises(DataError, match=r"npca-0000.png of concept npca/c0/0 is missing"):
        _make(tmp_path, boards=boards)
    shard = tmp_path / "pool-1.tar"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"image k1 of .* has changed since it was mined"):
        _make(tmp_path, candidates=candidates)
    with (candidates / "candidates.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(StoreError, match="has changed since it was mined"):
        _make(tmp_path, candidates=candidates)
    assert not [p for p in tmp_path.iterdir() if "review" in p.name]


def test_what_is_no_reviewed_file_is_refused(tmp_path: Path) -> None:
    candidates = write_candidates(tmp_path / "candidates")
    with pytest.raises(DataError, match="holds no reviewed candidates"):
        read_reviewed(candidates / "candidates.parquet")
    with pytest.raises(StoreError, match="cannot be read"):
        read_reviewed(candidates / "receipt.json")
    with pytest.raises(StoreError, match="cannot be read"):
        read_reviewed(tmp_path / "missing.parquet")


def test_candidates_of_a_project_that_was_moved_find_their_images(tmp_path: Path) -> None:
    old = tmp_path / "old"
    candidates = write_candidates(old / "candidates")
    there = make_review(ReviewSource(candidates=candidates), tmp_path / "before", name="r", labelers=("a", "b"))
    old.rename(tmp_path / "new")
    moved = ReviewSource(candidates=tmp_path / "new" / "candidates")
    here = make_review(moved, tmp_path / "after", name="r", labelers=("a", "b"))
    assert list(here.items) == list(there.items)
    apart = tmp_path / "apart"
    (tmp_path / "new" / "candidates").rename(apart)
    with pytest.raises(DataError, match=r"pool-0\.tar is no longer there, .* say with --shards where"):
        make_review(ReviewSource(candidates=apart), tmp_path / "no", name="r", labelers=("a", "b"))
    told = ReviewSource(candidates=apart, shards=(str(tmp_path / "new"),))
    assert len(make_review(told, tmp_path / "told", name="r", labelers=("a", "b")).items) == len(there.items)
