"""The passes over the images of one model: one for each side and transform, whatever is measured from them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from spurious_imagenet.benchmark.evaluation._output_cache import OutputCache, OutputsConfig
from spurious_imagenet.datasets.labelled import LabelledImage, LabelledImages
from spurious_imagenet.datasets.predictions import Side
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.datasets.spurious import SpuriousDataset
from spurious_imagenet.datasets.validation import SeenImages, once_each, validation_images
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS
from spurious_imagenet.images import CustomTransform, Preprocess, Protocol
from spurious_imagenet.models.inference import ImageRunner

if TYPE_CHECKING:
    from spurious_imagenet.models import Classifier


@dataclass(frozen=True)
class EvalOptions:
    """How models are measured; see :func:`evaluate`."""

    outputs: Path | None = None
    rankings: Rankings | None = None
    rankings_name: str = "rankings"
    resamples: int = 1000
    seed: int = 0
    device: str = "auto"
    backend: str = "auto"
    workers: int | None = None
    max_label_problems: float = MAX_LABEL_PROBLEMS
    progress: Callable[[int], None] | None = None


@dataclass(eq=False)
class ForwardCache:
    """The passes over the images of one model: one for each side and transform, whatever protocols want it."""

    classifier: Classifier
    data: SpuriousDataset
    val: str
    root: Path
    how: EvalOptions
    runner: ImageRunner = field(init=False)
    _outputs: dict[str, OutputCache] = field(default_factory=dict)
    _done: dict[tuple[str, Side], LabelledImages] = field(default_factory=dict)
    seen: SeenImages = field(default_factory=SeenImages)
    copies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        backend = self.classifier.backend(self.how.backend, device=self.how.device, workers=self.how.workers)
        self.runner = ImageRunner(backend, self.classifier.preprocess, workers=self.how.workers)

    def side(self, protocol: Protocol, side: Side) -> tuple[LabelledImages, OutputCache]:
        """Return the images of a side and their outputs through the transform that a protocol prescribes."""
        transform = self.classifier.preprocess.for_protocol(protocol, side)
        config = OutputsConfig(
            model=self.classifier.spec,
            weights_sha256=self.classifier.weights_sha256,
            temperature=self.classifier.network.temperature,
            transform=describe_transform(transform) | _fingerprint(transform),
            backend=self.runner.backend.name,
        )
        key = config.sha256
        if key not in self._outputs:
            self._outputs[key] = OutputCache.within(self.root, config)
        outputs = self._outputs[key]
        if (key, side) not in self._done:
            images = self._validation() if side == "validation" else self._spurious()
            found = outputs.add(images, self.runner, transform, self.how.progress)
            if side == "validation":
                table, self.copies = once_each(found.table)
                found = replace(found, table=table)
            self._done[key, side] = found
            (self._check_validation if side == "validation" else self._check_spurious)(self._done[key, side])
        return self._done[key, side], outputs

    def _validation(self) -> Iterator[LabelledImage]:
        labels, self.seen = self.classifier.labels, SeenImages(self.how.max_label_problems)
        for image in validation_images(self.val, set(labels.class_ids), labels, self.seen):
            yield LabelledImage("validation", image.class_id, None, image.name, image.read)

    def remarks(self) -> list[str]:
        """Say what a reader of the numbers must know of the validation images, one sentence each."""
        return [*self.seen.remarks(), *self.copies]

    def _spurious(self) -> Iterator[LabelledImage]:
        for row, image in enumerate(self.data):
            read = partial(bytes, image.data)
            yield LabelledImage("spurious", image.class_id, image.concept_id, f"row {row}", read)

    def _check_validation(self, images: LabelledImages) -> None:
        have = set(images.table["class_id"])
        missing = [c for c in self.data.class_names if c not in have]
        if missing:
            raise DataError(
                f"{self.val} has no readable validation image of {len(missing)} classes, such as {missing[0]!r}. "
                f"{' '.join(self.remarks())}".rstrip()
            )

    def _check_spurious(self, images: LabelledImages) -> None:
        if images.rejects:
            first = images.rejects[0]
            raise DataError(
                f"{len(images.rejects)} images of dataset {self.data.name} cannot be read, the first of concept "
                f"{first.concept_id!r}: {first.reason}."
            )


def describe_transform(transform: Preprocess | CustomTransform) -> dict[str, Any]:
    """Say in JSON what a transform does; a callable only by how it prints."""
    if isinstance(transform, BaseModel):
        return transform.model_dump(mode="json")
    # An address in memory is another in every run.
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(transform.transform).split()))
    return {"custom": text[:500], "size": transform.size}


def _fingerprint(transform: Preprocess | CustomTransform) -> dict[str, str]:
    """Tell callables apart that print alike, by what they make of one picture."""
    if isinstance(transform, Preprocess):
        return {}
    picture = np.random.default_rng(0).integers(0, 256, (257, 301, 3), dtype=np.uint8)
    return {"fingerprint": hashlib.sha256(transform.apply(picture).tobytes()).hexdigest()}
