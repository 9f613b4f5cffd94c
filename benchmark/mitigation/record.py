"""What a record says of the mitigation of its model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Mitigation"]


class Mitigation(BaseModel):
    """What was done to the model's logits before they were measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["spufix", "head"]
    file: str
    sha256: str
    """Hash of the file's bytes."""

    @property
    def words(self) -> str:
        """What it is called in tables and figures."""
        return {"spufix": "SpuFix", "head": "tuned head"}[self.kind]
