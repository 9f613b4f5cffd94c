"""Records: what runs and people write down, as files of JSON that are checked when they are read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from spurious_imagenet.errors import DataError, SpuriousImagenetError, one_line
from spurious_imagenet.io import atomic_path, canonical_json

__all__ = ["Record"]


class Record(BaseModel):
    """Values that do not change once they are made, of fields that are all known.

    A subclass that says less than its source, or allows more, says so in its class line: ``class Link(Record,
    extra="ignore")``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """Return the record as JSON: equal records give equal bytes."""
        return canonical_json(self.model_dump(mode="json"))

    def json_sha256(self) -> str:
        """Return the SHA-256 (hexadecimal) of :meth:`to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def write(self, path: str | Path) -> None:
        """Write the record as a file, whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path, what: str, error: type[SpuriousImagenetError] = DataError) -> Self:
        """Read a file that :meth:`write` wrote, or an earlier version of it.

        Args:
            path: The file.
            what: What it should be, with its article: ``"an evaluation record"``.
            error: What to raise.

        Raises:
            SpuriousImagenetError: There is no such file, or it is not such a record; of type ``error``.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise error(f"{path} is not {what}: {one_line(problem)}") from problem
