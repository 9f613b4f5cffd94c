"""A small published dataset of spurious images, made without any model: what cards and Croissant files describe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value
from helpers import jpeg

from spurious_imagenet.data_cards import CardOptions, Sample
from spurious_imagenet.datasets.manifest import (
    MANIFEST,
    Change,
    DataFile,
    DatasetManifest,
    RetiredImage,
    SelectionModel,
)
from spurious_imagenet.io import canonical_json, sha256_file

TEXT, INT32 = Value("string"), Value("int32")
OPINION = {"model": TEXT, "class_id": TEXT, "probability": Value("float32")}
VERDICT = {"labeler": TEXT, "outcome": TEXT, "date": TEXT}
NAMES = ("license", "author", "title", "landing_url", "metadata")
SPURIOUS = Features(
    {"image": Image(), "class_id": TEXT, "class_name": TEXT, "concept_id": TEXT, "alpha": Value("float32")}
    | {
        "votes": INT32,
        "models": List(OPINION),
        "verdicts": List(VERDICT),
        "sha256": TEXT,
        "shard_offset": Value("int64"),
    }
    | dict.fromkeys(NAMES, TEXT)
)
CONCEPTS = Features(
    {"concept_id": TEXT, "name": TEXT, "tags": List(TEXT), "votes": List({"labeler": TEXT, "sure": Value("bool")})}
)
RETIRED = Features({"class_id": TEXT, "sha256": TEXT, "reason": TEXT, "since": TEXT})

REVIEW: dict[str, Any] = {
    "labelers": 3,
    "per_item": 2,
    "judged": 523,
    "accepted": 467,
    "disagreed": 59,
    "adjudicated": 47,
    "agreement": "Cohen's κ 0.613",
}
COUNTS = {"candidates": 7919, "too_few_votes": 5003, "near_duplicates": 211, "reserve": 1709, "kept": 997, "images": 6}
OPTIONS = CardOptions(published="2026-03-07", repo_id="org/planted", authors=("A. Author", "B. Writer"))


def metadata(open_images: bool) -> str:
    """Return a sample's metadata, as OpenImages' attribution has them or as a folder has."""
    return json.dumps(
        {"ImageID": "x", "OriginalLandingURL": "https://x", "OriginalMD5": "y"} if open_images else {"file": "x"}
    )


def rows(
    classes: Sequence[str] = ("arrow", "boat"),
    *,
    licences: Sequence[str | None] = (None,),
    author: str | None = None,
    open_images: bool = False,
    reviewed: bool = True,
) -> list[dict[str, Any]]:
    """Return three rows per class."""
    found = []
    for i in range(3 * len(classes)):
        data, name = jpeg(i, (24, 24)), classes[i // 3]
        opinion = {"model": "timm:resnet50", "class_id": f"c{i // 3}", "probability": 0.5 + i / 100}
        found.append(
            {
                "image": {"bytes": data, "path": f"{i}.jpg"},
                "class_id": f"c{i // 3}",
                "class_name": name,
                "concept_id": f"npca/c{i // 3}/0",
                "alpha": 1.5 - i,
                "votes": 2 + i % 2,
                "models": [opinion, opinion | {"probability": None}],
                "verdicts": [{"labeler": "labeler 1", "outcome": "accept", "date": f"2026-01-0{i + 1}"}]
                if reviewed
                else None,
                "sha256": hashlib.sha256(data).hexdigest(),
                "shard_offset": 2**40 + i,
                "license": licences[i % len(licences)],
                "author": author,
                "title": None,
                "landing_url": None if author is None else "https://example.org/1",
                "metadata": metadata(open_images),
            }
        )
    return found


@dataclass(frozen=True)
class Dataset:
    """A folder, its manifest and what else a card is made of."""

    folder: Path
    manifest: DatasetManifest
    concepts: list[dict[str, Any]]
    samples: list[Sample]


def write_file(folder: Path, config: str, split: str, features: Features, content: list[dict[str, Any]]) -> DataFile:
    """Write one parquet file."""
    path = folder / config / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content, schema=features.arrow_schema), path)
    return DataFile(
        config=config,
        split=split,
        path=f"{config}/{split}.parquet",
        rows=len(content),
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
    )


def make_dataset(folder: Path, content: list[dict[str, Any]] | None = None, **manifest: Any) -> Dataset:
    """Write a dataset with the configs ``spurious``, ``concepts`` (two splits) and ``retired`` (empty)."""
    content = rows() if content is None else content
    classes = {row["class_id"]: row["class_name"] for row in content}
    concepts = [
        {"class_id": c, "class_name": name, "concept_id": f"npca/{c}/0", "images": 3, "name": f"cue of {name}"}
        for c, name in classes.items()
    ]
    vote = {"labeler": "labeler 2", "sure": True}
    named = [
        {"concept_id": c["concept_id"], "name": c["name"], "tags": ["a", "b"], "votes": [vote, vote]} for c in concepts
    ]
    files = (
        write_file(folder, "spurious", "test", SPURIOUS, content),
        write_file(folder, "concepts", "test", CONCEPTS, named),
        write_file(folder, "concepts", "extra", CONCEPTS, [named[0] | {"votes": None, "tags": []}]),
        write_file(folder, "retired", "test", RETIRED, []),
    )
    (folder / "samples").mkdir(exist_ok=True)
    (folder / "samples/0.jpg").write_bytes(content[0]["image"]["bytes"])
    sample = Sample(
        "samples/0.jpg",
        content[0]["class_name"],
        concepts[0]["name"],
        2,
        content[0]["license"],
        content[0]["author"],
        content[0]["landing_url"],
    )
    made = DatasetManifest(
        **{
            "kind": "spurious-images",
            "name": "Planted cues",
            "version": "1.2.3",
            "code_version": "0.1.0",
            "files": files,
            "counts": COUNTS | {"classes": len(classes), "concepts": len(concepts)},
            "min_agree": 2,
            "miners": (
                SelectionModel(model="timm:resnet50", role="scorer", weights_sha256="ab" * 32, architecture="resnet50"),
                SelectionModel(model="file:other.safetensors", role="voter"),
            ),
            "retired": (
                RetiredImage(class_id="c0", concept_id="npca/c0/0", sha256="cd" * 32, reason="object", since="1.2.3"),
            ),
            "changes": (Change(version="1.2.3", text="One image less."), Change(version="1.0.0", text="First.")),
        }
        | manifest
    )
    (folder / MANIFEST).write_text(canonical_json(made.model_dump(mode="json")), encoding="utf-8")
    return Dataset(folder, made, concepts, [sample])
