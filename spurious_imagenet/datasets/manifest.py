"""What a published dataset says of itself: what it holds, what made it, what was taken back, what changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from spurious_imagenet.errors import DataError
from spurious_imagenet.records import Record

__all__ = [
    "MANIFEST",
    "Change",
    "DataFile",
    "DatasetManifest",
    "SelectionModel",
    "RetiredImage",
    "VersionName",
    "hub_repository",
    "images_sha256",
    "manifest_of",
]

#: The manifest's name in the dataset's folder.
MANIFEST = "dataset.json"

VersionName = Annotated[str, Field(pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SelectionModel(Record):
    """A model that took part in choosing the images; entries that are its kin must be marked."""

    model: str
    """Its spec as published, without local folders; the name under which it stands in the column ``models``."""
    role: Literal["scorer", "voter"]
    """The scorer's α ranked the images, and it voted too; voters only said which class they see."""
    weights_sha256: Sha256 | None = None
    architecture: str | None = None
    """timm's name of the architecture, such as ``resnet50``; None where it is not known."""


class RetiredImage(Record):
    """An image that was published once and is no longer part of the dataset."""

    class_id: str
    concept_id: str
    sha256: Sha256
    reason: str
    since: VersionName
    """The first version without it."""


class Change(Record):
    """One entry of the changelog."""

    version: VersionName
    text: str


class DataFile(Record):
    """A parquet file of the dataset."""

    config: str
    split: str
    path: str
    """In the dataset's folder, with forward slashes."""
    rows: int
    bytes: int
    sha256: Sha256


class DatasetManifest(Record):
    """The file ``dataset.json`` of a published dataset; it has no time and no place: equal inputs, equal bytes."""

    schema_version: Literal[1] = 1
    kind: Literal["spurious-images", "rankings", "concept-annotations"]
    name: str
    version: VersionName
    code_version: str
    files: tuple[DataFile, ...]
    dataset_sha256: Sha256 | None = None
    """Of spurious images: hash over class, concept and bytes of every image, as in evaluation records."""
    counts: dict[str, int] = {}
    """What was counted on the way, such as images, concepts, classes, candidates, near-duplicates."""
    facts: dict[str, str] = {}
    """What else the card says, such as the agreement of the labelers."""
    min_agree: int | None = None
    """How many of the miners had to take an image for its class; each image may have more votes."""
    miners: tuple[SelectionModel, ...] = ()
    made_from: dict[str, str] = {}
    """What it was made from -> hash."""
    retired: tuple[RetiredImage, ...] = ()
    """Everything that any version has taken back, oldest first."""
    changes: tuple[Change, ...] = ()
    """Newest first."""

    @classmethod
    def load(cls, folder: str | Path) -> DatasetManifest:
        """Read the manifest of a dataset's folder.

        Raises:
            DataError: It is missing or not of this schema.
        """
        return cls.read(Path(folder) / MANIFEST, "a dataset's manifest")


def images_sha256(images: pd.DataFrame, columns: Sequence[str]) -> str:
    """Hash the given text columns of every image, whatever the order of the rows.

    Spurious images are known by class_id, concept_id and sha256, validation images by class_id and sha256.
    """
    lines = sorted("\t".join(row) + "\n" for row in images[list(columns)].itertuples(index=False))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hub_repository(dataset: str | Path) -> tuple[str, str | None] | None:
    """Return the repository and the revision of a dataset on the Hub, ``org/name`` or ``org/name@v1.2.0``.

    Returns:
        None where a folder is meant, whether or not it is there.
    """
    name = str(dataset)
    if isinstance(dataset, Path) or name.startswith((".", "/", "~")) or Path(name).is_dir():
        return None
    repository, _, revision = name.partition("@")
    return (repository, revision or None) if repository.count("/") == 1 else None


def manifest_of(dataset: str | Path) -> DatasetManifest | None:
    """Read the manifest of a dataset's folder or of a dataset on the Hub; None if it has none.

    Raises:
        DataError: There is no such folder, or what it has is no manifest.
        HubError: The Hub does not answer or refuses.
    """
    address = hub_repository(dataset)
    if address is None:
        folder = Path(dataset).expanduser()
        if not folder.is_dir():
            raise DataError(f"there is no dataset folder {dataset}.")
        return DatasetManifest.load(folder) if (folder / MANIFEST).exists() else None
    from spurious_imagenet.hub import fetch_file  # the client is slow to import, and most datasets are folders

    file = fetch_file(address[0], MANIFEST, revision=address[1])
    return None if file is None else DatasetManifest.load(file.parent)
