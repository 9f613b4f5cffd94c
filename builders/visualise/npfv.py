"""Neural PCA feature visualisations: the image that maximises each concept of a class (SFE section 4).

See :mod:`~spurious_imagenet.builders.visualise._npfv_store` for what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, PositiveInt
from torch import Tensor

from spurious_imagenet.builders.features import FeaturesConfig
from spurious_imagenet.builders.features.extract import store_config
from spurious_imagenet.builders.visualise._npfv_store import NPFV_SCHEMA, NpfvStore
from spurious_imagenet.builders.visualise.apgd import FIRST_STEP, Objective, maximise
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.io import atomic_directory
from spurious_imagenet.models import Classifier
from spurious_imagenet.models.devices import Precision, autocast, pick_device
from spurious_imagenet.models.network import FeatureNetwork
from spurious_imagenet.records import Record
from spurious_imagenet.runs import RunFolder

__all__ = ["NpfvConfig", "NpfvStore", "check_fit", "eps_at", "make_npfvs", "on_device", "read_out", "to_uint8"]

_GREY = 0.5
_SIDE = 224  # px, at which the paper states its budget
_BATCH = {"cpu": 16}  # fits a processor's cache; more is no faster
_GPU_BATCH = 128


class NpfvConfig(Record):
    """Of which concepts to make images, and how."""

    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Ids of the classes to do; if left out, all of the bank."""
    top: PositiveInt = 128
    """Concepts a class: by eigenvalue, neural features by importance, others in the bank's order."""
    choose: PositiveInt = 10
    """Of these, the most confident to choose."""
    steps: PositiveInt = 200
    eps: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """Largest L2 norm of the change from grey at 224 px, over all pixel values 0..1; see :func:`eps_at`."""
    first_step: float = Field(default=0.3, gt=0, le=FIRST_STEP)
    """First step of the search as a share of the budget. Published is 2, which suits robust networks; from 0.3 on
    those that are not reach higher scores (7 % on efficientnet_lite0)."""
    precision: Precision = "float32"
    """Autocast precision of the network; the search itself is float32."""
    device: str = "auto"
    batch_size: PositiveInt | None = None
    """Images at once; 16 on a CPU and 128 elsewhere where left out. Changes the images by rounding alone."""


