"""How pages are made of templates: text is escaped wherever it is shown, and nothing but the board's own files runs."""

from __future__ import annotations

import hashlib
import math
import re
import string
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from spurious_imagenet.benchmark.report.style import DARK, LIGHT
from spurious_imagenet.models.spec import short_name

__all__ = ["ASSETS", "POLICY", "asset", "render", "slug"]

#: Scripts, style and pictures are the board's own files. Nothing is fetched, framed or sent; there is no inline code.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; connect-src 'none'"
)
ASSETS = {
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(("table.js", "index.js", "scatter.js", "compare.js"), "text/javascript"),
}
_SAFE = re.compile(r"[A-Za-z0-9_-]{1,80}")


def render(template: str, **values: Any) -> bytes:
    """Render a template of this package."""
    return _environment().get_template(f"{template}.html.j2").render(policy=POLICY, **values).encode()


@cache
def asset(name: str) -> bytes:
    """Return one of the files that all pages share; see :data:`ASSETS`."""
    if name != "style.css":
        return _file(name).encode()
    report = (files("spurious_imagenet.benchmark.report") / "templates/report.css").read_text(encoding="utf-8")
    colors = {
        f"{name}_colors": " ".join(f"--{role}: {color};" for role, color in palette.items())
        for name, palette in (("light", LIGHT), ("dark", DARK))
    }
    return (string.Template(report).substitute(colors) + _file("board.css")).encode()


def slug(name: str) -> str:
    """Return the file name of a class or concept: itself, or with a hash where it is not a file name.

    Names that differ in case only have different slugs, as some disks do not tell them apart.
    """
    if _SAFE.fullmatch(name) and name == name.lower():
        return name
    safe = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:40]
    return f"{safe or 'name'}--{hashlib.sha256(name.encode()).hexdigest()[:12]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_file), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "fixed": _fixed,
        "ends": _ends,
        "signed": _signed,
        "millions": _millions,
        "short": short_name,
        "place": lambda value: f"{min(100.0, max(0.0, value)):.2f}",
    }
    return environment


def _file(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _fixed(value: float | None, digits: int = 3, factor: float = 1.0) -> str:
    if value is None or math.isnan(value):
        return "–"
    text = f"{factor * value:.{digits}f}"
    return text[1:] if not text.strip("-0.") and text.startswith("-") else text.replace("-", "−")


def _signed(value: float | None, digits: int = 3, factor: float = 1.0) -> str:
    text = _fixed(value, digits, factor)
    return text if value is None or factor * value <= 0 or not text.strip("0.") else f"+{text}"


def _ends(interval: Any, digits: int = 3, factor: float = 1.0) -> str:
    return (
        "" if interval is None else f"{_fixed(interval.low, digits, factor)} to {_fixed(interval.high, digits, factor)}"
    )


def _millions(parameters: int | None) -> str | None:
    return None if parameters is None else f"{parameters / 1e6:.1f} M"
