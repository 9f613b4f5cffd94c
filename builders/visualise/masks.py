"""Soft masks: the activation maps of the class images that show a concept most (SR section I.2.2).

config.json                                  what made them; a rerun must match it
00042/                                       one class, there whole or not at all
    metadata.parquet                         one row a mask (see MASK_SCHEMA)
    neuron-0734/00000.png                    8-bit masks at the model's input size, the highest score first

For Hugging Face ``datasets`` this is an image folder: ``load_dataset("imagefolder", data_dir=…)`` gives the masks as an
image column beside the other columns.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from spurious_imagenet.builders.visualise.activation_maps import ActivationMaps
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.features.labelled import Indices, TrainingIndex, check_made_by
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.images import DecodeLimits, decode_again
from spurious_imagenet.io import atomic_directory
from spurious_imagenet.models import Classifier
from spurious_imagenet.records import Record
from spurious_imagenet.runs import RunFolder
from spurious_imagenet.shards import ShardImages

__all__ = ["MASK_SCHEMA", "MasksConfig", "write_masks"]

#: One row a mask. ``file_name`` is relative to the class's folder; ``rank`` 1 has the highest ``score``; ``part`` and
#: ``key`` name the image in the feature store, ``shard``, ``offset``, ``size`` and ``sha256`` its bytes; ``width`` and
#: ``height`` are those of the image, the mask is of what the model sees of it (config.json, ``preprocess``).
MASK_SCHEMA = pa.schema(
    [
        ("file_name", pa.string()),
        ("concept_id", pa.string()),
        ("kind", pa.string()),
        ("class_index", pa.int32()),
        ("class_id", pa.string()),
        ("component", pa.int32()),
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("part", pa.string()),
        ("key", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)

_BATCH = 32  # images whose pixels and maps are in memory at once
_ROW_COLUMNS = ("key", "offset", "size", "sha256", "width", "height")


class MasksConfig(Record):
    """Which masks to write."""

    share: float = Field(default=0.2, gt=0, le=1)
    """Share of a class's images, those with the highest score, that get a mask for a concept."""
    components: int | None = Field(default=10, ge=1)
    """The first so many concepts of every class, in the bank's order; all of them where None."""
    concepts: tuple[str, ...] = ()
    """Ids of the only concepts to do; ``components`` does not count then."""


@dataclass(frozen=True, eq=False)
class _ClassPlan:
    """What to write of one class.

    Attributes:
        bank: Its concepts.
        places: For each concept, where among ``images`` its images are, the highest score first.
        scores: The scores of those, float32.
        images: One row per image, ordered by shard and offset.
    """

    bank: ConceptBank
    places: list[Indices]
    scores: list[NDArray[np.float32]]
    images: pd.DataFrame


