"""Numbers that the papers report: shown in tables of their own, never beside what was measured here."""

from __future__ import annotations

from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Finding", "ReportedModel", "ReportedPaper", "reported_papers"]

_Share = Field(default=None, ge=0, le=1)
_Percent = Field(default=None, ge=0, le=100)


class ReportedModel(BaseModel):
    """One row of a paper's table of models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    data: str
    """What it was trained on."""
    accuracy: float | None = _Percent
    """ImageNet top-1, %."""
    spurious_ap: float | None = _Share
    """The paper's "mAUC", which is average precision."""
    spufix_accuracy: float | None = _Percent
    spufix_spurious_ap: float | None = _Share


class Finding(BaseModel):
    """One number of a paper's text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str
    of: str
    what: str
    source: str
    """Section, table or figure."""


class ReportedPaper(BaseModel):
    """What one paper reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
