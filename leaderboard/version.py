"""BenchmarkVersion: exactly which images entries are scored on, and what is known of each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import pyarrow as pa

from spurious_imagenet.datasets.manifest import Change, RetiredImage, SelectionModel, Sha256, VersionName, images_sha256
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import DataError
from spurious_imagenet.records import Record

__all__ = ["IMAGES_SCHEMA", "BenchmarkVersion", "VersionInfo"]

_TEXT = pa.string()
_OPINION = pa.struct([("model", _TEXT), ("class_id", _TEXT), ("class_name", _TEXT), ("probability", pa.float32())])
_VERDICT = pa.struct([("labeler", _TEXT), ("outcome", _TEXT), ("date", _TEXT)])

#: One row an image of a side; entries predict by ``side``, ``class_id`` and ``sha256``: equal files of one class share
#: a prediction. Everything after ``sha256`` is known of spurious images only and null where the dataset does not
#: say; columns as in the published dataset.
IMAGES_SCHEMA = pa.schema(
    [
        ("side", _TEXT),
        ("class_id", _TEXT),
        ("class_name", _TEXT),
        ("concept_id", _TEXT),
        ("name", _TEXT),
        ("sha256", _TEXT),
        ("component", pa.int32()),
        ("alpha", pa.float32()),
        ("rank", pa.int32()),
        ("votes", pa.int32()),
        ("models", pa.list_(_OPINION)),
        ("verdicts", pa.list_(_VERDICT)),
        ("shard", _TEXT),
        ("shard_offset", pa.int64()),
        ("shard_size", pa.int64()),
        ("source_id", _TEXT),
        ("license", _TEXT),
        ("author", _TEXT),
        ("title", _TEXT),
        ("landing_url", _TEXT),
        ("original_url", _TEXT),
    ]
)


class VersionInfo(Record):
    """What a version of the benchmark is made of."""

    schema_version: Literal[1] = 1
    name: str
    """Title of the dataset."""
    version: VersionName
    dataset_sha256: Sha256
    """Hash over class, concept and bytes of every spurious image; equal to that of evaluation records."""
    validation_sha256: Sha256
    """Hash over class and bytes of every validation image; equal to that of evaluation records."""
    class_names: dict[str, str]
    """Classes that have spurious images: id -> name."""
    concept_names: dict[str, str] = {}
    """Concept id -> what people call it, where they do."""
    miners: tuple[SelectionModel, ...] = ()
    min_agree: int | None = None
    gap_k: int = 10
    """Images on either side of each class's spurious gap."""
    resamples: int = 1000
    seed: int = 0
    """Of the bootstrap: entries are compared on the same resamples."""
    retired: tuple[RetiredImage, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, eq=False)
class BenchmarkVersion:
    """One version of the benchmark.

    Attributes:
        info: What it is made of.
        images: Rows of :data:`IMAGES_SCHEMA`, both sides.
        rankings: Ranked validation images, from which entries get spurious gaps; None: they get none.

    Raises:
        DataError: The images are not those whose hashes ``info`` has.
    """

    info: VersionInfo
    images: pd.DataFrame
    rankings: Rankings | None = None

    def __post_init__(self) -> None:
        for side, columns, expected in (
            ("spurious", ["class_id", "concept_id", "sha256"], self.info.dataset_sha256),
            ("validation", ["class_id", "sha256"], self.info.validation_sha256),
        ):
            found = images_sha256(self.side(side), columns)
            if found != expected:
                raise DataError(
                    f"version {self.info.version} has {side} images of hash {found[:12]}: expected {expected[:12]}."
                )

    def side(self, side: str) -> pd.DataFrame:
        """Return the rows of one side."""
        return self.images[self.images["side"] == side]
