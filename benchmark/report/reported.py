"""Numbers that the papers report: shown in tables of their own, never beside what was measured here."""

from __future__ import annotations

from importlib.resources import files

import yaml
from pydantic import Field

from spurious_imagenet.records import Record

__all__ = ["Finding", "ReportedModel", "ReportedPaper", "reported_papers"]

_Share = Field(default=None, ge=0, le=1)
_Percent = Field(default=None, ge=0, le=100)


class ReportedModel(Record):
    """One row of a paper's table of models."""

    model: str
    data: str
    """What it was trained on."""
    accuracy: float | None = _Percent
    """ImageNet top-1, %."""
    spurious_ap: float | None = _Share
    """The paper's "mAUC", which is average precision."""
    spufix_accuracy: float | None = _Percent
    spufix_spurious_ap: float | None = _Share


class Finding(Record):
    """One number of a paper's text."""

    value: str
    of: str
    what: str
    source: str
    """Section, table or figure."""


class ReportedPaper(Record):
    """What one paper reports."""

    title: str
    citation: str
    models_source: str = ""
    models_note: str = ""
    models: tuple[ReportedModel, ...] = ()
    findings: tuple[Finding, ...] = ()


def reported_papers() -> tuple[ReportedPaper, ...]:
    """Read the papers that ship with the package, by title."""
    folder = files(__package__) / "reported"
    texts = [f.read_text(encoding="utf-8") for f in folder.iterdir() if f.name.endswith(".yaml")]
    return tuple(sorted((ReportedPaper.model_validate(yaml.safe_load(t)) for t in texts), key=lambda p: p.title))
