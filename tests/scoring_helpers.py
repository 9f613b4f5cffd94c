"""A benchmark of random images, and models that are better or worse on it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from spurious_imagenet.datasets.manifest import SelectionModel, images_sha256
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, Rankings, RankingsInfo
from spurious_imagenet.leaderboard.entry import Entry, SubmissionInfo
from spurious_imagenet.leaderboard.version import IMAGES_SCHEMA, BenchmarkVersion, VersionInfo

#: Measures of which a version with rankings has resamples.
RESAMPLED = {"spurious_ap", "spurious_auc", "accuracy", "spurious_gap", "accuracy_high", "accuracy_low"}


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def version_rows(
    classes: int = 3,
    spurious: int = 9,
    validation: int = 8,
    concepts: int = 2,
    miners: Sequence[str] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Rows of both sides; of the miners at least two say each spurious image's class, others say another."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in range(classes):
        class_id = f"n{c:08d}"
        shared = {"class_id": class_id, "class_name": f"class {c}"}
        for i in range(spurious):
            votes = rng.random(len(miners)) < 0.6
            votes[rng.permutation(len(miners))[:2]] = True
            opinions = [
                {"model": m, "class_id": class_id if v else "other", "class_name": "", "probability": 0.5}
                for m, v in zip(miners, votes, strict=True)
            ]
            concept = f"npca/{class_id}/{i % concepts}"
            about = {"concept_id": concept, "name": f"s{i}", "sha256": digest("spurious", c, i), "models": opinions}
            rows.append({"side": "spurious", "votes": int(votes.sum()), **shared, **about})
        rows += [
            {"side": "validation", **shared, "name": f"v{i}", "sha256": digest("validation", c, i)}
            for i in range(validation)
        ]
    return pd.DataFrame(rows).reindex(columns=IMAGES_SCHEMA.names)


def version_of(images: pd.DataFrame, **about: object) -> BenchmarkVersion:
    spurious, validation = (images[images["side"] == side] for side in ("spurious", "validation"))
    info = VersionInfo(
        **{
            "name": "Random",
            "version": "1.0.0",
            "dataset_sha256": images_sha256(spurious, ["class_id", "concept_id", "sha256"]),
            "validation_sha256": images_sha256(validation, ["class_id", "sha256"]),
            "class_names": dict(zip(spurious["class_id"], spurious["class_name"], strict=True)),
            "resamples": 100,
            **about,
        }
    )
    return BenchmarkVersion(info, images)


def with_rankings(version: BenchmarkVersion) -> BenchmarkVersion:
    shown = version.side("validation").sort_values(["class_id", "sha256"])
    of = shown.groupby("class_id")["sha256"].transform("size")
    rank = shown.groupby("class_id").cumcount() + 1
    table = shown[["name", "sha256", "class_id", "class_name"]].assign(
        split="val", control=False, spuriosity=rank.astype(float), rank=rank, of=of, percentile=(rank - 0.5) / of
    )
    table = table.reindex(columns=RANKINGS_SCHEMA.names).astype({"concept_scores": object})
    table["concept_scores"] = None
    info = RankingsInfo(model="m", weights_sha256="0" * 64, feature_config_sha256="0" * 64, concepts={})
    return dataclasses.replace(version, rankings=Rankings(table.reset_index(drop=True), info))


def predict(version: BenchmarkVersion, seed: int, skill: float = 0.3) -> Predictions:
    """What a random model says; of more skill it is surer of validation images, of negative skill of spurious ones."""
    images = version.images.assign(first=version.images["side"] == "spurious")
    ordered = images.sort_values(["first", "class_id", "concept_id", "sha256", "name"], ignore_index=True)
    rng = np.random.default_rng(seed)
    surer = ordered["side"] == ("validation" if skill > 0 else "spurious")
    probability = (1 - abs(skill)) * rng.beta(2, 2, len(ordered)) + abs(skill) * surer
    predicted = np.where(rng.random(len(ordered)) < probability, ordered["class_id"], "other")
    table = ordered[["side", "class_id", "concept_id", "name", "sha256"]].assign(
        probability=probability,
        predicted_id=predicted,
        top5_id=[[p] for p in predicted],
        top5_probability=[[0.5]] * len(ordered),
    )
    return Predictions(table)


def info_of(number: int, **about: object) -> SubmissionInfo:
    return SubmissionInfo(
        **{
            "model": f"model {number}",
            "authors": ("A. Author",),
            "training_data": "ImageNet-1k",
            "licence": "MIT",
            "weights_sha256": digest("weights", number),
            "protocol": "paper",
            "dataset_version": "1.0.0",
            "dataset_sha256": "0" * 64,
            "validation_sha256": "0" * 64,
            **about,
        }
    )


def entry_of(number: int, **about: object) -> Entry:
    return Entry(
        id=digest("entry", number),
        info=info_of(number, **about),
        predictions_sha256=digest("predictions", number),
        received="2026-01-01T00:00:00Z",
    )


def miner(model: str, **about: object) -> SelectionModel:
    return SelectionModel(**{"model": model, "role": "voter", **about})
