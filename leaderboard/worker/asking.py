"""Asking for a model to be run: what is typed, at the command line or in the browser, becomes a request."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from pydantic import ValidationError

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.leaderboard.submission.problems import shown
from spurious_imagenet.leaderboard.worker.queue import ModelRequest

__all__ = ["model_request"]

_NAMES = {"spec": "model", "model": "name"}
"""Field of a request -> what it is called where it is typed, if otherwise."""
_SHORT = "one line of 1 to 200 characters"
_EXPECTED = {
    "spec": "the model's public spec, of at most 500 characters",
    "protocol": "paper or standard",
    "authors": "1 to 50 names, each one line of 1 to 200 characters",
    "link": "an address that begins with https://, of at most 500 characters",
    "notes": "at most 2000 characters of text",
}


def model_request(fields: dict[str, Any], allowed: Collection[str] = ()) -> ModelRequest:
    """Make a request of what was typed.

    Args:
        fields: Those of :class:`ModelRequest`.
        allowed: See :func:`~spurious_imagenet.leaderboard.worker._specs.check_spec`.

    Raises:
        ConfigError: A field is refused, or the spec is not one that workers run; all that is wrong is said.
    """
    try:
        wanted = ModelRequest(**fields)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentences(error))) from None
    from spurious_imagenet.leaderboard.worker._specs import check_spec  # it imports torch

    check_spec(wanted.spec, allowed)
    return wanted


def _sentences(error: ValidationError) -> Iterator[str]:
    told = set()
    for wrong in error.errors(include_url=False):
        field = str(wrong["loc"][0])
        if field in told:
            continue
        told.add(field)
        name = _NAMES.get(field, field).replace("_", " ")
        refusal = wrong.get("ctx", {}).get("error")
        got = wrong["input"]
        empty = not got or (isinstance(got, str) and not got.strip())
        if refusal is not None:
            yield f"{name}: {refusal}"
        else:
            yield f"{name}: got {'nothing' if empty else shown(got)}, expected {_EXPECTED.get(field, _SHORT)}."
