"""The training images of each class in a feature store, and what every bank made from them must check and say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
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

__all__ = ["Indices", "LabelledFeatures", "TrainingIndex", "bank_info", "check_made_by", "check_store", "made_of"]

Indices = NDArray[np.int64]


class LabelledFeatures:
    """The images of one or more stores, by class; an image's id is its place in the order of (store, part, row).

    Only the classes of the images are in memory; features are read for the images that are asked for.

    Args:
        stores: Stores of one model, at least one.
        class_ids: Classes in the order of their numbers; None for all that the rows' class ids name, sorted.
        label: (N,) number of each image's class, -1 for none; None goes by the rows' class ids, whatever label space
            the model has.

    Attributes:
        parts: The stores' parts.
        starts: (P + 1,) id of the first image of each part, and the number of images.
        dim: D, of the features.
        where: What the stores are called in messages.
        class_ids: Classes in the order of their numbers.
        label: (N,) number of each image's class, -1 for none.
        unlabelled: Images of none of the classes.
        present: Numbers of the classes that have images, ascending.
    """

    def __init__(
        self,
        *stores: FeatureStore,
        class_ids: Sequence[str] | None = None,
        label: NDArray[np.integer[Any]] | None = None,
    ) -> None:
        self.parts: tuple[FeaturePart, ...] = tuple(part for store in stores for part in store.parts)
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)], dtype=np.int64)
        self.dim = stores[0].config.feature_dim
        self.where = ", ".join(str(store.path) for store in stores)
        if label is None:
            class_ids, label = _by_class_id(self.parts, class_ids)
        self.class_ids: tuple[str, ...] = tuple(class_ids or ())
        self.label: Indices = label.astype(np.int64, copy=False)
        self.unlabelled = int(np.count_nonzero(self.label == -1))
        self._number = {class_id: number for number, class_id in enumerate(self.class_ids)}
        self._order = np.argsort(self.label, kind="stable")
        self._bounds = np.searchsorted(self.label[self._order], np.arange(len(self.class_ids) + 1))
        self.present: list[int] = np.flatnonzero(np.diff(self._bounds)).tolist()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def images(self, of: int | str) -> Indices:
        """Return the ids of the images of a class, given by its number or its id, ascending."""
        number = self._number[of] if isinstance(of, str) else of
        return self._order[self._bounds[number] : self._bounds[number + 1]]

    def by_part(self, images: Indices) -> Iterator[tuple[FeaturePart, slice, Indices]]:
        """Split ascending image ids by part: yield each part, the ids' place among ``images``, and their rows."""
        cuts = np.searchsorted(images, self.starts)
        for part, start, first, last in zip(self.parts, self.starts, cuts, cuts[1:], strict=False):
            if last > first:
                yield part, slice(first, last), images[first:last] - start

    def features(self, images: Indices) -> NDArray[np.float16]:
        """Read the (n, D) features of ascending image ids.

        Raises:
            DataError: One is NaN or infinite.
        """
        features = np.empty((len(images), self.dim), np.float16)
        for part, place, rows in self.by_part(images):
            features[place] = part.features()[rows]
            finite = np.isfinite(features[place]).all(axis=1)
            if not finite.all():
                raise DataError(f"row {rows[finite.argmin()]} of part {part.path.name} has a NaN or infinite feature.")
        return features

    def features_in_order(self, images: Indices) -> NDArray[np.float16]:
        """Read the (n, D) features of image ids in any order, as :meth:`features` does."""
        order = np.argsort(images)
        features = np.empty((len(images), self.dim), np.float16)
        features[order] = self.features(images[order])
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


def _by_class_id(
    parts: Sequence[FeaturePart], class_ids: Sequence[str] | None
) -> tuple[Sequence[str], NDArray[np.integer[Any]]]:
    columns = [part.rows(["class_id"]).column("class_id") for part in parts]
    if class_ids is None:
        class_ids = sorted({name for column in columns for name in column.unique().to_pylist() if name is not None})
    wanted = pa.array(class_ids, pa.string())
    found = [pc.fill_null(pc.index_in(column, wanted), -1).to_numpy() for column in columns]
    return class_ids, np.concatenate([np.empty(0, np.int32), *found])


class TrainingIndex(LabelledFeatures):
    """The images of a store by the classes of its model, which their labels number.

    Args:
        store: The store.
        predicted: Count an image to its class only where the model assigns it to that class.

    Raises:
        DataError: A label is out of range.
    """

    def __init__(self, store: FeatureStore, *, predicted: bool = False) -> None:
        parts, class_ids = store.parts, store.config.class_ids
        labels = [part.rows(["label"]).column("label").fill_null(-1).to_numpy() for part in parts]
        label = np.concatenate([np.empty(0, np.int32), *labels])
        if len(label) and not -1 <= label.min() <= label.max() < len(class_ids):
            span = f"{label.min()} to {label.max()}"
            raise DataError(f"{store.path} holds labels from {span}: expected -1 (none) to {len(class_ids) - 1}.")
        unlabelled = int(np.count_nonzero(label == -1))
        if predicted:
            assigned = np.concatenate([np.empty(0, np.int32), *map(_assigned_classes, parts)])
            label = np.where(label == assigned, label, -1)
        super().__init__(store, class_ids=class_ids, label=label)
        self.left_out = self.unlabelled - unlabelled
        self.unlabelled = unlabelled


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
        counts={"images": len(index), "unlabelled_images": index.unlabelled}
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