def write_masks(
    bank: ConceptBank,
    store: FeatureStore,
    classifier: Classifier,
    out: str | Path,
    config: MasksConfig,
    *,
    shards: tuple[str, ...] = (),
    allow_pipe: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the activation maps of the images of a concept's class that score highest on it, as 8-bit masks.

    A killed run resumes: finished classes are skipped. Images are read by byte offset from the shards that the features
    came from. One class's features, and the pixels of a batch, are in memory at a time.

    Args:
        bank: The concepts.
        store: Features of the labelled images, by the bank's model.
        classifier: The bank's model, at the store's image size.
        out: Directory to write; see the module for its form.
        config: What to write.
        shards: Where the shards are now, if they are not where the store says.
        allow_pipe: Run the command of a ``pipe:`` shard address.
        progress: Called with (classes done, classes in all).

    Returns:
        How many masks the directory holds.

    Raises:
        StoreError: Bank, store and classifier do not belong together, or ``out`` is of another run.
        ModelError: The classifier has no activation maps (see ``ActivationMaps``).
        ConfigError: A named concept is not in the bank, or nothing is left to do.
        DataError: An image changed since its features were made.
    """
    bank.check_features(store.config.weights_sha256, store.config.sha256, str(store.path))
    check_made_by(store, classifier)
    chosen, run = _chosen(bank, config), RunFolder(Path(out), "{:05d}/metadata.parquet")
    run.start(
        _identity(chosen, store, config),
        holds="masks",
        refusal="holds masks of other concepts, features or settings: use the same, or write elsewhere.",
    )
    writer = _Writer(store, classifier, config, ShardImages(store.path, shards, allow_pipe=allow_pipe))
    classes = sorted(set(chosen.table["class_index"].tolist()))
    total = 0
    for done, class_index in enumerate(classes, start=1):
        if run.missing([class_index]):
            rows = np.flatnonzero(chosen.table["class_index"] == class_index)
            writer.write(run.place(class_index).parent, writer.plan(chosen.select(rows), class_index))
        total += pq.read_metadata(run.place(class_index)).num_rows
        if progress:
            progress(done, len(classes))
    return total


def _chosen(bank: ConceptBank, config: MasksConfig) -> ConceptBank:
    table = bank.table
    if config.concepts:
        missing = sorted(set(config.concepts) - set(table["concept_id"]))
        if missing:
            raise ConfigError(
                f"the bank has no concept {missing[0]!r}: expected ids such as {table['concept_id'][0]!r}."
            )
        return bank.choose(concept_ids=config.concepts)
    chosen = bank.choose(residual=False, first=config.components)
    if not len(chosen):
        raise ConfigError("the bank has no concepts to make masks of.")
    return chosen


def _identity(bank: ConceptBank, store: FeatureStore, config: MasksConfig) -> dict[str, Any]:
    """Describe everything that decides the masks."""
    directions = np.ascontiguousarray(bank.directions).tobytes()
    return {
        "schema_version": 1,
        "model": bank.info.model,
        "weights_sha256": bank.info.weights_sha256,
        "preprocess": store.config.preprocess,
        "settings": config.model_dump(mode="json"),
        "concepts": bank.table["concept_id"].tolist(),
        "directions_sha256": hashlib.sha256(directions).hexdigest(),
        "features_sha256": store.sha256,
    }


class _Writer:
    """Plans and writes one class's masks after the other."""

    def __init__(self, store: FeatureStore, classifier: Classifier, config: MasksConfig, source: ShardImages) -> None:
        self.store, self.classifier, self.config, self.source = store, classifier, config, source
        self.maps = ActivationMaps(classifier)
        self.index = TrainingIndex(store)
        self.limits = DecodeLimits.model_validate(store.config.preprocess.get("limits", {}))

    def plan(self, bank: ConceptBank, class_index: int) -> _ClassPlan:
        """Choose the images of each of one class's concepts."""
        ids = self.index.images(class_index)
        if not len(ids):
            raise DataError(f"{self.store.path} has no images of class {bank.table['class_id'][0]}: expected some.")
        scores = bank.score(self.index.features(ids))
        count = max(1, math.ceil(self.config.share * len(ids) - 1e-9))
        best = np.argsort(-scores, axis=0, kind="stable")[:count].T
        wanted = np.unique(best)
        images = self._rows(ids[wanted])
        # An image's place among the rows, which are ordered as they lie in the shards.
        place = np.empty(len(ids), np.int64)
        place[wanted[images["number"].to_numpy()]] = np.arange(len(images))
        own = [scores[chosen, concept] for concept, chosen in enumerate(best)]
        return _ClassPlan(bank, [place[chosen] for chosen in best], own, images)

    def _rows(self, ids: Indices) -> pd.DataFrame:
        found = []
        for part, place, rows in self.index.by_part(ids):
            table = part.rows(_ROW_COLUMNS).take(rows).to_pandas()
            number = np.arange(place.start, place.stop)
            found.append(table.assign(part=part.path.name, shard=part.shard, number=number))
        images = pd.concat(found, ignore_index=True)
        images["sha256"] = [digest.hex() for digest in images["sha256"]]
        ordered: pd.DataFrame = images.sort_values(["shard", "offset"], ignore_index=True)
        return ordered

    def write(self, folder: Path, plan: _ClassPlan) -> None:
        """Write one class, whole or not at all."""
        names = [f"{kind}-{number:04d}" for kind, number in plan.bank.table[["kind", "component"]].to_numpy()]
        with atomic_directory(folder) as directory:
            for name in names:
                (directory / name).mkdir()
            ranks = [dict(zip(places.tolist(), range(len(places)), strict=True)) for places in plan.places]
            for start, pixels in self._batches(plan.images):
                spatial = self.maps.spatial(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255.0)
                for concept, rank_of in enumerate(ranks):
                    mine = [i for i in range(len(pixels)) if start + i in rank_of]
                    masks = self.maps.read_out(spatial[mine], plan.bank.directions[concept], pixels.shape[1:3])
                    for i, mask in zip(mine, masks, strict=True):
                        grey = Image.fromarray(np.rint(mask * 255).astype(np.uint8))
                        grey.save(directory / names[concept] / f"{rank_of[start + i]:05d}.png")
            pq.write_table(_listing(plan, names), directory / "metadata.parquet", compression="zstd")

    def _batches(self, images: pd.DataFrame) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the place of each batch's first image and the (n, size, size, 3) pixels the model sees."""
        pixels: list[NDArray[Any]] = []
        done = 0
        rows = zip(images["key"], images["shard"], self.source.read_rows(images), strict=True)
        for key, shard, data in rows:
            decoded = decode_again(data, self.limits, f"image {key} of {shard}")
            pixels.append(self.classifier.preprocess.apply(decoded))
            if len(pixels) == _BATCH:
                yield done, np.stack(pixels)
                done += len(pixels)
                pixels = []
        if pixels:
            yield done, np.stack(pixels)


def _listing(plan: _ClassPlan, names: list[str]) -> pa.Table:
    frames = []
    concepts = plan.bank.table[["concept_id", "kind", "class_index", "class_id", "component"]]
    for row, (name, places, scores) in enumerate(zip(names, plan.places, plan.scores, strict=True)):
        images = plan.images.iloc[places].reset_index(drop=True)
        concept = concepts.iloc[[row] * len(places)].reset_index(drop=True)
        own = pd.DataFrame(
            {
                "file_name": [f"{name}/{rank:05d}.png" for rank in range(len(places))],
                "rank": np.arange(1, len(places) + 1),
                "score": scores,
            }
        )
        frames.append(pd.concat([own, concept, images], axis=1))
    return pa.Table.from_pandas(pd.concat(frames)[MASK_SCHEMA.names], schema=MASK_SCHEMA, preserve_index=False)
