"""Sensitivities of models to the concepts of one, from masks to a record.

config.json                      masks, concepts and settings; a rerun must match it
models/<name>-<hash>/            one model and input size
    model.json                   which one
    00042.parquet                one class (see ``DROP_SCHEMA``), there whole or not at all
sensitivity.json                 the record of the models asked for
sensitivity.csv                  one row per model, concept and corruption
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field

from spurious_imagenet.builders.sensitivity._masks import MaskFolder, concept_roles
from spurious_imagenet.builders.sensitivity._measure import Measurer
from spurious_imagenet.builders.sensitivity._summary import agreements, summarise
from spurious_imagenet.builders.sensitivity.record import ConceptDrop, ModelSensitivity, SensitivityRecord
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.concepts.verdict_files import inert_cell
from spurious_imagenet.io import atomic_path, canonical_json, remove_leftovers, write_json
from spurious_imagenet.models import Classifier
from spurious_imagenet.models.spec import ModelSpec
from spurious_imagenet.records import Record
from spurious_imagenet.runs import RunFolder

_HASH = 8  # digits that tell models of one file name apart


class SensitivityConfig(Record):
    """What to measure; corruptions are always all of them."""

    images: int | None = Field(default=None, ge=1)
    """Images a concept at most, those of the highest scores; all that have a mask where None. SR takes 65, 5 %."""
    seed: int = Field(default=0, ge=0)
    """Where the turns of patches and the resamples come from."""
    resamples: int = Field(default=1000, ge=1)


class SensitivityRun:
    """A directory of measurements, to which models are added one after the other.

    Args:
        masks: Masks of the images that show the concepts most.
        bank: The concepts to measure, with verdicts where there are any: masks of spurious concepts lose what overlaps
            with the class's core concepts.
        out: Directory to write; see the module for its form.
        config: What to measure.

    Raises:
        StoreError: Bank and masks do not belong together, or ``out`` is of another run.
    """

    def __init__(self, masks: MaskFolder, bank: ConceptBank, out: str | Path, config: SensitivityConfig) -> None:
        masks.check_bank(bank)
        self.masks, self.bank, self.out, self.config = masks, bank, Path(out), config
        self.roles = concept_roles(bank)
        identity = {
            "schema_version": 1,
            "masks_sha256": self.masks.sha256,
            "roles_sha256": hashlib.sha256(canonical_json(self.roles).encode()).hexdigest(),
            "images": self.config.images,
            "seed": self.config.seed,
        }
        RunFolder(self.out).start(
            identity,
            holds="sensitivities",
            refusal="holds sensitivities of other masks, verdicts or settings: use the same, or write to another "
            "directory.",
        )

    def measure(
        self,
        classifier: Classifier,
        *,
        device: str = "auto",
        backend: str = "auto",
        workers: int | None = None,
        shards: tuple[str, ...] = (),
        allow_pipe: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> ModelSensitivity:
        """Measure one model; classes that an earlier run finished are skipped.

        Args:
            classifier: Any model that has the masks' classes.
            device: Where to run.
            backend: How to run.
            workers: Threads.
            shards: Where the shards are now, if they are not where the masks say.
            allow_pipe: Run the command of a ``pipe:`` shard address.
            progress: Called with (classes done, classes in all).

        Raises:
            ModelError: The model lacks a class, has a custom transform, or gives no finite logits.
            DataError: An image or mask cannot be read, or changed.
        """
        name = _name(classifier)
        root = self.out / "models" / name
        files = [root / f"{folder.name}.parquet" for folder in self.masks.folders]
        done = sum(file.is_file() for file in files)
        if done < len(files):
            root.mkdir(parents=True, exist_ok=True)
            remove_leftovers(root)
            write_json(root / "model.json", _identity(classifier))
            runner = classifier.backend(backend, device=device, workers=workers)
            measurer = Measurer(
                self.masks,
                classifier,
                runner,
                seed=self.config.seed,
                workers=workers,
                shards=shards,
                allow_pipe=allow_pipe,
            )
            for file, folder in zip(files, self.masks.folders, strict=True):
                if not file.is_file():
                    table = measurer.measure(self.masks.read(folder, self.roles, self.config.images))
                    with atomic_path(file) as temporary:
                        pq.write_table(table, temporary, compression="zstd")
                    done += 1
                if progress:
                    progress(done, len(files))
        return summarise(
            files,
            self.bank,
            model=classifier.spec,
            name=name,
            weights_sha256=classifier.weights_sha256,
            seed=self.config.seed,
            resamples=self.config.resamples,
        )

    def finish(self, models: Sequence[ModelSensitivity]) -> SensitivityRecord:
        """Write the record and the table of some models, and return the record.

        A model keeps the hash in its name only where it needs it to be told from another.
        """
        stems = [model.name[: -_HASH - 1] for model in models]
        models = [
            model.model_copy(update={"name": stem}) if stems.count(stem) == 1 else model
            for model, stem in zip(models, stems, strict=True)
        ]
        record = SensitivityRecord(
            code_version=version("spurious-imagenet"),
            masks=str(self.masks.path),
            masks_sha256=self.masks.sha256,
            concept_model=self.masks.model,
            images=self.config.images,
            seed=self.config.seed,
            resamples=self.config.resamples,
            models=tuple(models),
            agreement=tuple(agreements(models)),
        )
        with (
            atomic_path(self.out / "sensitivity.csv") as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            _write_csv(csv.writer(file, lineterminator="\n"), models)
        record.write(self.out / "sensitivity.json")
        return record


def _identity(classifier: Classifier) -> dict[str, Any]:
    return {
        "model": classifier.spec,
        "weights_sha256": classifier.weights_sha256,
        "classes_sha256": hashlib.sha256("\n".join(classifier.labels.class_ids).encode()).hexdigest(),
        "preprocess": repr(classifier.preprocess),
    }


def _name(classifier: Classifier) -> str:
    """Name a model by its spec, and by a hash of all that decides its answers."""
    stem = ModelSpec.parse(classifier.spec).address.rsplit("/", 1)[-1].removesuffix(".safetensors")
    content = {k: v for k, v in _identity(classifier).items() if k != "model"}
    digest = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    return f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in stem)[:60]}-{digest[:_HASH]}"


def _write_csv(writer: Any, models: Sequence[ModelSensitivity]) -> None:
    columns = [name for name in ConceptDrop.model_fields if name != "interval"]
    writer.writerow(["model", *columns, "drop_low", "drop_high"])
    for model in models:
        for drop in model.concepts:
            values = [getattr(drop, name) for name in columns]
            cells = [inert_cell(v) if isinstance(v, str) else v for v in (model.name, *values)]
            writer.writerow([*cells, drop.interval.low, drop.interval.high])
