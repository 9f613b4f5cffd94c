"""The pages: a card per board, a page per class, one table of all. They load nothing but pictures beside them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from spurious_imagenet.builders.boards._words import short_number


def _template(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10_000 else f"{value:.2e}"


class Pages:
    """Renders pages; whatever comes from a bank or a store is text, never markup."""

    def __init__(self) -> None:
        style, script = _template("pages.css"), _template("pages.js")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        # Only this very script may run, and nothing may be fetched but pictures.
        policy = f"default-src 'none'; img-src file: 'self'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        self._environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            loader=FunctionLoader(_template),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"number": _number, "short": short_number}
        # Our own files, and no user's text in them.
        self._environment.globals |= {"style": Markup(style), "script": Markup(script), "policy": policy}  # noqa: S704

    def card(self, content: dict[str, Any], place: int) -> str:
        """Render the page of one board.

        Args:
            content: What a class's ``class.json`` holds.
            place: Which of its boards.
        """
        return self._environment.get_template("card.html.j2").render(content=content, place=place)

    def class_page(self, content: dict[str, Any], before: str | None, after: str | None) -> str:
        """Render the page of one class.

        Args:
            content: What its ``class.json`` holds.
            before: Name of the class's predecessor, such as ``00041``; None for the first.
            after: Name of its successor.
        """
        return self._environment.get_template("class.html.j2").render(content=content, before=before, after=after)

    def index(self, classes: Sequence[dict[str, Any]], info: dict[str, Any]) -> str:
        """Render the table of all classes.

        Args:
            classes: What the classes' ``class.json`` hold.
            info: What made the boards: ``model``, ``bank``, ``features``.
        """
        return self._environment.get_template("index.html.j2").render(classes=classes, info=info)
