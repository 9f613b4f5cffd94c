"""Text that people wrote: decoded or refused by its line, never guessed; lists, JSON lines, YAML and TOML of it."""

from __future__ import annotations

import codecs
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import yaml
from pydantic import ValidationError

from spurious_imagenet.errors import DataError, SpuriousImagenetError, one_line

__all__ = [
    "json_rows",
    "meant",
    "open_text",
    "read_json",
    "read_list",
    "read_toml",
    "read_yaml",
    "schema_problem",
    "unknown_key",
]

_Error = type[SpuriousImagenetError]
_MAX_LINE = 4 << 20
#: First bytes of files that are no text, whatever they are called.
_NO_TEXT = {
    b"PK\x03\x04": "a spreadsheet (.xlsx, .ods) or a zip",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls)",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "a parquet file",
}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@contextmanager
def open_text(path: str | Path, what: str, error: _Error = DataError) -> Iterator[TextIO]:
    """Open a text file for reading, line ends as they are; whatever is read in the block may find that it is no text.

    UTF-8 is read with or without its mark, UTF-16 with it. Other encodings cannot be told apart, so they are refused.

    Args:
        path: The file; a pipe will do.
        what: What it is to the user, such as ``metadata``; the sentence begins with it.
        error: What is raised.

    Raises:
        SpuriousImagenetError: Of the type ``error``: the file cannot be read, or is not text in such an encoding.
    """
    where = f"{what} {path}"
    try:
        with Path(path).open("rb") as raw, TextIOWrapper(raw, _encoding(raw, where, error), newline="") as file:
            yield file
    except UnicodeDecodeError as problem:
        raise error(f"{where} cannot be read: {_undecodable(Path(path), problem)}.") from None
    except OSError as problem:
        raise error(f"{where} cannot be read: {problem.strerror or problem}.") from problem


def _encoding(raw: BufferedReader, where: str, error: _Error) -> str:
    head = raw.peek(4096)[:4096]
    for start, kind in _NO_TEXT.items():
        if head.startswith(start):
            raise error(f"{where} cannot be read: it is {kind}; expected text (save a spreadsheet as CSV UTF-8).")
    marked = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
    if marked is None and b"\0" in head:
        raise error(f"{where} cannot be read: it is UTF-16 without a mark, or not text; save it as UTF-8.")
    return marked or "utf-8"


def _undecodable(path: Path, problem: UnicodeDecodeError) -> str:
    """Say in which line the first byte stands that is not UTF-8, and what a Western Windows would take it for."""
    if problem.encoding.startswith("utf-16"):
        return "it begins as UTF-16 but is cut or damaged; save it as UTF-8"
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as found:
                byte = line[found.start : found.start + 1]
                letter = byte.decode("cp1252", "replace")
                meaning = "" if letter == "\ufffd" else f" ({letter!r} in Windows-1252)"
                return f"line {number} has the byte 0x{byte[0]:02X}{meaning}, so it is not UTF-8; save it as UTF-8"
    return "it is not UTF-8; save it as UTF-8"


def _text(path: str | Path, what: str, error: _Error) -> str:
    with open_text(path, what, error) as file:
        return file.read()


def read_list(path: str | Path, what: str, error: _Error = DataError) -> list[tuple[int, str]]:
    """Read a list with one entry a line, without the blanks around it; empty lines are no entries.

    Lines end where an editor ends them: a name may hold U+2028 or a form feed.

    Returns:
        Line number from 1, and the entry.

    Raises:
        SpuriousImagenetError: Of the type ``error``: the file cannot be read.
    """
    lines = re.split(r"\r\n|\r|\n", _text(path, what, error))
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)[:60]!r} is given twice")
    return content


def read_json(path: str | Path, what: str, error: _Error = DataError) -> Any:
    """Read a JSON file in which no object has a key twice.

    Raises:
        SpuriousImagenetError: Of the type ``error``: the file cannot be read, or is not such JSON.
    """
    text = _text(path, what, error)
    try:
        return json.loads(text, object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError) as problem:
        raise error(f"{what} {path} cannot be read as JSON: {problem}.") from None


def json_rows(path: str | Path, what: str, error: _Error = DataError) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read JSON lines, one object a line; empty lines are passed over.

    Yields:
        Line number from 1, and the object.

    Raises:
        SpuriousImagenetError: Of the type ``error``: a line is not an object, is too long, or has a key twice.
    """
    with open_text(path, what, error) as file:
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), start=1):
            if not line.strip():
                continue
            where = f"{what} {path}, row {number}"
            if len(line) == _MAX_LINE:
                raise error(f"{where} is no JSON of at most {_MAX_LINE >> 20} MiB: expected one object a line.")
            try:
                content = json.loads(line, object_pairs_hook=_unrepeated)
            except (ValueError, RecursionError) as problem:
                said = "it is nested too deeply" if isinstance(problem, RecursionError) else problem
                raise error(f"{where} is no JSON of one object a line: {said}.") from None
            if not isinstance(content, dict):
                raise error(f"{where} is no JSON object: got {type(content).__name__}, expected one object a line.")
            yield number, content


class _TextLoader(yaml.SafeLoader):
    """Leaves ``no``, ``007``, ``1e3`` and dates the text that they are: what a value is, its schema says."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value[:60]!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_TextLoader.yaml_implicit_resolvers = {}
_TextLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_TextLoader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<\Z"), ["<"])


def read_yaml(path: str | Path, what: str, error: _Error = DataError) -> Any:
    """Read YAML whose values are text, lists, mappings or nothing; a schema turns text into numbers where it wants any.

    Raises:
        SpuriousImagenetError: Of the type ``error``: the file cannot be read, is not YAML, or gives a key twice.
    """
    text = _text(path, what, error)
    try:
        return yaml.load(text, _TextLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as problem:
        line = f"line {problem.problem_mark.line + 1}: " if problem.problem_mark else ""
        raise error(f"{what} {path} cannot be read as YAML: {line}{problem.problem}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise error(f"{what} {path} cannot be read as YAML: {one_line(problem)}.") from None


def read_toml(path: str | Path, what: str, error: _Error = DataError) -> dict[str, Any]:
    """Read TOML.

    Raises:
        SpuriousImagenetError: Of the type ``error``: the file cannot be read, or is not TOML.
    """
    text = _text(path, what, error).replace("\r\n", "\n")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as problem:
        raise error(f"{what} {path} cannot be read as TOML: {problem}.") from None


def meant(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of which another looks like a slip of the pen; None where there is none."""
    folded = {k.casefold(): k for k in known}
    close = get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.75)
    return folded[close[0]] if close else None


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that a key is not one of those that there are."""
    names = list(known)
    close = meant(key, names)
    return f"unknown key {key[:60]!r}{f' (did you mean {close!r}?)' if close else ''}: expected {', '.join(names)}."


def schema_problem(problem: ValidationError, known: Iterable[str]) -> str:
    """Say in a few words what of a person's content does not fit; a mistyped key comes first, as it explains others.

    Args:
        problem: What pydantic found.
        known: The keys that there are at the top.
    """
    first = min(problem.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return unknown_key(key, known) if len(first["loc"]) == 1 else f"unknown key {key!r}."
    message = first["msg"].removeprefix("Value error, ")
    got = repr(first["input"])
    return f"{f'key {key!r}: ' if key else ''}{message} (got {got if len(got) <= 60 else got[:57] + '...'})."
