"""OutputCache: what a classifier gives for images, kept once, whatever is measured from it afterwards.

Features and logits belong to an image's bytes, a model and a transform; which class or concept an image stands for does
not change them. So they are found by the SHA-256 of the image's bytes, and every side, protocol, measure and mitigation
that needs the same image through the same transform reads the same numbers:

    <first 16 digits of the configuration's hash>/
        outputs.json              model, weights, transform, backend
        parts/<hash of its images>/
            features.npy          (n, D) float32, memory-mapped when read
            logits.npy            (n, K) float32, memory-mapped when read
            receipt.json          the images' hashes, those that cannot be decoded with reasons, hashes of both files
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.datasets.labelled import IMAGE_COLUMNS, LabelledImage, LabelledImages, RejectedImage, read_ahead
from spurious_imagenet.errors import ModelError, StoreError
from spurious_imagenet.folder_lock import lock_folder
from spurious_imagenet.images import ImageTransform
from spurious_imagenet.io import sha256_file
from spurious_imagenet.models.inference import BatchOutput, ImageRunner
from spurious_imagenet.part_store import PartStore, config_sha256
from spurious_imagenet.records import Record

Floats = NDArray[np.float32]

#: A part is written after so many new images.
PART_IMAGES = 512


class OutputsConfig(Record):
    """What made the outputs; equal configurations give interchangeable outputs."""

    schema_version: int = 1
    model: str
    weights_sha256: str
    temperature: float
    transform: dict[str, Any]
    backend: str

    @property
    def sha256(self) -> str:
        """Hash of everything that changes the outputs (where the weights were found does not)."""
        return config_sha256(self)


class _Receipt(Record):
    """What one part holds."""

    config_sha256: str
    images: tuple[str, ...]
    rejects: dict[str, str]
    features_sha256: str
    logits_sha256: str


@dataclass(frozen=True, eq=False)
class _Part:
    receipt: _Receipt
    features: Floats
    logits: Floats


class OutputCache:
    """Features and logits of one model through one transform.

    Args:
        path: Where they are kept; made where it is missing, gone on with where it is there.
        config: What makes them.

    Raises:
        StoreError: What is there belongs to another model or transform, or has changed since it was written; or another
            process is at work in the folder.
    """

    def __init__(self, path: str | Path, config: OutputsConfig) -> None:
        self.path, self.config = Path(path), config
        self._store = PartStore(self.path)
        self._parts: list[_Part] = []
        self._place: dict[str, tuple[int, int]] = {}
        self._rejects: dict[str, str] = {}
        self.path.mkdir(parents=True, exist_ok=True)
        # What looks like a killed run's leftover may be what another process is writing.
        self._lock = lock_folder(self.path)
        self._open()
        for folder in self._store.folders:
            self._include(_read_part(folder, config))

    @classmethod
    def within(cls, root: str | Path, config: OutputsConfig) -> OutputCache:
        """Open the outputs of one configuration in a folder for those of many."""
        return cls(Path(root) / config.sha256[:16], config)

    def _open(self) -> None:
        file = self.path / "outputs.json"
        if file.exists():
            found = OutputsConfig.read(file, "the configuration of stored outputs", StoreError)
            if found.sha256 != self.config.sha256:
                raise StoreError(
                    f"{self.path} holds outputs of {found.model} (weights {found.weights_sha256[:12]}), not of "
                    f"{self.config.model} (weights {self.config.weights_sha256[:12]}) with this transform and backend."
                )
        else:
            self.config.write(file)
        self._store.prepare()

    def _include(self, part: _Part) -> None:
        self._place |= {digest: (len(self._parts), row) for row, digest in enumerate(part.receipt.images)}
        self._rejects |= part.receipt.rejects
        self._parts.append(part)

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._place

    def add(
        self,
        images: Iterable[LabelledImage],
        runner: ImageRunner,
        transform: ImageTransform,
        progress: Callable[[int], None] | None = None,
    ) -> LabelledImages:
        """Make the outputs of images that have none yet; every image is read once, and its bytes decoded at most once.

        Args:
            images: The images, gone through once.
            runner: Runs the model that the configuration names.
            transform: The transform that the configuration describes.
            progress: Called with the number of images that were read since the last call.

        Raises:
            ModelError: The model gives NaN or infinite logits.
        """
        seen: list[tuple[Any, ...]] = []
        queued: list[tuple[str, str]] = []

        def new() -> Iterator[Callable[[], bytes]]:
            pending: set[str] = set()
            for image, data, digest in read_ahead(images):
                seen.append((image.side, image.class_id, image.concept_id, image.name, digest))
                if progress:
                    progress(1)
                if digest not in self._place and digest not in self._rejects and digest not in pending:
                    pending.add(digest)
                    queued.append((digest, image.name))
                    yield data.__bytes__

        waiting: list[BatchOutput] = []
        for output in runner.run(new(), transform):
            self._check_finite(output, queued)
            waiting.append(output)
            # Parts end with a batch, so that a run that goes on makes the same batches as one that was never killed.
            if sum(len(o.index) + len(o.rejects) for o in waiting) >= PART_IMAGES:
                self._write(waiting, queued)
                waiting = []
        if waiting:
            self._write(waiting, queued)
        table = pd.DataFrame(seen, columns=list(IMAGE_COLUMNS), dtype=object)
        rejected = table["sha256"].isin(self._rejects.keys())
        rejects = [RejectedImage(s[2], s[3], self._rejects[s[4]]) for s in seen if s[4] in self._rejects]
        return LabelledImages(table[~rejected].reset_index(drop=True), tuple(rejects))

    def read(self, sha256: Sequence[str]) -> tuple[Floats, Floats]:
        """Return (n, D) float32 features and (n, K) float32 logits of images that were added.

        Raises:
            StoreError: One was not.
        """
        missing = next((digest for digest in sha256 if digest not in self._place), None)
        if missing is not None or not len(sha256):
            raise StoreError(f"{self.path} has no outputs of image {missing}: expected images that were added.")
        part, row = np.array([self._place[digest] for digest in sha256]).T
        found = [self._parts[p] for p in np.unique(part)]
        features = np.empty((len(row), found[0].features.shape[1]), np.float32)
        logits = np.empty((len(row), found[0].logits.shape[1]), np.float32)
        for p, held in zip(np.unique(part), found, strict=True):
            features[part == p] = held.features[row[part == p]]
            logits[part == p] = held.logits[row[part == p]]
        return features, logits

    def _check_finite(self, output: BatchOutput, queued: list[tuple[str, str]]) -> None:
        finite = np.isfinite(output.logits).all(axis=1)
        if not finite.all():
            name = queued[int(output.index[finite.argmin()])][1]
            raise ModelError(f"{self.config.model} gave NaN or infinite logits for {name}: expected finite numbers.")

    def _write(self, outputs: list[BatchOutput], queued: list[tuple[str, str]]) -> None:
        rejects = {queued[i][0]: reason for output in outputs for i, reason in output.rejects}
        scored = [output for output in outputs if len(output.index)]
        images = tuple(queued[i][0] for output in scored for i in output.index)
        features = np.concatenate([o.features for o in scored]) if scored else np.zeros((0, 0), np.float32)
        logits = np.concatenate([o.logits for o in scored]) if scored else np.zeros((0, 0), np.float32)
        identity = "".join([*images, *sorted(rejects)])
        name = hashlib.sha256(identity.encode()).hexdigest()[:16]
        with self._store.write(name) as part:
            receipt = _Receipt(
                config_sha256=self.config.sha256,
                images=images,
                rejects=rejects,
                features_sha256=part.save("features.npy", features),
                logits_sha256=part.save("logits.npy", logits),
            )
            part.say(receipt)
        self._include(_mapped_part(self._store.place(name), receipt))


def _read_part(path: Path, config: OutputsConfig) -> _Part:
    receipt = _Receipt.read(path / "receipt.json", "the receipt of stored outputs", StoreError)
    if receipt.config_sha256 != config.sha256:
        raise StoreError(f"{path} holds outputs of another model, transform or backend than {path.parents[1]} says.")
    for name, expected in (("features.npy", receipt.features_sha256), ("logits.npy", receipt.logits_sha256)):
        if not (path / name).is_file() or sha256_file(path / name) != expected:
            raise StoreError(f"{path / name} is missing or has changed since it was written: remove {path}.")
    return _mapped_part(path, receipt)


def _mapped_part(path: Path, receipt: _Receipt) -> _Part:
    return _Part(receipt, _mapped(path / "features.npy"), _mapped(path / "logits.npy"))


def _mapped(file: Path) -> Floats:
    try:
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except ValueError:  # nothing in it: what is empty cannot be mapped
        return np.asarray(np.load(file, allow_pickle=False))
