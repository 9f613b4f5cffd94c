"""Review forms: the questions that a labeler answers on an item, and what the answers mean, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.records import Record
from spurious_imagenet.texts import read_toml, read_yaml, schema_problem

__all__ = ["ANSWERS", "BUNDLED", "KEYS", "Answer", "OutcomeRule", "Question", "ReviewForm", "load_form"]

Answer = Literal["yes", "no", "unclear"]
ANSWERS: tuple[Answer, ...] = ("yes", "no", "unclear")
#: The key that gives each answer.
KEYS: dict[str, Answer] = {"y": "yes", "n": "no", "u": "unclear"}
#: Forms that come with the package.
BUNDLED = ("board", "image", "label")

# A form may say true, or TOML's true, for yes.
_TRUTH = {True: "yes", False: "no", "true": "yes", "false": "no"}
_Expected = Annotated[Answer, BeforeValidator(lambda value: _TRUTH.get(value, value))]
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
#: Question ids become columns of sheets, beside these.
_RESERVED = frozenset(
    {"item_id", "labeler", "concept_id", "class_id", "class_name", "media", "board", "references", "time"}
)


class Question(Record):
    """One question, answered yes, no or unclear."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    text: Annotated[str, Field(min_length=1)]
    help: str = ""
    """When to answer what."""


class OutcomeRule(Record):
    """An outcome and the answers that give it."""

    outcome: _Name
    when: Annotated[dict[str, _Expected], Field(min_length=1)]
    """Question → the answer it must have; questions that are not named may have any."""


class ReviewForm(Record):
    """What is asked of an item, and which outcome follows from the answers."""

    name: _Name
    title: Annotated[str, Field(min_length=1)]
    questions: Annotated[tuple[Question, ...], Field(min_length=1)]
    outcomes: Annotated[tuple[OutcomeRule, ...], Field(min_length=1)]
    """The first rule that fits the answers decides."""
    default: _Name
    """The outcome where no rule fits."""
    accepting: _Name
    """The outcome that all labelers of an item must reach for it to be accepted."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        ids = [question.id for question in self.questions]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"question {twice[0]!r} is there twice")
        if taken := sorted(_RESERVED.intersection(ids)):
            raise ValueError(f"question id {taken[0]!r} is the name of a column of the sheets: choose another")
        for rule in self.outcomes:
            if unknown := sorted(set(rule.when) - set(ids)):
                raise ValueError(f"the rule for {rule.outcome!r} names the question {unknown[0]!r}, which is not asked")
        if self.accepting not in self.possible:
            raise ValueError(f"accepting is {self.accepting!r}: expected one of {list(self.possible)}")
        return self

    @cached_property
    def question_ids(self) -> tuple[str, ...]:
        """The questions' ids, in the order in which they are asked."""
        return tuple(question.id for question in self.questions)

    @cached_property
    def possible(self) -> tuple[str, ...]:
        """Every outcome that the form can give."""
        return tuple(dict.fromkeys([*(rule.outcome for rule in self.outcomes), self.default]))

    def check(self, answers: Mapping[str, str], item_id: str) -> None:
        """Refuse answers to questions that are not asked, and answers that are not offered.

        Raises:
            DataError: There is such an answer.
        """
        for question, answer in answers.items():
            if question not in self.question_ids:
                raise DataError(
                    f"item {item_id!r}: question {question!r} is not asked, expected one of {list(self.question_ids)}."
                )
            if answer not in ANSWERS:
                raise DataError(
                    f"item {item_id!r}: {answer!r} is no answer to {question!r}, expected yes, no or unclear."
                )

    def is_complete(self, answers: Mapping[str, str]) -> bool:
        """Whether every question is answered."""
        return all(question in answers for question in self.question_ids)

    def outcome(self, answers: Mapping[str, str]) -> str:
        """Return what complete answers mean.

        Raises:
            DataError: A question is not answered.
        """
        for question in self.question_ids:
            if question not in answers:
                raise DataError(f"form {self.name!r} has no outcome yet: question {question!r} is not answered.")
        for rule in self.outcomes:
            if all(answers[question] == answer for question, answer in rule.when.items()):
                return rule.outcome
        return self.default


def load_form(name_or_path: str | Path) -> ReviewForm:
    """Read a form: a bundled one by its name, or a TOML or YAML file.

    Raises:
        ConfigError: There is none, or it does not hang together.
    """
    if str(name_or_path) in BUNDLED:
        resource = files("spurious_imagenet.builders.review").joinpath("forms", f"{name_or_path}.toml")
        return ReviewForm.model_validate(tomllib.loads(resource.read_text(encoding="utf-8")))
    path = Path(name_or_path)
    if path.suffix not in {".toml", ".yaml", ".yml"}:
        raise ConfigError(f"form {path}: expected {', '.join(BUNDLED)}, or a file in .toml or .yaml.")
    content = (read_toml if path.suffix == ".toml" else read_yaml)(path, "form", ConfigError)
    try:
        return ReviewForm.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"form {path}: {schema_problem(error, ReviewForm.model_fields)}") from None
