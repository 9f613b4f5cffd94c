"""A review from its first verdict to its last: who may say what, what it means, and who decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from review_helpers import ACCEPT, REJECT, UNCLEAR, image_items, image_review

from spurious_imagenet.builders.review.forms import load_form
from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.errors import ConfigError, DataError, SpuriousImagenetError, StoreError


def test_answers_grow_change_and_are_taken_back(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r")
    item = review.queue("ann")[0]
    partial = review.record("ann", item, {"cue": "yes"})
    assert (partial.complete, partial.outcome) == (False, None)
    assert review.record("ann", item, ACCEPT).outcome == "accept"
    assert review.record("ann", item, REJECT).outcome == "reject"
    assert review.verdicts("ann")[item].answers == REJECT
    assert review.record("ann", item, None).answers == {}
    assert review.verdicts("ann") == Review.open(review.path).verdicts("ann") == {}
    assert len((review.path / "journal" / "ann.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("first", "second", "third", "state", "outcome", "accepted"),
    [
        (ACCEPT, ACCEPT, None, "agreed", "accept", True),
        (REJECT, REJECT, None, "agreed", "reject", False),
        (UNCLEAR, UNCLEAR, None, "agreed", "unclear", False),
        (ACCEPT, REJECT, None, "disagreed", None, False),
        (ACCEPT, UNCLEAR, None, "disagreed", None, False),
        (ACCEPT, REJECT, ACCEPT, "adjudicated", "accept", True),
        (REJECT, ACCEPT, REJECT, "adjudicated", "reject", False),
        (ACCEPT, {"cue": "yes"}, None, "open", None, False),
        (ACCEPT, None, None, "open", None, False),
    ],
)
def test_what_is_said_together(
    tmp_path: Path,
    first: dict[str, str],
    second: dict[str, str] | None,
    third: dict[str, str] | None,
    state: str,
    outcome: str | None,
    accepted: bool,
) -> None:
    review = image_review(tmp_path / "r")
    item = review.queue("ann")[0]
    review.record("ann", item, first)
    review.record("ben", item, second)
    if third is not None:
        review.adjudicate(item, "cyn", third)
    found = review.consensus()[item]
    assert (found.state, found.outcome, found.accepted) == (state, outcome, accepted)
    assert review.item_consensus(item) == found
    assert review.status().states[found.state] >= 1


def test_only_a_third_person_decides_and_only_where_labelers_differ(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r")
    item, other = review.queue("ann")[:2]
    review.record("ann", item, ACCEPT)
    with pytest.raises(DataError, match="is open: only items on which labelers differ"):
        review.adjudicate(item, "cyn", ACCEPT)
    review.record("ben", item, REJECT)
    with pytest.raises(ConfigError, match=r"ben judged item .* expected a third person"):
        review.adjudicate(item, "ben", ACCEPT)
    with pytest.raises(DataError, match="answers all of"):
        review.adjudicate(item, "cyn", {"cue": "yes"})
    with pytest.raises(ConfigError, match="not a labeler's name"):
        review.adjudicate(item, "../cyn", ACCEPT)
    with pytest.raises(DataError, match="is open"):
        review.adjudicate_many("cyn", [(item, ACCEPT), (other, ACCEPT)])
    assert review.adjudications() == {}
    review.adjudicate(item, "cyn", ACCEPT)
    assert review.consensus()[item].adjudication is not None
    review.record("ben", item, REJECT)
    assert review.consensus()[item].state == "adjudicated"
    review.record("ann", item, REJECT)  # they have come to agree, against the third person
    assert (review.consensus()[item].state, review.consensus()[item].outcome) == ("agreed", "reject")
    review.record("ann", item, ACCEPT)
    review.adjudicate(item, "dan", None)
    assert review.consensus()[item].state == "disagreed"


def test_labelers_judge_their_own_items_only(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", labelers=("ann", "ben", "cyn"))
    foreign = next(i for i, who in review.assignment.items() if "ann" not in who)
    with pytest.raises(DataError, match="is not one of ann's"):
        review.record("ann", foreign, ACCEPT)
    with pytest.raises(ConfigError, match=r"no labeler 'eve'.*ann, ben, cyn"):
        review.record("eve", foreign, ACCEPT)
    with pytest.raises(DataError, match="no item 'nope'"):
        review.record("ann", "nope", ACCEPT)
    own = review.queue("ann")[0]
    with pytest.raises(DataError, match="'maybe' is not an answer"):
        review.record_many("ann", [(own, ACCEPT), (review.queue("ann")[1], {"cue": "maybe"})])
    assert review.verdicts("ann") == {}


def test_gold_items_warn_of_a_labeler_who_fails_them(tmp_path: Path) -> None:
    items = image_items(40)
    gold = [
        ReviewItem(i.item_id, i.kind, i.media, i.class_id, i.class_name, batch=i.batch, gold=ACCEPT if n < 10 else None)
        for n, i in enumerate(items)
    ]
    review = Review.create(tmp_path / "r", "t", load_form("image"), gold, ["ann", "ben"], gold_tolerance=0.2)
    known = [i.item_id for i in gold if i.gold]
    for n, item_id in enumerate(known):
        review.record("ann", item_id, REJECT if n < 2 else ACCEPT)
        review.record("ben", item_id, REJECT if n < 3 else ACCEPT)
    ann, ben = review.gold_report()
    assert (ann.judged, ann.failed, ann.warning) == (10, tuple(known[:2]), None)
    assert ben.warning == f"ben failed 3 of 10 gold items, such as {known[0]}."
    assert review.status().labelers[1].gold == ben
    # Known answers are not at the head or the end of a queue, where they would be known as such.
    places = [review.queue("ann").index(i) for i in known]
    assert max(places) - min(places) > 9


def test_pace_leaves_pauses_out(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r")
    times = ["10:00:00", "10:00:06", "10:00:12", "11:00:00", "11:00:06"]
    for item_id, time in zip(review.queue("ann"), times, strict=False):
        review.record("ann", item_id, ACCEPT, f"2026-01-01T{time}.000+00:00")
    ann, ben = review.status().labelers
    assert ann.per_minute == pytest.approx(10.0)
    assert (ben.per_minute, ann.done, ann.items) == (None, 5, 20)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labelers": ["ann", "ann"]}, "labeler 'ann' is named twice"),
        ({"labelers": ["ann", "Ben"]}, "'Ben' is not a labeler's name"),
        ({"labelers": ["ann", "../x"]}, "not a labeler's name"),
        ({"labelers": ["ann"]}, "per_item is 2: expected 1 to 1"),
        ({"items": []}, "nothing to review"),
        ({"items": [*image_items(1), *image_items(1)]}, "is there twice"),
        ({"items": [ReviewItem("i", "image", "m", "c", "C", gold={"cue": "yes"})]}, "'object' is not answered"),
        ({"items": [ReviewItem("i", "image", "m", "c", "C", gold={"x": "yes"})]}, "'x' is not asked"),
    ],
)
def test_what_makes_no_review_is_refused_and_leaves_nothing(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    options = {"form": load_form("image"), "items": image_items(4), "labelers": ["ann", "ben"]} | change
    with pytest.raises(SpuriousImagenetError, match=sentence):
        Review.create(tmp_path / "r", "t", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_review_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is not a review: review.json is missing"):
        Review.open(tmp_path)
    review = image_review(tmp_path / "r")
    with pytest.raises(StoreError, match="already exists"):
        image_review(tmp_path / "r")
    files = {p.name: p.read_text() for p in review.path.glob("*.json*")}
    spoilt = {
        "review.json": ("{", json.dumps(json.loads(files["review.json"]) | {"schema_version": 9}), "[]", "{}"),
        "items.jsonl": ("{\n", '{"item_id": 1}\n', "[]\n", files["items.jsonl"].replace('"kind"', '"kin"', 1)),
        "assignment.jsonl": ("", "{}\n", files["assignment.jsonl"].replace("ann", "eve", 1)),
    }
    for name, contents in spoilt.items():
        for content in contents:
            (review.path / name).write_text(content)
            with pytest.raises(SpuriousImagenetError, match=name) as caught:
                Review.open(review.path)
            assert "Traceback" not in str(caught.value)
        (review.path / name).write_text(files[name])
    assert len(Review.open(review.path).items) == 20
