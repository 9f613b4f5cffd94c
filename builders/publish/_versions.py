"""What a version carries on from the one before it: the changelog and the errata."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Value
from pydantic import ValidationError

from spurious_imagenet.builders.publish._config import VersionConfig
from spurious_imagenet.datasets.manifest import Change, DatasetManifest, RetiredImage
from spurious_imagenet.errors import ConfigError, DataError, one_line
from spurious_imagenet.tables import Columns, open_table

#: Errata: images that were published once and are retracted.
RETIRED = Features(dict.fromkeys(("class_id", "concept_id", "sha256", "reason", "since"), Value("string")))

_COLUMNS = ("class_id", "sha256", "reason")
_MAX_REASON = 2000
_FIRST = "First version."
_KEYS = ["class_id", "concept_id", "sha256"]


def read_previous(config: VersionConfig, kind: str) -> DatasetManifest | None:
    """Read the manifest of the version before this one.

    Raises:
        DataError: It is of another kind, or has no manifest.
        ConfigError: It is not an earlier version.
    """
    if config.previous is None:
        return None
    old = DatasetManifest.load(config.previous)
    if old.kind != kind:
        raise DataError(f"{config.previous} holds {old.kind}: expected {kind}, of which this is a new version.")
    if _number(config.version) <= _number(old.version):
        raise ConfigError(f"version {config.version} is not after {old.version}, that of {config.previous}.")
    return old


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def changelog(config: VersionConfig, old: DatasetManifest | None, counted: str) -> tuple[Change, ...]:
    """Return the changelog, newest first; ``counted`` is said of a version after which nobody says anything."""
    text = config.change or (_FIRST if old is None else counted)
    return Change(version=config.version, text=text), *(() if old is None else old.changes)


@dataclass(frozen=True)
class Errata:
    """What the version before this one held, and what is no longer to be published.

    Attributes:
        retired: Everything that any version has retracted, oldest first.
        published: (class id, hash) of each image of the version before -> its concept.
    """

    retired: tuple[RetiredImage, ...] = ()
    published: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def read(cls, old: DatasetManifest | None, folder: str | None, retire: str | None, version: str) -> Errata:
        """Read what was published and retired before, and what is to be retired now.

        Raises:
            DataError: The list of images to retire has an invalid row, or names images that were not published.
        """
        if old is None or folder is None:
            return cls()
        files = [Path(folder) / f.path for f in old.files if f.config == "spurious"]
        try:
            rows = pa.concat_tables([pq.read_table(f, columns=_KEYS) for f in files]).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{folder} has images that cannot be read: {error}") from error
        published = {(r["class_id"], r["sha256"]): r["concept_id"] for r in rows}
        known = {(r.class_id, r.sha256) for r in old.retired}
        new = () if retire is None else _read_list(Path(retire), published, known, version)
        return cls((*old.retired, *new), published)

    @property
    def keys(self) -> frozenset[tuple[str, str]]:
        """(class id, hash) of every image that must not come back."""
        return frozenset((r.class_id, r.sha256) for r in self.retired)

    def demand_reasons(self, images: Collection[tuple[str, str]]) -> None:
        """Refuse a version from which images are gone and nobody says why.

        Raises:
            ConfigError: An image of the version before is neither in this one nor retired.
        """
        gone = sorted(set(self.published) - set(images) - self.keys)
        if gone:
            class_id, sha256 = gone[0]
            raise ConfigError(
                f"{len(gone)} images of the previous version are gone, such as {sha256} of class {class_id!r}: "
                "expected each of them in this version, or in --retire with the reason."
            )


def _read_list(
    path: Path, published: dict[tuple[str, str], str], known: set[tuple[str, str]], version: str
) -> tuple[RetiredImage, ...]:
    found: dict[tuple[str, str], RetiredImage] = {}
    for where, row in _rows(path):
        key = (row["class_id"].strip(), row["sha256"].strip().lower())
        if key in known:
            raise DataError(f"{where}: image {key[1]} of class {key[0]!r} is retired already.")
        if key in found:
            raise DataError(f"{where}: image {key[1]} of class {key[0]!r} is given twice.")
        if key not in published:
            raise DataError(f"{where}: the previous version has no image {key[1]!r} of class {key[0]!r}.")
        reason = " ".join(row["reason"].split())
        if not 0 < len(reason) <= _MAX_REASON:
            raise DataError(f"{where}: a reason has 1 to {_MAX_REASON} characters, got {len(reason)}.")
        try:
            found[key] = RetiredImage(
                class_id=key[0], concept_id=published[key], sha256=key[1], reason=reason, since=version
            )
        except ValidationError as error:
            raise DataError(f"{where}: {one_line(error)}.") from None
    if not found:
        raise DataError(f"{path} names no image to retire.")
    return tuple(found[key] for key in sorted(found))


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    with open_table(path, "list of images to retire", Columns(_COLUMNS, required=_COLUMNS, others="pass")) as table:
        return [(row.where, row.cells) for row in table]


def retired_rows(retired: Collection[RetiredImage], version: str) -> list[dict[str, str | None]]:
    """Return the rows of the config ``retired``.

    ``datasets`` opens no split without rows: where nothing is retired, one row without an image says so.
    """
    if not retired:
        return [dict.fromkeys(RETIRED) | {"reason": "No image has been retired.", "since": version}]
    return [r.model_dump() for r in retired]
