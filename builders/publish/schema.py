"""The columns of the published table of spurious images."""

from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd
from datasets import Features, Image, List, Value

from spurious_imagenet.models.spec import public_spec
from spurious_imagenet.shards import SampleMetadata
from spurious_imagenet.tables import folded

__all__ = ["FEATURES", "attribution", "row_of", "summarise", "wordnet_id"]

_TEXT, _INT32, _INT64, _FLOAT32 = Value("string"), Value("int32"), Value("int64"), Value("float32")

FEATURES = Features(
    {
        "image": Image(),
        "class_id": _TEXT,
        "wnid": _TEXT,
        "class_name": _TEXT,
        "concept_id": _TEXT,
        "cue": _TEXT,
        "component": _INT32,
        "alpha": _FLOAT32,
        "rank": _INT32,
        "votes": _INT32,
        "models": List({"model": _TEXT, "class_id": _TEXT, "class_name": _TEXT, "probability": _FLOAT32}),
        "verdicts": List({"labeler": _TEXT, "outcome": _TEXT, "date": _TEXT}),
        "key": _TEXT,
        "width": _INT32,
        "height": _INT32,
        "sha256": _TEXT,
        "perceptual_hash": _TEXT,
        "shard": _TEXT,
        "shard_offset": _INT64,
        "shard_size": _INT64,
        "source_id": _TEXT,
        "license": _TEXT,
        "author": _TEXT,
        "title": _TEXT,
        "landing_url": _TEXT,
        "original_url": _TEXT,
        "metadata": _TEXT,
    }
)

_WORDNET = re.compile(r"n\d{8}")

# Column → names under which image collections carry it; OpenImages' attribution file first.
_ATTRIBUTION = {
    "source_id": ("ImageID", "image_id", "id"),
    "license": ("License", "license", "licence"),
    "author": ("Author", "author"),
    "title": ("Title", "title"),
    "landing_url": ("OriginalLandingURL", "landing_url"),
    "original_url": ("OriginalURL", "original_url", "url"),
}


def attribution(meta: dict[str, Any]) -> dict[str, str | None]:
    """Find whose picture it is in a sample's metadata; None where it does not say.

    Names count in any case, with blanks, ``-`` or ``_`` or without, as tables that people make have them.
    """
    nested = {k: v for value in meta.values() if isinstance(value, dict) for k, v in value.items()}
    flat = nested | {k: v for k, v in meta.items() if not isinstance(v, dict)}
    said = {name: value for name, value in flat.items() if value not in (None, "")}
    alike = {folded(name): value for name, value in said.items()} | said
    found = {}
    for column, names in _ATTRIBUTION.items():
        value = next((alike[n] for n in (*names, *map(folded, names)) if n in alike), None)
        found[column] = str(value) if isinstance(value, str | int | float) else None
    return found


def wordnet_id(class_id: str) -> str | None:
    """Return a class id that is a WordNet id, None of any other."""
    return class_id if _WORDNET.fullmatch(class_id) else None


def row_of(candidate: dict[str, Any], data: bytes, metadata: SampleMetadata) -> dict[str, Any]:
    """Make one published row of a candidate, its image's bytes and its sample's metadata."""
    shard = str(candidate["shard"])
    return {
        "image": {"bytes": data, "path": str(candidate["member"]).rsplit("/", 1)[-1]},
        "class_id": candidate["class_id"],
        "wnid": wordnet_id(candidate["class_id"]),
        "class_name": candidate["class_name"],
        "concept_id": candidate["concept_id"],
        "cue": candidate.get("cue"),
        "component": candidate["component"],
        "alpha": candidate["alpha"],
        "rank": candidate["rank"],
        "votes": candidate["votes"],
        "models": [{**opinion, "model": public_spec(opinion["model"])} for opinion in candidate["models"]],
        "verdicts": candidate.get("verdicts"),
        "key": candidate["key"],
        "width": candidate["width"],
        "height": candidate["height"],
        "sha256": candidate["sha256"],
        "perceptual_hash": candidate["phash"],
        "shard": shard.rsplit("/", 1)[-1],
        "shard_offset": candidate["offset"],
        "shard_size": candidate["size"],
        **attribution(metadata.meta),
        "metadata": json.dumps(metadata.meta, sort_keys=True, ensure_ascii=False) if metadata.meta else None,
    }


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Count the images of each concept."""
    grouped = rows.groupby(["class_name", "class_id", "concept_id"], sort=True)
    return grouped.size().rename("images").reset_index()
