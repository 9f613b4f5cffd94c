"""The boards stage: concepts of a bank → one board each, and pages to find them.

config.json          what made the boards; a rerun must match it
cards/<class>/       the boards of one class: there whole or not at all, so that a killed run goes on
classes/<class>.html a page per class
index.html           one table of all classes
boards.parquet       one row a board; written last
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from spurious_imagenet.builders.boards._choose import chosen_rows
from spurious_imagenet.builders.boards._pages import Pages
from spurious_imagenet.builders.boards._schema import BOARDS, board_rows
from spurious_imagenet.builders.boards.config import BoardsConfig
from spurious_imagenet.builders.boards.gather import Attack, Gatherer
from spurious_imagenet.builders.boards.gradcam import ConceptCam
from spurious_imagenet.builders.boards.unit import read_class, write_class
from spurious_imagenet.builders.visualise.attack import feature_attack
from spurious_imagenet.builders.visualise.npfv import NpfvConfig, NpfvStore, eps_at, to_uint8
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import StoreError
from spurious_imagenet.features.labelled import TrainingIndex
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.images import DecodeLimits, Preprocess
from spurious_imagenet.io import atomic_path, files_sha256, sha256_file
from spurious_imagenet.models import Classifier, load_classifier, moved_spec
from spurious_imagenet.models.devices import pick_device
from spurious_imagenet.runs import RunFolder

__all__ = ["BoardsResult", "draw_boards"]


@dataclass(frozen=True)
class BoardsResult:
    """What was drawn.

    Attributes:
        path: The boards directory.
        boards: Boards in it, those of earlier runs included.
        classes: Classes in it.
        made: Classes that this run drew.
        without_npfv: Ids of the bank's classes that were left out because they have no NPFVs.
    """

    path: Path
    boards: int
    classes: int
    made: int
    without_npfv: tuple[str, ...]


def draw_boards(
    config: BoardsConfig, out: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> BoardsResult:
    """Draw one board per concept.

    A killed run resumes at the class where it was. Classes are not part of what a rerun must match, so that later runs
    may add some.

    Args:
        config: What to draw, from what.
        out: Boards directory, new or of the same configuration.
        progress: Called with (classes done, classes in all).

    Raises:
        StoreError: Bank, features and NPFVs do not fit, or ``out`` is of another configuration.
        ConfigError: A named class or concept is not in the bank, or GradCAM is not installed.
        ModelError: The model cannot be loaded, or has no map of features for GradCAM.
        DataError: An image changed since its features were made.
    """
    root = Path(out)
    bank, store = ConceptBank.load(config.bank), FeatureStore.open(config.features)
    bank.check_features(store.config.weights_sha256, store.config.sha256, config.features)
    npfv = _open_npfv(config.npfv, bank) if config.npfv else None
    rows, images = _chosen(bank, config, npfv)
    run = RunFolder(root, "cards/{:05d}")
    run.start(
        _identity(config, store),
        holds="boards",
        refusal="was made with other settings, another bank, other features or other NPFVs: use the same, or write "
        "elsewhere.",
        folders=("cards", "classes"),
    )
    missing = run.missing(rows)
    if missing:
        gatherer, pages = _gatherer(config, bank, store, images), Pages()
        for done, class_index in enumerate(missing, start=len(rows) - len(missing) + 1):
            found = gatherer.gather(rows[class_index])
            write_class(found, run.place(class_index), pages, config.workers or os.cpu_count() or 1)
            if progress:
                progress(done, len(rows))
    about = {"model": bank.info.model, "bank": config.bank, "features": config.features}
    classes, boards = _write_pages(root, about, bank.info.weights_sha256)
    left_out = _without_npfv(bank, config, rows) if npfv else ()
    return BoardsResult(root, boards, classes, len(missing), left_out)


def _open_npfv(path: str, bank: ConceptBank) -> NpfvStore:
    """Open a folder of NPFVs.

    Raises:
        StoreError: It is not a folder of visualisations, or of another model.
    """
    npfv = NpfvStore.open(path)
    made_by = json.loads((npfv.path / "config.json").read_text(encoding="utf-8")).get("weights_sha256", "")
    if made_by != bank.info.weights_sha256:
        raise StoreError(
            f"{path} holds NPFVs of a model with weights {made_by[:12]}, but the concept bank reads features of "
            f"{bank.info.model} with weights {bank.info.weights_sha256[:12]}."
        )
    return npfv


def _chosen(
    bank: ConceptBank, config: BoardsConfig, npfv: NpfvStore | None
) -> tuple[dict[int, list[int]], dict[str, Path]]:
    """Return the rows to draw by class, and the NPFVs by concept id."""
    if npfv is None:
        return chosen_rows(bank, config), {}
    made = npfv.table()
    images = {concept_id: path for concept_id in made["concept_id"] if (path := npfv.image_path(concept_id))}
    chosen = {int(k): list(npfv.chosen(int(k))) for k in made["class_index"].unique()}
    return chosen_rows(bank, config, chosen), images


def _without_npfv(bank: ConceptBank, config: BoardsConfig, rows: dict[int, list[int]]) -> tuple[str, ...]:
    asked = bank.table if config.classes is None else bank.table[bank.table["class_id"].isin(config.classes)]
    return () if config.concepts else tuple(asked.loc[~asked["class_index"].isin(list(rows)), "class_id"].unique())


def _identity(config: BoardsConfig, store: FeatureStore) -> dict[str, Any]:
    """Describe everything that decides what a class's boards show; how they are drawn does not."""
    return {
        "schema_version": 1,
        "settings": config.model_dump(mode="json", include={"components", "concepts", "attack_steps"}),
        "bank_sha256": files_sha256(config.bank),
        "features_sha256": store.sha256,
        "npfv_sha256": sha256_file(Path(config.npfv) / "config.json") if config.npfv else None,
    }


