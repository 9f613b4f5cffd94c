"""κ and α agree with their definitions, and say so in words where they are undefined."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import agreement as naive
from review_helpers import ACCEPT, REJECT, UNCLEAR, image_review

from spurious_imagenet.builders.review.agreement import cohen_kappa, krippendorff_alpha
from spurious_imagenet.errors import UndefinedMetricError

OUTCOME = st.sampled_from(["accept", "reject", "unclear"])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(OUTCOME, OUTCOME), min_size=1, max_size=30))
def test_kappa_is_what_it_is_defined_to_be(pairs: list[tuple[str, str]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    if len({*first, *second}) == 1:
        with pytest.raises(UndefinedMetricError, match="one outcome only"):
            cohen_kappa(first, second)
        return
    assert cohen_kappa(first, second) == pytest.approx(naive.cohen_kappa(first, second), abs=1e-12)
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa(second, first), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(OUTCOME, min_size=0, max_size=4), min_size=1, max_size=15))
def test_alpha_is_what_it_is_defined_to_be(units: list[list[str]]) -> None:
    paired = [u for u in units if len(u) > 1]
    assume(len({v for u in paired for v in u}) != 1)
    if not paired:
        with pytest.raises(UndefinedMetricError, match="no item has two"):
            krippendorff_alpha(units)
        return
    assert krippendorff_alpha(units) == pytest.approx(naive.krippendorff_alpha(units), abs=1e-9)


def test_undefined_agreement_is_said_in_words(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=10)
    (overall,) = review.kappa()
    assert (overall.items, overall.value) == (0, None)
    assert overall.undefined == "undefined: no item has two complete verdicts"
    for name in review.labelers:
        review.record_many(name, [(i, ACCEPT) for i in review.queue(name)])
    for one in review.kappa():
        assert one.value is None
        assert "one outcome only" in (one.undefined or "")
        assert "'accept'" in (one.undefined or "")
    with pytest.raises(UndefinedMetricError, match="one outcome only"):
        krippendorff_alpha([["a", "a"], ["a"]])


def test_kappa_overall_and_of_each_concept(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=10)
    said: dict[str, dict[str, str]] = {}
    for number, item_id in enumerate(review.items):
        answers = {"ann": [ACCEPT, REJECT][number % 2], "ben": [ACCEPT, REJECT, UNCLEAR][number % 3]}
        for name, given_answers in answers.items():
            said.setdefault(name, {})[item_id] = str(review.record(name, item_id, given_answers).outcome)
    overall, *concepts = review.kappa()
    assert [c.scope for c in concepts] == ["npca/c0/0", "npca/c1/0"]
    for one in (overall, *concepts):
        ids = [i for i in review.items if one.scope in ("all", review.items[i].concept_id)]
        first, second = [said["ann"][i] for i in ids], [said["ben"][i] for i in ids]
        assert one.value == pytest.approx(naive.cohen_kappa(first, second))
        assert (one.items, one.agreed) == (len(ids), sum(a == b for a, b in zip(first, second, strict=True)))


def test_of_more_than_two_labelers_alpha_and_each_pair(tmp_path: Path) -> None:
    review = image_review(tmp_path / "r", count=60, labelers=("ann", "ben", "cyn"))
    rng = random.Random(1)
    for name in review.labelers:
        review.record_many(name, [(i, rng.choice([ACCEPT, REJECT])) for i in review.queue(name)])
    review.record("ann", review.queue("ann")[0], {"cue": "yes"})  # partial: the item no longer counts
    found = review.kappa()
    units = [[str(v.outcome) for v in c.verdicts] for c in review.consensus().values() if len(c.verdicts) == 2]
    assert len(units) == found[0].items == 59
    assert found[0].measure == "alpha"
    assert found[0].value == pytest.approx(naive.krippendorff_alpha(units))
    pairs = found[-3:]
    assert [p.scope for p in pairs] == ["ann and ben", "ann and cyn", "ben and cyn"]
    assert sum(p.items for p in pairs) == 59
    for pair in pairs:
        a, b = pair.scope.split(" and ")
        both = [i for i, who in review.assignment.items() if who == (a, b)]
        of_a, of_b = review.verdicts(a), review.verdicts(b)
        both = [i for i in both if of_a[i].complete and of_b[i].complete]
        expected = naive.cohen_kappa([str(of_a[i].outcome) for i in both], [str(of_b[i].outcome) for i in both])
        assert pair.value == pytest.approx(expected)
