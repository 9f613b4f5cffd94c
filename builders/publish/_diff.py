"""What changed between two published folders of one kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.builders.publish._check import check_dataset
from spurious_imagenet.datasets.manifest import DatasetManifest, RetiredImage
from spurious_imagenet.errors import DataError
from spurious_imagenet.records import Record

#: Kind of dataset -> the config whose rows are compared, and the columns by which a row is known in its split.
_ROWS = {
    "spurious-images": ("spurious", ("class_id", "sha256")),
    "rankings": ("rankings", ("split", "class_id", "sha256")),
    "concept-annotations": ("annotations", ("kind", "class_id", "component", "weights_sha256")),
}
_SHOWN = 10

Key = tuple[str, ...]


class Changed(Record):
    """Something that both have, with its value in each; None where one has none."""

    old: str | int | None
    new: str | int | None


class DatasetDiff(Record):
    """What changed from an old to a new version; empty fields did not."""

    kind: str
    versions: Changed
    rows: Changed
    """Of the config that holds them all."""
    key: tuple[str, ...]
    """Columns by which rows are known."""
    added: tuple[Key, ...] = ()
    removed: tuple[Key, ...] = ()
    """Gone without being retired."""
    retired: tuple[RetiredImage, ...] = ()
    changed: dict[str, int] = {}
    """Column -> rows of both versions whose value differs."""
    new_columns: tuple[str, ...] = ()
    lost_columns: tuple[str, ...] = ()
    concepts: dict[str, Changed] = {}
    """Concept, or class of rankings -> rows, where they differ."""
    counts: dict[str, Changed] = {}
    facts: dict[str, Changed] = {}
    """Such as the labelers' agreement."""
    miners: dict[str, Changed] = {}
    """Model -> role and weights."""
    files: dict[str, Changed] = {}
    """Config and split -> hash of the file."""

    def text(self) -> str:
        """Say it in lines for a terminal."""
        lines = [f"{self.kind} {self.versions.old} → {self.versions.new}: {self.rows.old} → {self.rows.new} rows"]
        lines += _listed("added", [" ".join(k) for k in self.added])
        lines += _listed("removed without a reason", [" ".join(k) for k in self.removed])
        lines += _listed("retired", [f"{r.class_id} {r.sha256}: {r.reason}" for r in self.retired])
        for what, names in (("new columns", self.new_columns), ("lost columns", self.lost_columns)):
            lines += [f"{what}: {', '.join(names)}"] if names else []
        lines += _listed("changed values", [f"{column}: {n} rows" for column, n in self.changed.items()], shown=None)
        groups = {"concepts": self.concepts, "counts": self.counts, "facts": self.facts}
        for what, group in (groups | {"miners": self.miners, "files": self.files}).items():
            lines += _listed(what, [f"{n}: {_said(c.old)} → {_said(c.new)}" for n, c in group.items()], shown=None)
        return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def diff_datasets(old: str | Path, new: str | Path) -> DatasetDiff:
    """Compare two published folders.

    Columns are compared one at a time, without images, so that memory holds one column of each.

    Args:
        old: The earlier version.
        new: The later one.

    Raises:
        DataError: Something is wrong with one of them, or they are of different kinds.
    """
    before, after = _sound(Path(old)), _sound(Path(new))
    if before.kind != after.kind:
        raise DataError(f"{old} holds {before.kind} and {new} {after.kind}: expected two of one kind.")
    config, key = _ROWS[before.kind]
    first, second = _Rows(Path(old), before, config, key), _Rows(Path(new), after, config, key)
    known = {(r.class_id, r.sha256) for r in before.retired}
    retired = tuple(r for r in after.retired if (r.class_id, r.sha256) not in known)
    taken_back = {(r.class_id, r.sha256) for r in retired} if before.kind == "spurious-images" else set()
    gone = first.places.keys() - second.places.keys() - taken_back
    group = "class_id" if before.kind == "rankings" else "concept_id"
    return DatasetDiff(
        kind=before.kind,
        versions=Changed(old=before.version, new=after.version),
        rows=Changed(old=len(first.places), new=len(second.places)),
        key=key,
        added=tuple(sorted(second.places.keys() - first.places.keys())),
        removed=tuple(sorted(gone)),
        retired=retired,
        changed=_changed_values(first, second),
        new_columns=tuple(c for c in second.columns if c not in first.columns),
        lost_columns=tuple(c for c in first.columns if c not in second.columns),
        concepts=_changes(first.counts(group), second.counts(group)),
        counts=_changes(before.counts, after.counts),
        facts=_changes(before.facts, after.facts),
        miners=_changes(_miners(before), _miners(after)),
        files=_changes(_files(before), _files(after)),
    )


def _sound(folder: Path) -> DatasetManifest:
    if problems := check_dataset(folder):
        more = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(f"{folder} cannot be compared: {problems[0]}{more}")
    return DatasetManifest.load(folder)


class _Rows:
    """The rows of a config, read a column at a time; ``places`` maps each row's key to where it stands."""

    def __init__(self, root: Path, manifest: DatasetManifest, config: str, key: Sequence[str]) -> None:
        self._paths = [root / file.path for file in manifest.files if file.config == config]
        schema = pq.read_schema(self._paths[0])
        self.columns = [field.name for field in schema if not _is_picture(field)]
        keys = zip(*([str(v) for v in self.read(column)] for column in key), strict=True)
        self.places: dict[Key, int] = {tuple(values): place for place, values in enumerate(keys)}

    def read(self, column: str) -> list[Any]:
        return [value for path in self._paths for value in pq.read_table(path, columns=[column])[column].to_pylist()]

    def counts(self, column: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for value in self.read(column):
            found[str(value)] = found.get(str(value), 0) + 1
        return found


def _is_picture(field: pa.Field) -> bool:
    return bool(pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)


def _changed_values(first: _Rows, second: _Rows) -> dict[str, int]:
    both = [(place, second.places[key]) for key, place in first.places.items() if key in second.places]
    found = {}
    for column in (c for c in first.columns if c in second.columns):
        old, new = first.read(column), second.read(column)
        if count := sum(old[a] != new[b] for a, b in both):
            found[column] = count
    return found


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Changed]:
    names = sorted({*old, *new})
    return {n: Changed(old=old.get(n), new=new.get(n)) for n in names if old.get(n) != new.get(n)}


def _miners(manifest: DatasetManifest) -> dict[str, str]:
    return {m.model: f"{m.role}, weights {(m.weights_sha256 or 'not known')[:16]}" for m in manifest.miners}


def _files(manifest: DatasetManifest) -> dict[str, str]:
    return {f"{file.config}/{file.split}": file.sha256 for file in manifest.files}


def _said(value: object) -> str:
    return "none" if value is None else " ".join(str(value).split())


def _listed(what: str, items: Sequence[str], shown: int | None = _SHOWN) -> list[str]:
    if not items:
        return []
    kept = list(items[:shown])
    more = [f"  and {len(items) - len(kept)} more"] if len(items) > len(kept) else []
    return [f"{what}: {len(items)}", *(f"  {item}" for item in kept), *more]
