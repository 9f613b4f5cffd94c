"""Questions are data: the bundled forms say what the papers say, and a form that does not hang together is refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from spurious_imagenet.builders.review.forms import ANSWERS, load_form
from spurious_imagenet.errors import ConfigError, DataError

THIRD = """
name: caption
title: Does the caption fit?
accepting: fits
default: doubtful
questions:
  - {id: right, text: Is it right}
outcomes:
  - {outcome: fits, when: {right: "yes"}}
"""


def test_a_board_is_spurious_only_by_all_three_criteria() -> None:
    form = load_form("board")
    outcomes = {a: form.outcome(dict(zip(form.question_ids, a, strict=True))) for a in product(ANSWERS, repeat=3)}
    assert [a for a, outcome in outcomes.items() if outcome == "spurious"] == [("yes", "yes", "yes")]
    assert outcomes["no", "no", "no"] == "core"
    assert {outcome for a, outcome in outcomes.items() if "unclear" in a[:2] and a[2] == "yes"} == {"unclear"}
    # What the network looks at is the object: never spurious, and core unless the other answers contradict it.
    assert {outcome for a, outcome in outcomes.items() if a[2] == "no"} == {"core", "unclear"}
    assert form.accepting == "spurious"


def test_an_image_is_accepted_only_with_the_cue_and_without_the_object() -> None:
    form = load_form("image")
    outcomes = {(c, o): form.outcome({"cue": c, "object": o}) for c, o in product(ANSWERS, repeat=2)}
    assert [a for a, outcome in outcomes.items() if outcome == "accept"] == [("yes", "no")]
    assert all(outcome == "reject" for (c, o), outcome in outcomes.items() if c == "no" or o == "yes")
    assert outcomes["unclear", "no"] == outcomes["yes", "unclear"] == "unclear"


def test_a_form_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    (tmp_path / "form.yaml").write_text(THIRD)
    form = load_form(tmp_path / "form.yaml")
    assert form.outcome({"right": "yes"}) == "fits"
    assert form.outcome({"right": "no"}) == "doubtful"
    (tmp_path / "bare.yaml").write_text(THIRD.replace('"yes"', "yes"))  # YAML's own yes is true
    assert load_form(tmp_path / "bare.yaml") == form
    (tmp_path / "form.toml").write_text(
        'name = "x"\ntitle = "t"\naccepting = "a"\ndefault = "b"\n[[questions]]\nid = "q"\ntext = "?"\n'
        '[[outcomes]]\noutcome = "a"\nwhen = { q = "no" }\n'
    )
    assert load_form(tmp_path / "form.toml").possible == ("a", "b")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('right: "yes"', 'wrong: "yes"', "names the question 'wrong', which is not asked"),
        ('right: "yes"', "right: maybe", "Input should be 'yes', 'no' or 'unclear'"),
        ("accepting: fits", "accepting: fit", "accepting is 'fit': expected one of"),
        ("{id: right, text: Is it right}", "{id: item_id, text: x}", "name of a column"),
        ("  - {id: right, text: Is it right}", "  - {id: right, text: a}\n  - {id: right, text: b}", "there twice"),
        ("title: Does the caption fit?", "titel: x", "unknown key 'titel' (did you mean 'title'?)"),
        ("  - {id: right, text: Is it right}", "", "questions"),
        ("questions:", "questions: {", "cannot be read"),
        ("name: caption", "name: Has Spaces", "key 'name': String should match"),
    ],
)
def test_bad_forms_are_refused_with_what_is_wrong(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    file = tmp_path / "form.yaml"
    assert old in THIRD
    file.write_text(THIRD.replace(old, new))
    with pytest.raises(ConfigError, match=r"form.yaml") as caught:
        load_form(file)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.toml", "form.json", "boards"])
def test_missing_and_unknown_forms_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_form(tmp_path / name)


def test_answers_that_are_not_offered_are_refused() -> None:
    form = load_form("image")
    with pytest.raises(DataError, match="'i1': question 'colour' is not asked"):
        form.check({"colour": "yes"}, "i1")
    with pytest.raises(DataError, match="'i1': 'maybe' is not an answer to 'cue'"):
        form.check({"cue": "maybe"}, "i1")
    with pytest.raises(DataError, match="'object' is not answered"):
        form.outcome({"cue": "yes"})
