"""Scripted labelers err as often as stated, where they are told, and know what the truth says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from review_helpers import ACCEPT, image_review
from review_sources import CONCEPTS, CUE, POOL, write_boards, write_candidates, write_check, write_world

from spurious_imagenet.builders.review.making import ReviewSource, make_review
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.planted.scripted import (
    adjudicate_by_script,
    answer_by_script,
    planted_answers,
    read_truth,
    scripted_answers,
)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3, 1.0])
def test_answers_are_wrong_as_often_as_stated(rate: float) -> None:
    truth = {f"i{n}": {"cue": "yes" if n % 2 else "no", "object": "no"} for n in range(5000)}
    found = scripted_answers(truth, "ann", rate, seed=1)
    wrong = sum(found[i][q] != truth[i][q] for i in truth for q in truth[i])
    assert abs(wrong - rate * 10_000) <= 4 * math.sqrt(10_000 * rate * (1 - rate))
    assert found == scripted_answers(truth, "ann", rate, seed=1)
    few = scripted_answers({"i7": truth["i7"]}, "ann", rate, seed=1)
    assert few["i7"] == found["i7"]  # what one item is answered does not depend on the others


def test_labelers_and_seeds_err_independently() -> None:
    truth = {f"i{n}": ACCEPT for n in range(4000)}
    runs = [scripted_answers(truth, name, 0.1, seed) for name, seed in (("ann", 0), ("ben", 0), ("ann", 1))]
    errors = [{i for i in truth if run[i]["cue"] == "no"} for run in runs]
    for a, b in ((0, 1), (0, 2)):
        assert 15 <= len(errors[a] & errors[b]) <= 70  # 40 expected of 4,000 at 0.1 x 0.1


def test_a_planted_world_says_what_images_show(tmp_path: Path) -> None:
    source = ReviewSource(candidates=write_candidates(tmp_path / "candidates"))
    review = make_review(source, tmp_path / "r", name="r", labelers=["ann", "ben"])
    truth = planted_answers(review, write_world(tmp_path / "world"), write_check(tmp_path / "check"))
    for item in review.items.values():
        class_id, cues = POOL[int(item.info["key"][1:])]
        cue = CUE.get(str(item.concept_id))
        assert truth[item.item_id] == {
            "cue": "yes" if cue in cues else "no",
            "object": "yes" if class_id == item.class_id else "no",
        }
    for name in review.labelers:
        assert answer_by_script(review, name, truth) == len(review.items)
    accepted = {
        (c.item_id.rsplit("/", 1)[0], review.items[c.item_id].info["key"])
        for c in review.consensus().values()
        if c.accepted
    }
    assert accepted == {("npca/c0/0", "k0"), ("npca/c0/0", "k3"), ("npca/c1/0", "k1")}


def test_a_planted_world_says_which_boards_show_a_cue(tmp_path: Path) -> None:
    source = ReviewSource(boards=write_boards(tmp_path / "boards"))
    review = make_review(source, tmp_path / "r", name="r", labelers=["ann", "ben"])
    truth = planted_answers(review, write_world(tmp_path / "world"), write_check(tmp_path / "check") / "check.json")
    assert {i: review.form.outcome(a) for i, a in truth.items()} == {
        concept: "spurious" if concept in CUE else "core" for concept in CONCEPTS
    }


def test_truth_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=3)
    world, check = write_world(tmp_path / "world"), write_check(tmp_path / "check")
    with pytest.raises(DataError, match="is not of the planted world's pool"):
        planted_answers(review, world, check)
    with pytest.raises(DataError, match="cannot be read as the check of a planted world"):
        planted_answers(review, world, tmp_path)
    with pytest.raises(DataError, match="is not a readable planted world"):
        planted_answers(review, tmp_path, check)
    sheet = tmp_path / "truth.csv"
    first = review.queue("ann")[0]
    sheet.write_text(f"item_id,cue,object\n{first},y,n\n")
    truth = read_truth(review, sheet)
    assert truth == {first: ACCEPT}
    with pytest.raises(DataError, match="the truth does not answer"):
        answer_by_script(review, "ann", truth)
    with pytest.raises(ConfigError, match=r"error rate is 1\.5"):
        answer_by_script(review, "ann", truth, error_rate=1.5)
    assert review.verdicts("ann") == {}


def test_a_third_person_decides_what_the_labelers_differ_on(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=60)
    truth = dict.fromkeys(review.items, ACCEPT)
    answer_by_script(review, "ann", truth, error_rate=0.2)
    answer_by_script(review, "ben", truth, error_rate=0.2)
    before = [c.state for c in review.consensus().values()]
    decided = adjudicate_by_script(review, "eve", truth)
    after = review.consensus().values()
    assert decided == before.count("disagreed") > 5
    assert [c.state for c in after].count("adjudicated") == decided
    assert all(c.accepted for c in after if c.state == "adjudicated")
    assert adjudicate_by_script(review, "eve", truth) == 0


def test_a_third_person_needs_the_truth_too(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=20)
    truth = dict.fromkeys(review.items, ACCEPT)
    answer_by_script(review, "ann", truth)
    answer_by_script(review, "ben", truth, error_rate=1.0)
    with pytest.raises(DataError, match="the truth does not answer"):
        adjudicate_by_script(review, "eve", {})
    with pytest.raises(ConfigError, match="ann judged item"):
        adjudicate_by_script(review, "ann", truth)
