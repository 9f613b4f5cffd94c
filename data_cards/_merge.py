"""Changing one key of a card's front matter and nothing else."""

from __future__ import annotations

import re
from typing import Any

import yaml

from spurious_imagenet.errors import DataError, one_line

#: What the Hub takes for front matter.
_BLOCK = re.compile(
    r"\A(\ufeff?\s*---(?:\r\n|\r|\n))(.*?)((?:\r\n|\r|\n)?^---[ \t]*(?:\r\n|\n|\Z))", re.DOTALL | re.MULTILINE
)


def read_front_matter(text: str) -> dict[str, Any]:
    """Return the front matter of a card; empty where there is none.

    Raises:
        DataError: It is not a YAML mapping.
    """
    block = _BLOCK.match(text)
    return _mapping(block[2]) if block else {}


def _mapping(front: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(front)
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"the card's front matter is not YAML: {one_line(error)}.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise DataError(f"the card's front matter is a {type(found).__name__}: expected keys with values.")
    return found


def with_key(text: str, key: str, value: Any) -> str:
    """Set a top-level key of a card's front matter; every other character stays as it was.

    Args:
        text: The card; without front matter it gets one.
        key: Such as ``model-index``.
        value: Plain lists, mappings, text and numbers.

    Raises:
        DataError: The front matter is not a YAML mapping, or one in braces.
    """
    block = _BLOCK.match(text)
    newline = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    entry = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=120).rstrip("\n")
    entry = entry.replace("\n", newline)
    if block is None:
        return f"---{newline}{entry}{newline}---{newline}{newline if text else ''}{text}"
    front = block[2]
    _mapping(front)
    start, end = _span(front, key)
    if start is None:
        separator = newline if front and not front.endswith(("\n", "\r")) else ""
        changed = f"{front}{separator}{entry}"
    else:
        changed = front[:start] + entry + front[end:]
    tail = block[3] if block[3].startswith(("\r", "\n")) else newline + block[3]
    return block[1] + changed + tail + text[block.end() :]


def _span(front: str, key: str) -> tuple[int, int] | tuple[None, None]:
    """Find where a top-level key begins and its value ends."""
    root = yaml.compose(front, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None, None
    if root.flow_style:
        raise DataError("the card's front matter is written in braces: expected one key per line.")
    for name, value in root.value:
        if name.value == key:
            end = max(_end(value), name.end_mark.index + 1)
            return name.start_mark.index, len(front[:end].rstrip("\r\n"))
    return None, None


def _end(node: yaml.Node) -> int:
    """Return where a value ends: a block's own end mark lies after the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return max(_end(last[0]), _end(last[1])) if isinstance(last, tuple) else _end(last)
    return int(node.end_mark.index)
