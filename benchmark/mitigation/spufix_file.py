"""Spufix: what SpuFix takes off a model's logits, as linear read-outs of its features; and the file that holds it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.errors import ModelError, one_line
from spurious_imagenet.models.labels import LabelSpace
from spurious_imagenet.records import Record
from spurious_imagenet.tensors import load_arrays, read_metadata, save_arrays

if TYPE_CHECKING:
    from spurious_imagenet.models.classifier import Classifier

__all__ = ["SPUFIX_METADATA_KEY", "Spufix", "SpufixClass", "SpufixDirection", "SpufixInfo", "labels_digest"]

SPUFIX_METADATA_KEY = "spurious_imagenet_spufix"

_SCHEMA_VERSION = 1


class SpufixDirection(Record):
    """One concept that is taken out of its class's logit."""

    concept_id: str
    class_id: str
    component: int
    alpha_correlation: float | None = None
    """Pearson correlation, over the class's training images, of what this model reads with the scoring model's α: how
    well the model sees the concept. None where the model is the scoring model."""


class SpufixClass(Record):
    """The training images of one class."""

    class_id: str
    images: int
    """Images with both α and features: those that were used."""
    without_alpha: int
    """Images of the model's feature store that have no α."""
    without_features: int
    """Images with α that the model's feature store lacks."""
    changed: int
    """Of the images used, those whose logit is corrected."""


class SpufixInfo(Record):
    """What a correction belongs to and where it comes from, kept in its file's metadata."""

    schema_version: int = _SCHEMA_VERSION
    code_version: str
    model: str
    """Spec of the model whose logits are corrected."""
    weights_sha256: str
    image_size: int
    """Input side with which that model is loaded again, px."""
    label_space: str
    labels_sha256: str
    """Hash of the ids of its classes, in order."""
    scorer: str
    """Spec of the model whose concepts were found spurious, or the name of the file that holds its α."""
    scorer_sha256: str
    """Hash of that model's weights, or of that file."""
    readout: str = "last layer"
    """Whose weight makes ψ of the features: the last layer, the main head, the mean of several."""
    directions: tuple[SpufixDirection, ...]
    dropped: tuple[dict[str, str], ...] = ()
    """Concepts that have no direction of their own in this model, each with its reason."""
    classes: tuple[SpufixClass, ...] = ()
    """What the training images of each class were; empty where none were looked at."""


@dataclass(frozen=True, eq=False)
class Spufix:
    """The correction of one model's logits (SFE eq. 8 and 11).

    The logit of class ``class_index[m]``, before any temperature, loses ``max(φ · readouts[m] + offsets[m], 0)`` for
    each m. Logits of all other classes stay as they are, bit for bit.

    Attributes:
        readouts: (M, D) float32.
        offsets: (M,) float32.
        class_index: (M,) int64, indices of the model's outputs.
        info: Whose logits these are; ``info.directions`` describes the M rows.
    """

    readouts: NDArray[np.float32]
    offsets: NDArray[np.float32]
    class_index: NDArray[np.int64]
    info: SpufixInfo

    def __post_init__(self) -> None:
        count = len(self.info.directions)
        if self.readouts.ndim != 2 or not len(self.readouts) == len(self.offsets) == len(self.class_index) == count:
            raise ModelError(
                f"correction is torn: readouts {self.readouts.shape}, offsets {self.offsets.shape}, classes "
                f"{self.class_index.shape} and {count} described directions, expected as many of each."
            )
        if not (np.isfinite(self.readouts).all() and np.isfinite(self.offsets).all()):
            raise ModelError("correction holds NaN or infinite numbers: expected finite ones.")

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """(C,) outputs that are corrected, ascending."""
        return np.unique(self.class_index)

    def removed(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return what each class in :attr:`classes` loses: (N, C) float32, undivided logits, at least 0.

        Args:
            features: (N, D) penultimate features of the model.
        """
        if features.shape[1:] != self.readouts.shape[1:] and len(self):
            raise ModelError(
                f"the correction reads {self.readouts.shape[1]} features of {self.info.model}, got {features.shape}."
            )
        losses = np.zeros((len(features), len(self.classes)), np.float32)
        scores = features.astype(np.float32, copy=False) @ self.readouts.T if len(self) else losses
        for m, column in enumerate(np.searchsorted(self.classes, self.class_index)):
            losses[:, column] += np.maximum(scores[:, m] + self.offsets[m], 0)
        return losses

    def check_model(self, classifier: Classifier) -> None:
        """Refuse a model that the correction does not belong to.

        Raises:
            ModelError: It has other weights or other classes, or the correction contradicts itself.
        """
        if classifier.weights_sha256 != self.info.weights_sha256:
            raise ModelError(
                f"the correction was made for {self.info.model} (weights {self.info.weights_sha256[:12]}), but "
                f"{classifier.spec} has weights {classifier.weights_sha256[:12]}: transfer it to this model first."
            )
        if labels_digest(classifier.labels) != self.info.labels_sha256:
            raise ModelError(
                f"the correction is for the classes of {self.info.label_space!r}, but {classifier.spec} has the "
                f"{len(classifier.labels)} of {classifier.labels.name!r}: expected the same classes in the same order."
            )
        expected = [classifier.labels.get(row.class_id) for row in self.info.directions]
        if expected != self.class_index.tolist() or self.readouts.shape[1] != classifier.feature_dim:
            raise ModelError(
                f"the correction is torn: it reads {self.readouts.shape[1]} features for the outputs "
                f"{self.classes.tolist()[:3]}…, expected the {classifier.feature_dim} features of {classifier.spec} "
                "and the outputs of the classes that it names."
            )

    def save(self, path: str | Path) -> None:
        """Write the correction as safetensors, whole or not at all."""
        tensors: dict[str, NDArray[Any]] = {
            "readouts": self.readouts,
            "offsets": self.offsets,
            "class_index": self.class_index,
        }
        save_arrays(path, tensors, {SPUFIX_METADATA_KEY: self.info.model_dump_json()})

    @classmethod
    def load(cls, path: str | Path) -> Spufix:
        """Read a correction.

        Raises:
            ModelError: The file is missing, torn, of another schema or something else.
        """
        if not Path(path).is_file():
            raise ModelError(f"there is no file {path}.")
        try:
            text, tensors = read_metadata(path).get(SPUFIX_METADATA_KEY), load_arrays(path)
            info = None if text is None else SpufixInfo.model_validate_json(text)
        except Exception as error:
            raise ModelError(f"{path} is not a readable SpuFix file: {one_line(error)}") from error
        if info is None or set(tensors) != {"readouts", "offsets", "class_index"}:
            raise ModelError(f"{path} holds no SpuFix correction: expected a file that `spurious spufix` wrote.")
        if info.schema_version != _SCHEMA_VERSION:
            raise ModelError(f"{path} has schema {info.schema_version}: expected {_SCHEMA_VERSION}.")
        return cls(
            tensors["readouts"].astype(np.float32),
            tensors["offsets"].astype(np.float32),
            tensors["class_index"].astype(np.int64),
            info,
        )


def labels_digest(labels: LabelSpace) -> str:
    """Hash the ids of a model's classes, in order."""
    return hashlib.sha256("\n".join(labels.class_ids).encode()).hexdigest()
