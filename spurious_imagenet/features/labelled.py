"""The training images of each class in a feature store, and what every bank made from them must check and say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel

from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.features.store import FeaturePart, FeatureStore
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.labels import LabelSpace, of_classes

if TYPE_CHECKING:
    from spurious_imagenet.models.classifier import Classifier

__all__ = ["Indices", "StoredImages", "TrainingIndex", "bank_info", "check_made_by", "check_store", "made_of"]

Indices = NDArray[np.int64]


class StoredImages:
    """The images of a store; an image's id is its place in the order of (part, row).

    Args:
        store: The store.
    """

    def __init__(self, store: FeatureStore) -> None:
        self.parts: tuple[FeaturePart, ...] = store.parts
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def by_part(self, images: Indices) -> Iterator[tuple[FeaturePart, slice, Indices]]:
        """Split ascending image ids by part: yield each part, the ids' place among ``images``, and their rows."""
        cuts = np.searchsorted(images, self.starts)
        for part, start, first, last in zip(self.parts, self.starts, cuts, cuts[1:], strict=False):
            if last > first:
                yield part, slice(first, last), images[first:last] - start

    def features(self, images: Indices, dim: int) -> NDArray[np.float16]:
        """Read the (n, D) features of ascending image ids.

        Raises:
            DataError: One is NaN or infinite.
        """
        features = np.empty((len(images), dim), np.float16)
        for part, place, rows in self.by_part(images):
            features[place] = part.features()[rows]
            finite = np.isfinite(features[place]).all(axis=1)
            if not finite.all():
                raise DataError(f"row {rows[finite.argmin()]} of part {part.path.name} has a NaN or infinite feature.")
        return features

    def keys(self, images: list[Indices]) -> list[list[str]]:
        """Return "part/key" of each list's image ids, reading each part's rows once."""
        wanted, inverse = np.unique(np.concatenate(images), return_inverse=True)
        keys = np.empty(len(wanted), dtype=object)
        for part, place, rows in self.by_part(wanted):
            column = part.rows(["key"]).column("key").take(rows).to_pylist()
            keys[place] = [f"{part.path.name}/{key}" for key in column]
        ends = np.cumsum([len(ids) for ids in images])
        return [found.tolist() for found in np.split(keys[inverse], ends[:-1])]


class TrainingIndex(StoredImages):
    """Which images of a store belong to which class.

    Args:
        store: The store.
        num_classes: Labels run from 0 to one less; -1 means none.
        predicted: Count an image to its class only where the model assigns it to that class.

    Raises:
        DataError: A label is out of range.
    """

    def __init__(self, store: FeatureStore, num_classes: int, *, predicted: bool = False) -> None:
        super().__init__(store)
        labels = [part.rows(["label"]).column("label").fill_null(-1).to_numpy() for part in self.parts]
        label = np.concatenate([np.empty(0, np.int32), *labels])
        if len(label) and not -1 <= label.min() <= label.max() < num_classes:
            span = f"{label.min()} to {label.max()}"
            raise DataError(f"{store.path} holds labels from {span}: expected -1 (none) to {num_classes - 1}.")
        self.unlabelled = int(np.count_nonzero(label == -1))
        if predicted:
            assigned = np.concatenate([np.empty(0, np.int32), *map(_assigned_classes, self.parts)])
            label = np.where(label == assigned, label, -1)
        self._order = np.argsort(label, kind="stable")
        self._bounds = np.searchsorted(label[self._order], np.arange(num_classes + 1))
        self.left_out = int(self._bounds[0]) - self.unlabelled
        self.present: list[int] = np.flatnonzero(np.diff(self._bounds)).tolist()

    def images(self, class_index: int) -> Indices:
        """Return the ids of a class's images, ascending."""
        return self._order[self._bounds[class_index] : self._bounds[class_index + 1]]


def _assigned_classes(part: FeaturePart) -> NDArray[np.int32]:
    top5 = part.rows(["top5_index"]).column("top5_index")
    return np.asarray(pc.fill_null(pc.list_element(top5, 0), -1).to_numpy())


def bank_info(
    store: FeatureStore, config: BaseModel, index: TrainingIndex, rejects: Sequence[dict[str, Any]]
) -> BankInfo:
    """Say what a bank was made from."""
    return BankInfo(
        model=store.config.model,
        weights_sha256=store.config.weights_sha256,
        feature_dim=store.config.feature_dim,
        feature_config_sha256=store.config.sha256,
        config=config.model_dump(mode="json"),
        counts={"images": int(index.starts[-1]), "unlabelled_images": index.unlabelled}
        | ({"images_not_predicted_as_their_class": index.left_out} if index.left_out else {}),
        rejects=tuple(rejects),
    )


def made_of(bank: ConceptBank, store: FeatureStore) -> str:
    """Say how much of a store's images and of the model's classes a bank rests on."""
    counts, classes = bank.info.counts, bank.table["class_id"].nunique()
    unused = counts["unlabelled_images"] + counts.get("images_not_predicted_as_their_class", 0)
    total = len(store.config.class_ids)
    which = f"{classes} classes, all that the model has" if classes == total else of_classes(classes, total)
    used = f"{counts['images'] - unused} of {counts['images']} images used"
    return f"{which}; {len(bank.info.rejects)} classes left out; {used}"


def check_made_by(store: FeatureStore, classifier: Classifier) -> None:
    """Refuse a store whose features a classifier, or the encoder that it is a head on, did not make at its image size.

    Raises:
        StoreError: Another model, or another image size.
    """
    made = store.config
    if made.weights_sha256 not in (classifier.weights_sha256, classifier.encoder_weights_sha256):
        raise StoreError(
            f"{store.path} holds features of {made.model} (weights {made.weights_sha256[:12]}), not of "
            f"{classifier.spec} (weights {classifier.weights_sha256[:12]})."
        )
    if classifier.preprocess.size != made.preprocess.get("size"):
        raise StoreError(
            f"{store.path} was made at {made.preprocess.get('size')} px, but {classifier.spec} was loaded at "
            f"{classifier.preprocess.size} px: expected the same image size."
        )


def check_store(store: FeatureStore, head: LinearHead, labels: LabelSpace, weights_sha256: str | None) -> None:
    """Refuse a store that does not belong to a head.

    Raises:
        StoreError: It holds features of another model, or labels of another label space.
    """
    made = store.config
    if made.feature_dim != head.feature_dim:
        raise StoreError(f"{store.path} holds {made.feature_dim} features, the last layer reads {head.feature_dim}.")
    if weights_sha256 not in (None, made.weights_sha256):
        raise StoreError(
            f"{store.path} holds features of {made.model} (weights {made.weights_sha256[:12]}), but the last layer "
            f"belongs to weights {weights_sha256:.12}."
        )
    if made.class_ids != labels.class_ids or len(labels) != len(head.bias):
        raise StoreError(
            f"{store.path} is labelled by the {len(made.class_ids)} classes of {made.label_space!r}, but the model has "
            f"{len(head.bias)} outputs for the {len(labels)} classes of {labels.name!r}: expected the same classes."
        )