def _gatherer(config: BoardsConfig, bank: ConceptBank, store: FeatureStore, npfv: dict[str, Path]) -> Gatherer:
    preprocess = Preprocess.model_validate(
        {k: v for k, v in store.config.preprocess.items() if k in Preprocess.model_fields}
    )
    classifier = _classifier(config.model or moved_spec(bank.info.model, config.bank), store, preprocess)
    return Gatherer(
        bank,
        TrainingIndex(store),
        preprocess,
        DecodeLimits.model_validate(store.config.preprocess.get("limits", {})),
        classifier.labels.class_names,
        ConceptCam(classifier, pick_device(config.device)),
        npfv,
        attack=_attack(classifier, config) if config.attack_steps else None,
        shards=config.shards,
        allow_pipe=config.allow_pipe,
    )


def _attack(classifier: Classifier, config: BoardsConfig) -> Attack:
    """Return the feature attack, with the NPFVs' budget."""
    eps = eps_at(NpfvConfig().eps, classifier.preprocess.size)

    def attack(direction: NDArray[np.float32], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255.0
        changed = feature_attack(
            classifier, direction, images, eps=eps, steps=config.attack_steps, device=config.device
        )
        return to_uint8(changed)

    return attack


def _classifier(spec: str, store: FeatureStore, preprocess: Preprocess) -> Classifier:
    """Load the model that made the store's features, with their preprocessing.

    Raises:
        StoreError: It has other weights.
    """
    classifier = load_classifier(spec, image_size=preprocess.size)
    if classifier.weights_sha256 != store.config.weights_sha256:
        raise StoreError(
            f"{store.path} holds features of {store.config.model} (weights {store.config.weights_sha256[:12]}), but "
            f"{spec} has weights {classifier.weights_sha256[:12]}: give the same model."
        )
    return classifier.with_preprocess(preprocess)


def _write_pages(root: Path, info: dict[str, str], weights_sha256: str) -> tuple[int, int]:
    """Write all that is made from the classes' units; return the number of classes and of boards."""
    pages, folders = Pages(), sorted(p for p in (root / "cards").iterdir() if (p / "class.json").is_file())
    classes = [read_class(folder) for folder in folders]
    names = [None, *(content["name"] for content in classes), None]
    for content, before, after in zip(classes, names, names[2:], strict=False):
        with atomic_path(root / "classes" / f"{content['name']}.html") as temporary:
            temporary.write_text(pages.class_page(content, before, after), encoding="utf-8")
    with atomic_path(root / "index.html") as temporary:
        temporary.write_text(pages.index(classes, info), encoding="utf-8")
    rows = [row for content in classes for row in board_rows(content, weights_sha256)]
    with atomic_path(root / "boards.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=BOARDS), temporary, compression="zstd")
    return len(classes), len(rows)
