"""A small benchmark version and submissions to it, made of random numbers: what tests of the leaderboard share."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from spurious_imagenet.datasets.manifest import SelectionModel, images_sha256
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, Rankings, RankingsInfo
from spurious_imagenet.images import Protocol
from spurious_imagenet.leaderboard.entry import SubmissionInfo
from spurious_imagenet.leaderboard.submission.read import Submission
from spurious_imagenet.leaderboard.version import IMAGES_SCHEMA, BenchmarkVersion, VersionInfo

MINERS = (
    SelectionModel(model="timm:resnet50", role="scorer", weights_sha256="a" * 64, architecture="resnet50"),
    SelectionModel(model="timm:convnext_base", role="voter", weights_sha256="b" * 64, architecture="convnext_base"),
    SelectionModel(
        model="timm:vit_base_patch16_224", role="voter", weights_sha256="c" * 64, architecture="vit_base_patch16_224"
    ),
    SelectionModel(model="file:own.safetensors", role="voter"),
)


def digest(text: str) -> str:
    """Return a hash that stands for the bytes of an image."""
    return hashlib.sha256(text.encode()).hexdigest()


def class_id(index: int) -> str:
    return f"n{index:08d}"


def tiny_version(
    classes: int = 3,
    *,
    spurious: int = 8,
    validation: int = 12,
    concepts: int = 2,
    version: str = "1.0.0",
    rankings: bool = True,
    resamples: int = 50,
    gap_k: int = 4,
) -> BenchmarkVersion:
    """Return a version of ``classes`` classes, and one more that has validation images only.

    One validation image of the first class is there twice, and the first spurious image of the first two classes
    is the same one. Every spurious image has the scorer's vote; of the other miners, each image lacks at most one.
    """
    rows = [_validation(c, i) for c in range(classes + 1) for i in range(validation)]
    rows.append(_validation(0, 0) | {"name": "again/0"})
    rows += [_spurious(c, i, concepts) for c in range(classes) for i in range(spurious)]
    images = pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA).to_pandas()
    sides = {side: images[images["side"] == side] for side in ("spurious", "validation")}
    info = VersionInfo(
        name="Tiny",
        version=version,
        dataset_sha256=images_sha256(sides["spurious"], ["class_id", "concept_id", "sha256"]),
        validation_sha256=images_sha256(sides["validation"], ["class_id", "sha256"]),
        class_names={class_id(c): f"class {c}" for c in range(classes)},
        miners=MINERS,
        min_agree=3,
        gap_k=gap_k,
        resamples=resamples,
    )
    return BenchmarkVersion(info, images, _rankings(sides["validation"], info) if rankings else None)


def _validation(c: int, i: int) -> dict[str, Any]:
    return {
        "side": "validation",
        "class_id": class_id(c),
        "class_name": f"class {c}",
        "name": f"{class_id(c)}/{i:03d}.jpg",
        "sha256": digest(f"validation {c} {i}"),
    }


def _spurious(c: int, i: int, concepts: int) -> dict[str, Any]:
    # Which voter took it for another class; none for every fourth image.
    against = i % 4
    models = [
        {
            "model": m.model,
            "class_id": class_id(c if place != against or not place else c + 1),
            "class_name": "",
            "probability": 0.9,
        }
        for place, m in enumerate(MINERS)
    ]
    return {
        "side": "spurious",
        "class_id": class_id(c),
        "class_name": f"class {c}",
        "concept_id": f"npca/{class_id(c)}/{i % concepts}",
        "name": f"row {c * 1000 + i}",
        "sha256": digest("spurious shared" if i == 0 and c < 2 else f"spurious {c} {i}"),
        "component": i % concepts,
        "alpha": 3.0 - 0.1 * i,
        "rank": i // concepts + 1,
        "votes": sum(m["class_id"] == class_id(c) for m in models),
        "models": models,
        "verdicts": [{"labeler": f"labeler {j}", "outcome": "accept", "date": "2026-01-01"} for j in (1, 2)],
        "shard": "images-00000.tar",
        "shard_offset": 1024 * i,
        "shard_size": 700,
        "source_id": f"source{c}{i}",
        "license": "CC BY 2.0",
        "author": "somebody",
    }


def _rankings(validation: pd.DataFrame, info: VersionInfo) -> Rankings:
    """Rank the validation images of the classes that have spurious ones by their names."""
    chosen = validation[validation["class_id"].isin(info.class_names)].drop_duplicates(["class_id", "sha256"])
    table = chosen[["class_id", "class_name", "name", "sha256"]].copy()
    groups = table.groupby("class_id")["name"]
    table["rank"], table["of"] = groups.rank().astype("int32"), groups.transform("size")
    table["percentile"] = (table["rank"] - 0.5) / table["of"]
    table = table.assign(split="val", control=False, spuriosity=table["percentile"])
    table = table.assign(ranked_split=None, concept_ids=None, concept_scores=None)
    table = pa.Table.from_pandas(table, schema=RANKINGS_SCHEMA, preserve_index=False).to_pandas()
    made_of = {c: (f"npca/{c}/0",) for c in info.class_names}
    return Rankings(
        table,
        RankingsInfo(model="timm:resnet50", weights_sha256="a" * 64, feature_config_sha256="d" * 64, concepts=made_of),
    )


def submission_info(version: BenchmarkVersion, seed: int = 0, **changes: Any) -> SubmissionInfo:
    """Return what a submitter says of model number ``seed``."""
    about: dict[str, Any] = {
        "model": f"model {seed}",
        "authors": ("Ada", "Grace"),
        "training_data": "ImageNet-1k",
        "licence": "Apache-2.0",
        "spec": f"timm:model{seed}",
        "weights_sha256": digest(f"weights {seed}"),
        "parameters": 1000 + seed,
        "protocol": Protocol.STANDARD,
        "dataset_version": version.info.version,
        "dataset_sha256": version.info.dataset_sha256,
        "validation_sha256": version.info.validation_sha256,
    }
    return SubmissionInfo(**(about | changes))


def random_table(version: BenchmarkVersion, seed: int = 0, *, skill: float | None = None) -> pd.DataFrame:
    """Return random predictions: one row each distinct image of a side and class, columns as submissions have them.

    Args:
        version: Which images.
        seed: Decides all.
        skill: Between 0 and 1, how far validation images are told from spurious ones; drawn from the seed if left out.
    """
    rng = np.random.default_rng(seed)
    keys = version.images[["side", "class_id", "sha256"]].drop_duplicates(ignore_index=True)
    skill = rng.uniform(0.2, 0.9) if skill is None else skill
    shown = (keys["side"] == "validation").to_numpy()
    own = np.clip(rng.beta(2, 2, len(keys)) + skill * np.where(shown, 0.4, -0.4), 0.001, 0.999)
    others = sorted(set(version.images["class_id"]) | {"n99999991", "n99999992", "n99999993", "n99999994", "n99999995"})
    ids, probabilities = [], []
    for target, p in zip(keys["class_id"], own, strict=True):
        rest = [c for c in rng.permutation(others) if c != target][:4]
        share = (1 - p) * np.array([0.6, 0.25, 0.1, 0.05])
        pairs = sorted(zip([p, *share], [target, *rest], strict=True), reverse=True)
        ids.append([str(c) for _, c in pairs])
        probabilities.append(np.array([q for q, _ in pairs], np.float32))
    return keys.assign(probability=own, top5_id=ids, top5_probability=probabilities)


def random_submission(
    version: BenchmarkVersion, seed: int = 0, *, skill: float | None = None, **changes: Any
) -> Submission:
    """Return a valid submission of random predictions; ``changes`` are fields of its information."""
    return Submission(info=submission_info(version, seed, **changes), table=random_table(version, seed, skill=skill))
