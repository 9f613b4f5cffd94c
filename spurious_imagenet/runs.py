"""A folder that a long run fills unit by unit: a rerun of the same identity goes on, one of another is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import canonical_json, is_unused, remove_leftovers, write_json

__all__ = ["RunFolder"]

_IDENTITY = "config.json"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run; ``config.json`` in it says everything that decides the outcome.

    Each unit is a file or folder that appears whole or not at all, so that one that is there is done.

    Attributes:
        path: The folder.
        unit: Where in it a unit is, by the unit's number.
    """

    path: Path
    unit: str = "{:05d}"

    def start(
        self,
        identity: dict[str, Any],
        *,
        holds: str,
        refusal: str,
        made: Sequence[str] = (_IDENTITY,),
        folders: Sequence[str] = (),
    ) -> None:
        """Write what makes the folder, or compare with what made it; remove what a killed run left.

        Args:
            identity: Everything that decides the outcome, in JSON types.
            holds: What such a folder holds, for a folder that holds something else.
            refusal: What is said of a folder of another identity, after its path.
            made: Patterns of files that another identity would spoil: where there are none, the folder takes it.
            folders: Folders in it that units appear in; made where they are missing.

        Raises:
            StoreError: The folder is of another identity, or holds something else.
        """
        file = self.path / _IDENTITY
        if not file.is_file():
            if not is_unused(self.path):
                raise StoreError(f"{self.path} is not empty and holds no {holds}: expected a new directory.")
            write_json(file, identity)
        elif file.read_text(encoding="utf-8") != canonical_json(identity):
            if any(True for pattern in made for _ in self.path.glob(pattern)):
                raise StoreError(f"{self.path} {refusal}")
            write_json(file, identity)
        for folder in (self.path, *(self.path / name for name in folders)):
            folder.mkdir(exist_ok=True)
            remove_leftovers(folder)

    def place(self, number: int) -> Path:
        """Return where a unit is, or will be."""
        return self.path / self.unit.format(number)

    def missing(self, numbers: Iterable[int]) -> list[int]:
        """Return the units that are not done, in the order given."""
        return [number for number in numbers if not self.place(number).exists()]
