"""What every record keeps to: it comes back as it was written, in the same bytes; a broken file is named."""

from __future__ import annotations

import json
import types
from enum import Enum
from importlib import import_module
from inspect import isclass
from pathlib import Path
from pkgutil import walk_packages
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

import spurious_imagenet
from spurious_imagenet import benchmark, builders, data_cards, leaderboard
from spurious_imagenet.errors import StoreError
from spurious_imagenet.records import Record


def every_record() -> dict[str, type[Record]]:
    """Return every class of records that other modules may use."""
    found: dict[str, type[Record]] = {}
    for package in (spurious_imagenet, benchmark, builders, data_cards, leaderboard):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2].startswith("__"):
                continue
            for name, one in vars(import_module(module.name)).items():
                if isclass(one) and issubclass(one, Record) and one is not Record and not name.startswith("_"):
                    found[f"{one.__module__}.{name}".removeprefix("spurious_imagenet.")] = one
    return found


RECORDS = every_record()

PLAIN = {str: "word", int: 1, float: 0.1, bool: True, Path: Path("somewhere"), Any: "word", type(None): None}

#: What fits the patterns that fields of text have.
TEXTS = ("word", "0" * 64, "1.2.3", "2026-01-02", "n01440764", "a/b", "0", "a.tar")

#: Fields whose value hangs together with others, or is checked by more than its type.
FITTING: dict[str, dict[str, Any]] = {
    "LabelNoiseConfig": {"records": ("r.json",)},
    "PublishConfig": {"unreviewed": True},
    "ReviewSource": {"boards": "boards"},
}


def example_of(annotation: Any) -> Any:
    """Return a small value of a type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return value_of(
            arguments[0], [m for one in arguments[1:] for m in (one.metadata if isinstance(one, FieldInfo) else [one])]
        )
    if origin in (Union, types.UnionType):
        return example_of(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin is tuple:
        return tuple(example_of(one) for one in arguments if one is not Ellipsis)
    if origin is list:
        return [example_of(arguments[0])]
    if origin is dict:
        return {example_of(arguments[0]): example_of(arguments[1])}
    if isclass(annotation) and issubclass(annotation, Record):
        return example(annotation)
    if isclass(annotation) and issubclass(annotation, Enum):
        return next(iter(annotation))
    return {str: "word", int: 1, float: 0.1, bool: True, Path: Path("somewhere"), Any: "word", type(None): None}[
        annotation
    ]


def value_of(annotation: Any, constraints: list[Any]) -> Any:
    """Return the first small value of a type that keeps to its constraints."""
    checked = TypeAdapter(Annotated[annotation, *constraints] if constraints else annotation)
    candidates = [example_of(annotation)]
    candidates += [*TEXTS] if annotation is str else [0.5, 1, 2, 8, 64, 512] if annotation in (int, float) else []
    for candidate in candidates:
        try:
            checked.validate_python(candidate)
        except ValidationError:
            continue
        return candidate
    raise AssertionError(f"no example of {annotation} with {constraints}: add one to TEXTS")


def example(record: type[Record]) -> Record:
    """Make a record of which every required field has a value."""
    given = FITTING.get(record.__name__, {})
    needed = {n: f for n, f in record.model_fields.items() if f.is_required() and n not in given}
    return record(**given, **{n: value_of(f.annotation, f.metadata) for n, f in needed.items()})


def test_the_walk_finds_records() -> None:
    assert len(RECORDS) > 90


def refused(record: type[Record], file: Path, content: bytes | None) -> str:
    """Return what is said of a file that is no such record."""
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StoreError) as problem:
        record.read(file, "a record", StoreError)
    said = str(problem.value)
    assert said.startswith(f"{file} is not a record: ")
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize("name", RECORDS)
class TestRecord:
    @pytest.fixture
    def record(self, name: str) -> Record:
        return example(RECORDS[name])

    def test_it_comes_back_as_it_was_written_and_does_not_change(self, record: Record, tmp_path: Path) -> None:
        file = tmp_path / "record.json"
        record.write(file)
        before = file.read_bytes()
        found = type(record).read(file, "a record")
        assert found == record
        found.write(file)
        assert file.read_bytes() == before
        assert found.json_sha256() == record.json_sha256()
        file.write_text(json.dumps(dict(reversed(json.loads(record.to_json()).items()))), "utf-8")
        assert type(record).read(file, "a record").to_json() == record.to_json()
        with pytest.raises(ValidationError, match="frozen"):
            setattr(record, next(iter(type(record).model_fields)), None)

    def test_another_file_is_named_in_one_sentence(self, record: Record, tmp_path: Path) -> None:
        file = tmp_path / "record.json"
        unknown = json.dumps(json.loads(record.to_json()) | {"no_such_field": 1}).encode()
        if record.model_config["extra"] == "ignore":
            file.write_bytes(unknown)
            assert type(record).read(file, "a record") == record
        else:
            assert "no_such_field" in refused(type(record), file, unknown)
        for broken in (b"", b"{", b"[]", b"null", b'{"a": ', b"\xff\xfe", record.to_json().encode()[:-2]):
            refused(type(record), file, broken)
        file.unlink()
        refused(type(record), file, None)
