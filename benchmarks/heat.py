"""Where GradCAM and the activation map put their mass in a planted world: on the cue or on the object.

    python benchmarks/heat.py out/demo

Uses what `make demo` left. A component is *spurious* if it is one that the check found to be a cue's, and *core* if
in the pool it tells the object from neither (AUC > 0.9) and ranks objects above cues (AUC of cue against object < 0.1).
For each, the 50 training images of highest score that show both object and cue are explained; a mask tells the pixels
apart. Mass is the share of the heat that lies on cue or object; density is the mean heat of a pixel there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from spurious_imagenet.builders.boards.gradcam import ConceptCam
from spurious_imagenet.builders.visualise.activation_maps import ActivationMaps
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models import Classifier, load_classifier
from spurious_imagenet.planted.truth import PlantedTruth, TruePair

IMAGES = 50
OBJECT, CUE = 1, 2  # values of a mask
Scores = NDArray[np.float32]


def read_store(path: Path, bank: ConceptBank, truth: PlantedTruth) -> tuple[Scores, pd.DataFrame]:
    store = FeatureStore.open(path)
    scores = [bank.score(np.asarray(part.features(), dtype=np.float32)) for part in store.parts]
    hashes = [digest.hex() for part in store.parts for digest in part.rows(["sha256"])["sha256"].to_pylist()]
    return np.concatenate(scores), truth.table.loc[hashes]


def core_components(pair: TruePair, rows: NDArray[np.int64], scores: Scores, pool: pd.DataFrame) -> list[int]:
    """Return the rows of the bank that read the class's object and not its cue."""
    bare = pool["class_id"].isna().to_numpy()
    has_cue = pool["cues"].map(lambda cues: pair.cue in cues).to_numpy()
    no_cue = (pool["cues"].map(len) == 0).to_numpy()
    shown = {"object": (pool["class_id"] == pair.class_id).to_numpy() & no_cue, "cue": bare & has_cue}
    neither = bare & no_cue

    def auc(row: int, positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> float:
        truth = np.r_[np.ones(positive.sum()), np.zeros(negative.sum())]
        return float(roc_auc_score(truth, np.r_[scores[positive, row], scores[negative, row]]))

    return [r for r in rows if auc(r, shown["object"], neither) > 0.9 and auc(r, shown["cue"], shown["object"]) < 0.1]


def explain(
    classifier: Classifier, world: Path, truth: pd.DataFrame, scores: Scores, direction: NDArray[np.float32]
) -> dict[str, list[float]]:
    """Return [mass on cue, mass on object, density on cue, density on object], means over images, of each method."""
    best = truth.iloc[np.argsort(-scores)[:IMAGES]]
    pixels = np.stack([np.asarray(Image.open(world / file).convert("RGB")) for file in best["file"]])
    masks = np.stack([np.asarray(Image.open(world / file)) for file in best["mask"]])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    heat = {
        "GradCAM": ConceptCam(classifier, torch.device("cpu"))(pixels, np.tile(direction, (len(pixels), 1))).heatmaps,
        "NAM": ActivationMaps(classifier)(direction, images),
    }
    return {name: _shares(maps, masks) for name, maps in heat.items()}


def _shares(maps: NDArray[np.float32], masks: NDArray[np.uint8]) -> list[float]:
    warm = maps.sum(axis=(1, 2)) > 0
    maps, masks = maps[warm].astype(np.float64), masks[warm]
    on = [(maps * (masks == what)).sum(axis=(1, 2)) for what in (CUE, OBJECT)]
    mass = [float((part / maps.sum(axis=(1, 2))).mean()) for part in on]
    pixels = [np.maximum((masks == what).sum(axis=(1, 2)), 1) for what in (CUE, OBJECT)]
    return [*mass, *(float((part / count).mean()) for part, count in zip(on, pixels, strict=True))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    demo = parser.parse_args().demo
    truth, bank = PlantedTruth.load(demo / "world"), ConceptBank.load(demo / "bank")
    bank = bank.select((bank.table["component"] >= 0).to_numpy() & (bank.table["component"] < 10).to_numpy())
    classifier = load_classifier(f"file:{demo / 'models' / 'robust.safetensors'}")
    pool_scores, pool = read_store(demo / "features" / "pool", bank, truth)
    scores, train = read_store(demo / "features" / "train", bank, truth)
    found = {p["concept_id"] for p in json.loads((demo / "check" / "check.json").read_text("utf-8"))["pairs"]}
    rows: list[tuple[str, str, list[float]]] = []
    for pair in truth.pairs:
        own = np.flatnonzero(bank.table["class_id"] == pair.class_id)
        spurious = [int(r) for r in own if bank.table["concept_id"].iloc[r] in found]
        core = [r for r in core_components(pair, own, pool_scores, pool) if r not in spurious]
        both = np.flatnonzero(
            (train["class_id"] == pair.class_id).to_numpy() & train["own_cue"].astype(bool).to_numpy()
        )
        for kind, members in (("spurious", spurious), ("core", core)):
            for r in members:
                made = explain(classifier, demo / "world", train.iloc[both], scores[both, r], bank.directions[r])
                rows += [(kind, method, shares) for method, shares in made.items()]
    show(pd.DataFrame([(k, m, *s) for k, m, s in rows], columns=["kind", "method", "mc", "mo", "dc", "do"]))


def show(found: pd.DataFrame) -> None:
    table = Table(
        "components", "heat", "count", "mass cue / object", "right side", "density cue / object", "right side"
    )
    for (kind, method), group in found.groupby(["kind", "method"], sort=False):
        sign = 1 if kind == "spurious" else -1
        right = [int((sign * (group[a] - group[b]) > 0).sum()) for a, b in (("mc", "mo"), ("dc", "do"))]
        means = group[["mc", "mo", "dc", "do"]].mean()
        table.add_row(
            *(str(kind), str(method), str(len(group))),
            *(f"{means['mc']:.3f} / {means['mo']:.3f}", f"{right[0]} of {len(group)}"),
            *(f"{means['dc']:.3f} / {means['do']:.3f}", f"{right[1]} of {len(group)}"),
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