def eps_at(eps: float, side: int) -> float:
    """Scale a budget that is stated for 224 px to another image side, so that the change a pixel stays the same.

    Args:
        eps: L2 norm over all pixel values of an image of 224 px.
        side: Image side, px.
    """
    return eps * side / _SIDE


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Round (B, 3, H, W) images in [0, 1] to (B, H, W, 3) uint8."""
    pixels: NDArray[np.uint8] = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(pixels)


def on_device(classifier: Classifier, device: torch.device) -> FeatureNetwork:
    """Return a copy of the network for float images in [0, 1] on a device, channels last.

    Raises:
        ModelError: Images in [0, 1] are not what enters the model, since a custom transform normalises them.
    """
    if not isinstance(classifier.preprocess, Preprocess):
        raise ModelError(
            f"{classifier.spec} has a custom transform, so pixels in [0, 1] are not known to it: use a Preprocess."
        )
    return deepcopy(classifier.network).to(device).to(memory_format=torch.channels_last)


def read_out(network: FeatureNetwork, directions: Tensor, offsets: Tensor, precision: Precision) -> Objective:
    """Return the objective ``φ(x_i) · directions[i] + offsets[i]`` of images in [0, 1].

    Args:
        network: On the images' device.
        directions: (B, D), or (1, D) for all images.
        offsets: (B,) or (1,).
        precision: Autocast precision.
    """

    def objective(images: Tensor) -> Tensor:
        with autocast(images.device, precision):
            features, _ = network.from_unit(images)
        return (features.float() * directions).sum(1) + offsets

    return objective


def make_npfvs(
    classifier: Classifier,
    bank: ConceptBank,
    out: str | Path,
    config: NpfvConfig | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NpfvStore:
    """Make the images that maximise the concepts of a bank, from grey, and choose the most confident of each class.

    A class appears whole or not at all. A rerun makes the classes that are missing.

    Args:
        classifier: The bank's model, with the preprocessing of the bank's features.
        bank: Concepts; residual rows get no image.
        out: New folder, or one of the same configuration, bank and model.
        config: What to make; the paper's settings where left out.
        progress: Called with (steps done, steps in all) of the images that are still to be made, and before the first.

    Raises:
        StoreError: The bank reads features of another model, or ``out`` is of another configuration.
        ConfigError: A class is not in the bank, or the bank has two concepts of one number in a class.
    """
    config = config or NpfvConfig()
    device, tell, root = pick_device(config.device), progress or (lambda *_: None), Path(out)
    network = on_device(classifier, device)
    rows = _rows_by_class(bank, config)
    check_fit(classifier, bank)
    run = RunFolder(root)
    run.start(
        _identity(classifier, bank, config),
        holds="feature visualisations",
        refusal="was made with other settings, another bank or model: use the same, or another place.",
    )
    batch_size = config.batch_size or _BATCH.get(device.type, _GPU_BATCH)
    work = _Work(network, bank, classifier.preprocess.size, config, device)
    missing = set(run.missing(rows))
    # A group holds classes whole, so that batches are the same after an interruption.
    groups = [group for group in _groups(rows, batch_size) if missing.intersection(group)]
    done, total = 0, config.steps * sum(len(rows[k]) for group in groups for k in group)

    def count(images: int) -> None:
        nonlocal done
        done += images
        tell(done, total)

    count(0)
    for classes in groups:
        found = work.run([row for k in classes for row in rows[k]], batch_size, count)
        for k in (k for k in classes if k in missing):
            _write_class(run.place(k), bank, {row: found[row] for row in rows[k]}, config.choose)
    return NpfvStore.open(root)


def check_fit(classifier: Classifier, bank: ConceptBank) -> None:
    """Refuse a classifier whose features a bank does not read: another model, or another image size.

    Raises:
        StoreError: It is one of these.
    """
    configs = [
        store_config(classifier, FeaturesConfig(model=classifier.spec, shards=("-",), precision=p)).sha256
        for p in get_args(Precision)
    ]
    known = bank.info.feature_config_sha256
    what = f"{classifier.spec} at {classifier.preprocess.size} px"
    bank.check_features(classifier.weights_sha256, known if known in configs else configs[0], what)


def _rows_by_class(bank: ConceptBank, config: NpfvConfig) -> dict[int, list[int]]:
    """Return the wanted rows of each class, the most important first."""
    table = bank.table.reset_index(drop=True)
    table = table[table["component"] >= 0]
    if config.classes is not None:
        if missing := sorted(set(config.classes) - set(table["class_id"])):
            raise ConfigError(f"the bank has no class {missing[0]!r}: expected ids such as {table['class_id'].iat[0]}.")
        table = table[table["class_id"].isin(config.classes)]
    if twice := table.loc[table.duplicated(["class_index", "component"]), "concept_id"].tolist():
        raise ConfigError(f"the bank has two concepts of the class and number of {twice[0]}: visualise one kind each.")
    keys = [c for c in ("eigenvalue", "importance_rank") if c in table.columns]
    ranked = table.sort_values(keys, ascending=[c != "eigenvalue" for c in keys], kind="stable") if keys else table
    by_class = ranked.groupby("class_index", sort=True)
    rows = {int(str(k)): [int(row) for row in group.index[: config.top]] for k, group in by_class}
    if not rows:
        raise ConfigError("the bank has no concept to visualise.")
    return rows


def _groups(rows: dict[int, list[int]], batch_size: int) -> Iterator[list[int]]:
    """Put classes of few concepts together, so that batches are full; the groups do not depend on what is done."""
    group: list[int] = []
    size = 0
    for k, own in rows.items():
        if group and size + len(own) > batch_size:
            yield group
            group, size = [], 0
        group.append(k)
        size += len(own)
    yield group


def _identity(classifier: Classifier, bank: ConceptBank, config: NpfvConfig) -> dict[str, Any]:
    size = classifier.preprocess.size
    return {
        "schema_version": 1,
        "settings": config.model_dump(mode="json", exclude={"classes", "device", "batch_size"}),
        "image_size": size,
        "eps_at_image_size": eps_at(config.eps, size),
        "model": bank.info.model,
        "weights_sha256": classifier.weights_sha256,
        "bank_sha256": bank.sha256,
    }


@dataclass(frozen=True)
class _Found:
    """One image and what was measured of it."""

    pixels: NDArray[np.uint8]
    objective: float
    start_objective: float
    confidence: float


class _Work:
    """Makes batches of images."""

    def __init__(
        self, network: FeatureNetwork, bank: ConceptBank, size: int, config: NpfvConfig, device: torch.device
    ) -> None:
        self._network, self._bank, self._config, self._device = network, bank, config, device
        self._eps, self._shape = eps_at(config.eps, size), (3, size, size)
        self._class_index = bank.table["class_index"].to_numpy(dtype=np.int64)

    def run(self, rows: list[int], batch_size: int, tell: Callable[[int], None]) -> dict[int, _Found]:
        """Return what was found for rows of the bank, in batches of about equal size; tell of each batch's steps."""
        found: dict[int, _Found] = {}
        for part in np.array_split(rows, -(-len(rows) // batch_size)):
            found.update(zip(part.tolist(), self._batch(part, tell), strict=True))
        return found

    def _batch(self, rows: NDArray[np.int64], tell: Callable[[int], None]) -> Iterable[_Found]:
        directions = torch.from_numpy(self._bank.directions[rows]).to(self._device)
        offsets = torch.from_numpy(self._bank.offsets[rows]).to(self._device)
        start = torch.full((len(rows), *self._shape), _GREY, device=self._device)
        start = start.contiguous(memory_format=torch.channels_last)
        objective = read_out(self._network, directions, offsets, self._config.precision)
        search = partial(maximise, first_step=self._config.first_step, on_step=lambda _: tell(len(rows)))
        best = search(objective, start, self._eps, self._config.steps)
        with torch.inference_mode(), autocast(self._device, self._config.precision):
            _, logits = self._network.from_unit(best.images)
        classes = torch.from_numpy(self._class_index[rows]).to(self._device)
        confidence = logits.float().softmax(1).gather(1, classes[:, None])[:, 0]
        values = (v.cpu().tolist() for v in (best.objective, best.start_objective, confidence))
        return map(_Found, to_uint8(best.images), *values)


def _write_class(folder: Path, bank: ConceptBank, found: dict[int, _Found], choose: int) -> None:
    table = bank.table.iloc[list(found)]
    confidence = np.array([f.confidence for f in found.values()])
    best = np.argsort(-confidence, kind="stable")[:choose]  # of equal confidence the more important concept
    rank = {int(place): i for i, place in enumerate(best, start=1)}
    with atomic_directory(folder) as made:
        rows = []
        for i, (concept, image) in enumerate(zip(table.to_dict("records"), found.values(), strict=True)):
            name = f"{int(concept['component']):04d}.png"
            Image.fromarray(image.pixels).save(made / name)
            about = {c: concept[c] for c in ("concept_id", "class_index", "component")}
            about |= {"file": f"{folder.name}/{name}", "objective": image.objective, "confidence": image.confidence}
            about |= {"start_objective": image.start_objective, "chosen": i in rank, "chosen_rank": rank.get(i)}
            rows.append(about)
        pq.write_table(pa.Table.from_pylist(rows, schema=NPFV_SCHEMA), made / "npfv.parquet", compression="zstd")
