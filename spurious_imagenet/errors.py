"""Errors that say what was got, what was expected, and in which item."""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConfigError",
    "DataError",
    "ModelError",
    "SpuriousImagenetError",
    "StoreError",
    "UndefinedMetricError",
    "one_line",
]


class SpuriousImagenetError(Exception):
    """Base of every error that the project raises on purpose; its text is one sentence for the user."""


class ConfigError(SpuriousImagenetError):
    """An option or configuration value cannot be used."""


class DataError(SpuriousImagenetError):
    """Input data (a shard, a folder, a dataset, a table) is not what it must be."""


class ModelError(SpuriousImagenetError):
    """A model cannot be loaded, or does not fit the labels or the task."""


class StoreError(SpuriousImagenetError):
    """A feature store or another output of an earlier stage is missing, torn or of another run."""


class UndefinedMetricError(SpuriousImagenetError):
    """A metric has no value for this input; it is never replaced by a number."""


def one_line(error: object, longest: int = 200) -> str:
    """Shorten what a library said to one line, to stand in a sentence of ours.

    Args:
        error: The error. Of one that lists the fields of a record that are wrong, the first field is named.
        longest: Most characters.
    """
    problems = getattr(error, "errors", None) if type(error).__name__ == "ValidationError" else None
    said = _first_field(problems(include_url=False)) if callable(problems) else str(error)
    return " ".join(said.split())[:longest]


def _first_field(problems: list[dict[str, Any]]) -> str:
    first, got = problems[0], repr(problems[0]["input"])
    where = ".".join(str(part) for part in first["loc"])
    got = got if len(got) <= 60 else f"{got[:57]}..."
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"{f'{where}: ' if where else ''}{first['msg']} (got {got}){more}"
