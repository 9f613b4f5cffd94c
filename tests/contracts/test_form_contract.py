"""What every form keeps to: its questions and rules fit together, and every outcome can be reached."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from spurious_imagenet import builders
from spurious_imagenet.builders.review.forms import ANSWERS, BUNDLED, ReviewForm, load_form
from spurious_imagenet.errors import ConfigError, DataError

FILES = sorted(Path(next(iter(builders.__path__))).glob("review/forms/*.toml"))


def test_every_file_is_a_form() -> None:
    assert sorted(BUNDLED) == [file.stem for file in FILES]


@pytest.mark.parametrize("name", BUNDLED)
class TestForm:
    @pytest.fixture
    def form(self, name: str) -> ReviewForm:
        return load_form(name)

    def test_it_is_the_same_by_name_and_as_a_file(self, form: ReviewForm, name: str) -> None:
        (file,) = (file for file in FILES if file.stem == name)
        assert load_form(file) == form
        assert form.name == name

    def test_its_questions_are_questions_with_help(self, form: ReviewForm) -> None:
        for question in form.questions:
            assert question.text.endswith("?")
            assert "Yes:" in question.help

    def test_every_answer_has_an_outcome_and_every_outcome_an_answer(self, form: ReviewForm) -> None:
        sheets = [
            dict(zip(form.question_ids, some, strict=True)) for some in product(ANSWERS, repeat=len(form.questions))
        ]
        assert {form.outcome(answers) for answers in sheets} == set(form.possible)
        assert all(form.is_complete(answers) for answers in sheets)
        assert form.outcome(dict.fromkeys(form.question_ids, "unclear")) == form.default

    def test_every_rule_decides_somewhere(self, form: ReviewForm) -> None:
        for rule in form.outcomes:
            answers = dict.fromkeys(form.question_ids, "unclear") | rule.when
            assert form.outcome(answers) == rule.outcome

    def test_what_is_not_asked_is_refused(self, form: ReviewForm) -> None:
        first = form.question_ids[0]
        for answers, said in (({"no_such": "yes"}, "no_such"), ({first: "perhaps"}, "perhaps")):
            with pytest.raises(DataError, match=said):
                form.check(answers, "an-item")
        with pytest.raises(DataError, match=repr(form.question_ids[-1])):
            form.outcome(dict.fromkeys(form.question_ids[:-1], "yes"))

    def test_a_damaged_file_is_one_sentence(self, name: str, tmp_path: Path) -> None:
        text = next(file for file in FILES if file.stem == name).read_text("utf-8")
        file = tmp_path / "form.toml"
        for broken in (text[: len(text) // 2], text.replace('default = "unclear"', ""), text + "\nmore = 1", "[["):
            file.write_text(broken, "utf-8")
            with pytest.raises(ConfigError) as refused:
                load_form(file)
            assert str(file) in str(refused.value)
            assert len(str(refused.value).splitlines()) == 1
