"""Records of simulated scores, for tests alone: whole and consistent, but of no model and no image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.evaluation.values import ClassGap, ClassRecord, GapRecord, Means
from spurious_imagenet.benchmark.metrics import spurious_ap, spurious_auc
from spurious_imagenet.benchmark.metrics.values import CurvePoint, Interval
from spurious_imagenet.benchmark.mitigation.record import Mitigation
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.images import Protocol
from spurious_imagenet.io import sha256_file

#: A class name that must never become markup, a formula, or a LaTeX command.
HOSTILE = "=1+1<script>window.hacked=1</script>\\input{x}|&_"
_TRANSFORM = {"size": 224, "resize": 256}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _around(value: float, half: float, low: float = 0.0) -> Interval:
    return Interval(low=max(value - half, low), high=min(value + half, 1.0))


def _predictions(seed: int, skill: float, classes: Sequence[str], images: int, truths: str) -> Predictions:
    rng = np.random.default_rng(seed)
    rows = []
    for place, class_id in enumerate(classes):
        shared = np.random.default_rng([place, 7])  # what is hard is hard for every model
        for side, centre in (("validation", 1.5), ("spurious", 1.5 - 4 * skill * shared.uniform(0.3, 1.2))):
            logits = centre + shared.normal(0, 1.2, images) + rng.normal(0, 0.6, images)
            probability = 1 / (1 + np.exp(-logits))
            for i, p in enumerate(probability):
                name = f"{side}/{class_id}/{i}"
                others = [c for c in classes if c != class_id]
                predicted = class_id if p > 0.5 else others[(i + place) % len(others)]
                rows.append(
                    {
                        "side": side,
                        "class_id": class_id,
                        "concept_id": "cue" if side == "spurious" else None,
                        "name": name,
                        "sha256": _hash(truths + name),
                        "probability": float(p),
                        "predicted_id": predicted,
                        "top5_id": [predicted],
                        "top5_probability": [float(max(p, 1 - p))],
                    }
                )
    return Predictions.from_rows(rows)


def _measures(predictions: Predictions, class_id: str) -> dict[str, float]:
    validation, spurious = (predictions.of(side, class_id) for side in ("validation", "spurious"))
    v, s = validation["probability"], spurious["probability"]
    return {
        "spurious_ap": spurious_ap(v, s),
        "chance_ap": len(v) / (len(v) + len(s)),
        "spurious_auc": spurious_auc(v, s),
        "validation_probability": float(v.mean()),
        "spurious_probability": float(s.mean()),
        "validation_predicted": float((validation["predicted_id"] == class_id).mean()),
        "spurious_predicted": float((spurious["predicted_id"] == class_id).mean()),
    }


def _gaps(predictions: Predictions, names: dict[str, str], seed: int, k: int) -> GapRecord:
    rng = np.random.default_rng(seed)
    gaps = []
    for place, (class_id, name) in enumerate(names.items()):
        accuracy = float(predictions.correct[(predictions.table["class_id"] == class_id).to_numpy()][:40].mean())
        gap = float(np.clip(np.random.default_rng([place, 3]).normal(0.15, 0.15) + rng.normal(0, 0.05), -0.9, 0.9))
        high = min(1.0, accuracy + abs(gap) / 2)
        interval = _around(gap, 0.2, -1.0)
        gaps.append(
            ClassGap(
                class_id=class_id,
                class_name=name,
                control=False,
                images=50,
                accuracy_high=high,
                accuracy_low=high - gap,
                gap=gap,
                interval=interval,
            )
        )
    mean = float(np.mean([g.gap for g in gaps]))
    high = float(np.mean([g.accuracy_high for g in gaps]))
    curve = []
    for i in range(10):
        value = high - mean * (1 - i / 9)
        curve.append(
            CurvePoint(low=i / 10, high=(i + 1) / 10, images=50, accuracy=value, interval=_around(value, 0.04))
        )
    return GapRecord(
        rankings="rankings",
        rankings_sha256=_hash("rankings"),
        split="val",
        k=k,
        gap=mean,
        gap_interval=_around(mean, 0.05, -1.0),
        pooled_gap=mean,
        accuracy_high=high,
        accuracy_low=high - mean,
        classes=tuple(gaps),
        curve=tuple(curve),
    )


def write_record(
    folder: Path,
    name: str,
    *,
    seed: int = 0,
    skill: float = 0.5,
    classes: Sequence[str] = ("koala", "gondola", HOSTILE, "freight car", "flagpole"),
    images: int = 40,
    weights: str | None = None,
    mitigation: str | None = None,
    protocol: Protocol = Protocol.PAPER,
    dataset: str = "dataset",
    gaps: bool = True,
    k: int = 10,
) -> Path:
    """Write one record and its predictions; equal arguments give equal files."""
    ids = {f"n{place:08d}": class_name for place, class_name in enumerate(classes)}
    predictions = _predictions(seed, skill, list(ids), images, dataset)
    stem = f"{seed}-{protocol.value}-{_hash(name + dataset + (mitigation or ''))[:6]}"
    path = folder / f"{stem}.predictions.parquet"
    predictions.save(path)
    records = []
    for class_id, class_name in ids.items():
        values = _measures(predictions, class_id)
        intervals = {key: _around(value, 0.06) for key, value in values.items() if key != "chance_ap"}
        records.append(
            ClassRecord(
                class_id=class_id,
                class_name=class_name,
                validation_images=images,
                spurious_images=images,
                intervals=intervals,
                **values,
            )
        )
    mean = Means(**{key: float(np.mean([getattr(r, key) for r in records])) for key in Means.model_fields})
    correct = predictions.correct[(predictions.table["side"] == "validation").to_numpy()]
    record = EvalRecord(
        code_version="0.0",
        model=f"simulated:{name}",
        weights_sha256=_hash(weights or name),
        label_space="simulated",
        protocol=protocol,
        validation_transform=_TRANSFORM,
        spurious_transform=_TRANSFORM,
        backend="none",
        dataset=dataset,
        dataset_sha256=_hash(dataset),
        validation="val",
        validation_sha256=_hash("val"),
        name=name,
        parameters=25_557_032,
        mitigation=Mitigation(kind=mitigation, file="fix.safetensors", sha256=_hash(mitigation))
        if mitigation
        else None,
        classes=tuple(records),
        concepts=(),
        mean=mean,
        mean_intervals={key: _around(getattr(mean, key), 0.03) for key in Means.model_fields if key != "chance_ap"},
        accuracy=float(correct.mean()),
        accuracy_interval=_around(float(correct.mean()), 0.02),
        accuracy_images=len(correct),
        gaps=_gaps(predictions, ids, seed, k) if gaps else None,
        predictions=path.name,
        predictions_sha256=sha256_file(path),
    )
    record.save(folder / f"{stem}.json")
    return folder / f"{stem}.json"


def write_sweep(folder: Path, models: int = 5, **changes: object) -> list[Path]:
    """Write records of several simulated models, the first of them also mitigated."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["ResNet-50 robust", "ViT-B/16 AugReg", "ConvNeXt-L", "EfficientNet-lite0", "BEiT-L/16"]
    paths = []
    for i in range(models):
        name = names[i] if i < len(names) else f"model {i}"
        paths.append(write_record(folder, name, seed=i, skill=0.25 + 0.5 * i / models, **changes))
        if i < 2:
            more = {"skill": 0.4 + 0.5 * i / models, "seed": 100 + i, "mitigation": "spufix", "weights": name}
            paths.append(write_record(folder, name, **(more | changes)))
    return paths
