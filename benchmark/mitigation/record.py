"""What a record says of the mitigation of its model."""

from __future__ import annotations

from typing import Literal

from spurious_imagenet.records import Record

__all__ = ["Mitigation"]


class Mitigation(Record):
    """What was done to the model's logits before they were measured."""

    kind: Literal["spufix", "head"]
    file: str
    sha256: str
    """Hash of the file's bytes."""

    @property
    def words(self) -> str:
        """What it is called in tables and figures."""
        return {"spufix": "SpuFix", "head": "tuned head"}[self.kind]
