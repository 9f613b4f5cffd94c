"""A model's head, the images to tune it on, and the halves of those that stop a tuning and that it is reported on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.benchmark.mitigation._tuning_data import (
    HALVES,
    ClassEnds,
    Ends,
    TrainingImages,
    ValidationImages,
    class_ends,
    resolve_k,
)
from spurious_imagenet.benchmark.mitigation._tuning_fit import (
    StoppingSet,
    TunedHead,
    correct_by,
    learning_rate,
    tune_head,
)
from spurious_imagenet.benchmark.mitigation.tuning_record import Method, TuningConfig
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import DataError, ModelError, StoreError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, labels_of_store
from spurious_imagenet.features.labelled import Indices, check_store
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.classifier import Classifier
from spurious_imagenet.models.devices import pick_device
from spurious_imagenet.models.head import LinearHead


@dataclass(frozen=True, eq=False)
class Fold:
    """The images that stop a tuning, and the others that it is reported on.

    Attributes:
        stopping: The images of one half, and their ends.
        stopping_rows: Their rows of the validation table.
        reported_rows: Rows of the other half.
        reported_ends: Ends of the other half's classes.
    """

    stopping: StoppingSet
    stopping_rows: Indices
    reported_rows: Indices
    reported_ends: Ends


class Tuning:
    """A model's head, the images to tune it on and those to measure it on.

    Args:
        classifier: The model whose head is tuned.
        features: Store of its training images.
        val_features: Store of its validation images.
        rankings: Ranked training and validation images.
        where: Where the rankings are, for the record and for errors.
        config: How to tune.
        device: Where to compute.
        max_label_problems: Largest share of either store's images whose label may be of no use, in [0, 1].

    Raises:
        ModelError: The model has no linear head.
        StoreError: A store holds features of another model, or the two were made differently.
        DataError: A ranked image is in no store, more labels than allowed cannot be used, or a class has too few
            images and these are to be refused.
        UndefinedMetricError: No class has enough validation images for a gap.
    """

    def __init__(
        self,
        classifier: Classifier,
        features: FeatureStore,
        val_features: FeatureStore,
        rankings: tuple[Rankings, Rankings],
        where: str,
        config: TuningConfig,
        device: str = "auto",
        max_label_problems: float = MAX_LABEL_PROBLEMS,
    ) -> None:
        self.classifier, self.config, self.where = classifier, config, where
        self.stores = (features, val_features)
        self.device = pick_device(device)
        self.head = _checked_head(classifier, features, val_features)
        for store in self.stores:
            labels_of_store([store]).check(max_label_problems)
        hashes = (h for part in val_features.parts for h in part.rows(["sha256"]).column("sha256").to_pylist())
        self.train = TrainingImages(features, rankings[0], where, (h.hex() for h in hashes if h is not None))
        self.val = ValidationImages(val_features, rankings[1], where, self.train.classes)
        # Heads are tuned and measured among the classes that there are images of: a head that has learnt which classes
        # exist would else look better than the one before, which had all to choose from.
        self.present = np.union1d(self.train.table["label"], self.val.table["label"]).astype(np.int64)
        self.short = self._short_classes()
        self.halves: tuple[int | None, ...] = (None,) if config.stop_on_reported else HALVES
        self.k = resolve_k(self.val, config.k)
        ends, self.refused = class_ends(self.val, self.halves, self.k)
        self.ends = _together(ends)
        self.val_features = self.val.features_of(np.arange(len(self.val.label)))
        self.folds = self._folds(ends)
        rows, _ = self._choose("low", 0)
        # One rate for all methods, of the images that they all may see.
        self.rate = learning_rate(self.train.features_of(rows), config.step_size)

    @property
    def rows(self) -> Indices:
        """Rows of the validation table that are reported on, ascending."""
        return np.sort(np.concatenate([fold.reported_rows for fold in self.folds]))

    @property
    def class_ids(self) -> tuple[str, ...]:
        """Ids of the model's classes."""
        return self.classifier.labels.class_ids

    def run(self, method: Method, seed: int, fold: Fold, steps: int | None = None) -> TunedHead:
        """Tune by one method with one seed until one half says stop, for so many steps at most where they are given."""
        rows, label = self._choose(method, seed)
        features = self.train.features_of(rows)
        config = self.config if steps is None else self.config.model_copy(update={"max_steps": steps})
        return tune_head(
            self.head, features, label, fold.stopping, config, rate=self.rate, seed=seed, device=self.device
        )

    def correct(self, head: LinearHead, *, among_all: bool = False) -> NDArray[np.bool_]:
        """Return (N,) whether a head is right on each validation image, among all classes or those with images."""
        present = None if among_all else self.present
        return correct_by(head, self.val_features, self.val.label, self.device, present)

    def images(self, method: Method) -> int:
        """Return how many images a method tunes on."""
        return len(self._choose(method, 0)[0])

    def _choose(self, method: Method, seed: int) -> tuple[Indices, NDArray[np.int64]]:
        replay = self.config.per_class if self.config.recipe == "replay" else 0
        return self.train.choose(method, self.config.per_class, replay, seed)

    def _short_classes(self) -> dict[str, int]:
        wanted = self.config.per_class
        short = {self.class_ids[label]: n for label, n in self.train.classes.items() if n < wanted}
        if short and self.config.short_classes == "refuse":
            class_id, count = next(iter(short.items()))
            raise DataError(
                f"{len(short)} classes have fewer ranked training images than the {wanted} to tune on, such as "
                f"{class_id} with {count}: expected as many, or that short classes are used whole."
            )
        return short

    def _folds(self, ends: Sequence[Ends]) -> tuple[Fold, ...]:
        """Let each half stop the tunings that are reported on the other, or all images both."""
        rows = [self.val.rows_of(half) for half in self.halves]
        return tuple(
            Fold(self._stopping_set(own, own_ends), own, other, other_ends)
            for own, own_ends, other, other_ends in zip(rows, ends, rows[::-1], ends[::-1], strict=True)
        )

    def _stopping_set(self, rows: Indices, ends: Ends) -> StoppingSet:
        place = np.full(len(self.val.label), -1, np.int64)
        place[rows] = np.arange(len(rows))
        within = tuple(replace(c, high=place[c.high], low=place[c.low]) for c in ends)
        return StoppingSet(self.val_features[rows], self.val.label[rows], within, self.present)


def _together(ends: Sequence[Ends]) -> Ends:
    """Join the ends of each class in every half: a gap over them is the mean of the halves', as each gives k images."""
    return tuple(
        ClassEnds(of[0].label, np.concatenate([c.high for c in of]), np.concatenate([c.low for c in of]))
        for of in zip(*ends, strict=True)
    )


def _checked_head(classifier: Classifier, features: FeatureStore, val_features: FeatureStore) -> LinearHead:
    if classifier.head is None:
        raise ModelError(
            f"{classifier.spec} has no single linear last layer that gives its logits: only such is tuned."
        )
    for store in (features, val_features):
        check_store(store, classifier.head, classifier.labels, classifier.weights_sha256)
    if features.config.sha256 != val_features.config.sha256:
        raise StoreError(
            f"{features.path} and {val_features.path} were made with different preprocessing: expected the same size, "
            "crop and interpolation for training and validation images."
        )
    return classifier.head
