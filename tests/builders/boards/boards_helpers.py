"""A small real world that boards are drawn of: shards, a random classifier, its features, banks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from helpers import CLASSES, jpeg, labelled_shard, random_bank, spread_weights_file

from spurious_imagenet.builders.boards import BoardsConfig
from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.features.store import FeatureStore

NAMES = (
    '<img src=x onerror="window.hacked=1">',
    "cup</title><script>window.hacked=1</script>",
    "{{ 7 * 7 }} & 'q'",
    'd"og',
)
PER_CLASS = 14


class World(NamedTuple):
    root: Path
    images: dict[str, bytes]
    """By key."""
    spec: str
    store: FeatureStore
    bank: ConceptBank

    def config(self, **options: object) -> BoardsConfig:
        fixed = {"bank": str(self.root / "bank"), "features": str(self.root / "store"), "workers": 2}
        return BoardsConfig(**(fixed | {"device": "cpu", "components": 2} | options))


def make_world(root: Path) -> World:
    """Two shards of 28 pictures of four classes whose names are hostile, and a bank of three concepts per class."""
    seeds = [range(2 * PER_CLASS), range(100, 100 + 2 * PER_CLASS)]
    shards = [labelled_shard(root / f"train-{i}.tar", s) for i, s in enumerate(seeds)]
    images = {f"train-{i}-{j:04d}": jpeg(seed) for i, s in enumerate(seeds) for j, seed in enumerate(s)}
    spec = spread_weights_file(root / "model.safetensors", names=NAMES)
    config = FeaturesConfig(model=spec, shards=tuple(map(str, shards)), backend="eager", workers=2)
    store = extract_features(config, root / "store").store
    return World(root, images, spec, store, random_bank(store, root / "bank", per_class=3, names=NAMES))


def class_scores(world: World, concept_id: str) -> dict[str, float]:
    """Score of every training image of a concept's class, by key, one dot product at a time."""
    row = world.bank.table.index[world.bank.table["concept_id"] == concept_id][0]
    class_index = int(world.bank.table["class_index"][row])
    scores = {}
    for part in world.store.parts:
        table = part.rows(["key", "label"]).to_pylist()
        for described, features in zip(table, np.asarray(part.features()), strict=True):
            if described["label"] == class_index:
                total = float(world.bank.offsets[row])
                for weight, value in zip(world.bank.directions[row], features, strict=True):
                    total += float(weight) * float(value)
                scores[described["key"]] = total
    assert len(scores) == PER_CLASS == 4 * PER_CLASS // len(CLASSES)
    return scores
