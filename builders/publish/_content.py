"""Checking what the rows of a published dataset say, a batch at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from pydantic import ValidationError

from spurious_imagenet.builders.publish._licences import demand_licence
from spurious_imagenet.builders.publish._versions import retired_rows
from spurious_imagenet.concepts import ConceptVerdict
from spurious_imagenet.datasets.manifest import DatasetManifest, images_sha256
from spurious_imagenet.datasets.rankings import RankingsInfo
from spurious_imagenet.errors import ConfigError, one_line
from spurious_imagenet.images import DecodeLimits, UndecodableImageError, decode_image

#: The ranked splits, which are configs of their own.
ENDS = ("low", "middle", "high")

_Rows = list[dict[str, Any]]
_KEYS = ("class_id", "concept_id", "sha256")
_LIMITS = DecodeLimits(min_side=1)


class ContentCheck(Protocol):
    """Looks at every row once, and says at the end what no single row shows."""

    def take(self, config: str, split: str, rows: _Rows) -> Iterator[str]:
        """Say what is wrong with some rows."""

    def problems(self) -> Iterator[str]:
        """Say what is wrong with all of them."""


def content_check(root: Path, manifest: DatasetManifest) -> ContentCheck:
    """Return the check for a kind of dataset."""
    if manifest.kind == "spurious-images":
        return _Images(manifest)
    return _Rankings(root) if manifest.kind == "rankings" else _Annotations()


def _picture_problem(picture: dict[str, Any] | None) -> str | None:
    if picture is None or picture["bytes"] is None:
        return "has no bytes"
    try:
        decode_image(picture["bytes"], _LIMITS)
    except UndecodableImageError as error:
        return f"cannot be decoded: {error}"
    return None


class _Images:
    def __init__(self, manifest: DatasetManifest) -> None:
        self._manifest = manifest
        self._keys: list[tuple[str, str, str]] = []
        self._concepts: dict[str, int] = {}
        self._retired: _Rows = []

    def take(self, config: str, split: str, rows: _Rows) -> Iterator[str]:
        if config == "spurious":
            for row in rows:
                self._keys.append((row["class_id"], row["concept_id"], row["sha256"]))
                yield from self._image_problems(row)
        elif config == "concepts":
            for row in rows:
                self._concepts[row["concept_id"]] = row["images"]
                problem = _picture_problem(row["board"]) if row["board"] is not None else None
                if problem:
                    yield f"the board of concept {row['concept_id']!r} {problem}."
        else:
            self._retired += rows

    @staticmethod
    def _image_problems(row: dict[str, Any]) -> Iterator[str]:
        if problem := _picture_problem(row["image"]):
            yield f"image {row['key']!r} {problem}."
        elif (found := hashlib.sha256(row["image"]["bytes"]).hexdigest()) != row["sha256"]:
            yield f"image {row['key']!r} has SHA-256 {found[:12]}: expected {str(row['sha256'])[:12]}."

    def problems(self) -> Iterator[str]:
        manifest, rows = self._manifest, pd.DataFrame(self._keys, columns=list(_KEYS))
        images = Counter((class_id, sha256) for class_id, _, sha256 in self._keys)
        for (class_id, sha256), count in images.items():
            if count > 1:
                yield f"image {sha256} stands {count} times with class {class_id!r}: expected once."
        for retired in manifest.retired:
            if (retired.class_id, retired.sha256) in images:
                yield f"image {retired.sha256} of class {retired.class_id!r}, retired in {retired.since}, is back."
        if images_sha256(rows, _KEYS) != manifest.dataset_sha256:
            yield "dataset_sha256 of the manifest is not that of the images."
        if self._retired != retired_rows(manifest.retired, manifest.version):
            yield "config 'retired' does not hold the images that the manifest says are retired."
        if self._concepts != (counted := dict(Counter(concept for _, concept, _ in self._keys))):
            odd = next(c for c in {**self._concepts, **counted} if self._concepts.get(c) != counted.get(c))
            said = f"config 'concepts' says {self._concepts.get(odd)} images of concept {odd!r}"
            yield f"{said}: there are {counted.get(odd)}."
        named = {"images": len(rows), "concepts": len(counted), "classes": rows["class_id"].nunique()}
        for what, number in named.items():
            if manifest.counts.get(what) != number:
                yield f"the manifest counts {manifest.counts.get(what)} {what}: there are {number}."


class _Rankings:
    def __init__(self, root: Path) -> None:
        self._info = root / "rankings.json"
        self._sizes: dict[tuple[str, str], int] = {}
        self._seen: Counter[tuple[str, str]] = Counter()
        self._ends: Counter[tuple[str, str]] = Counter()

    def take(self, config: str, split: str, rows: _Rows) -> Iterator[str]:
        for row in rows:
            where = f"image {row['name']!r} of class {row['class_id']!r}"
            if row["split"] != split:
                yield f"{where} is of split {row['split']!r}."
            if config in ENDS:
                self._ends[config, split] -= 1
                if row["ranked_split"] != config:
                    yield f"{where} is in ranked split {row['ranked_split']!r}."
                continue
            key = (split, row["class_id"])
            self._seen[key] += 1
            self._ends[row["ranked_split"], split] += row["ranked_split"] is not None
            if row["rank"] != self._seen[key] or row["of"] != self._sizes.setdefault(key, row["of"]):
                expected = f"{self._seen[key]} of {self._sizes[key]}"
                yield f"{where} has rank {row['rank']} of {row['of']}: expected {expected}."
            if "image" in row and (problem := _picture_problem(row["image"])):
                yield f"{where} {problem}."

    def problems(self) -> Iterator[str]:
        for (split, class_id), count in self._seen.items():
            if count != (size := self._sizes[split, class_id]):
                yield f"class {class_id!r} of split {split!r} has {count} ranked images: expected {size}."
        for (end, split), missing in self._ends.items():
            if missing:
                yield f"config {end!r} lacks {missing} images of split {split!r}."
        try:
            RankingsInfo.model_validate_json(self._info.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            yield f"rankings.json cannot be read: {one_line(error)}"


class _Annotations:
    def __init__(self) -> None:
        self._found: list[ConceptVerdict] = []

    def take(self, config: str, split: str, rows: _Rows) -> Iterator[str]:
        for row in rows:
            try:
                content = {k: v for k, v in row.items() if k in ConceptVerdict.model_fields}
                self._found.append(ConceptVerdict.model_validate(content | {"votes": tuple(row["votes"] or ())}))
            except ValidationError as error:
                yield f"concept {row.get('concept_id')!r} has no verdict: {one_line(error)}."

    def problems(self) -> Iterator[str]:
        try:
            demand_licence(self._found, "the dataset")
        except ConfigError as error:
            yield str(error)
