"""Neural features: the penultimate features that add most to a class's logit, as a concept bank (SR section 3, I.2)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from spurious_imagenet.builders.components._build import ALPHA_QUANTILES, Progress
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.concepts.bank import REQUIRED_COLUMNS
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, labels_of_store
from spurious_imagenet.features.labelled import Indices, TrainingIndex, bank_info, check_store
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.labels import LabelSpace
from spurious_imagenet.records import Record


class NeuronsConfig(Record):
    """Which neural features of each class to keep."""

    top: int = Field(default=5, ge=1)
    """Features to keep a class, by importance; all of them where the model has fewer."""
    images: Literal["all", "predicted"] = "all"
    """Images to average over: all of the class, or those of them that the model assigns to it."""
    top_images: int = Field(default=20, ge=1)
    """Images with the highest activation to name for each feature."""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Ids of the classes to do; if left out, all that the store has images of."""


def feature_importance(features: NDArray[np.floating[Any]], weight: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Average each feature's contribution to a class's logit (SR section 3): mean activation times head weight.

    Args:
        features: (N, D) penultimate features of the class's images, N of at least 1.
        weight: (D,) the class's row of the last layer.

    Returns:
        (D,) importances; they add up to the class's mean logit less its bias. Higher matters more, and a negative
        feature speaks against the class.

    Raises:
        DataError: There is no image, or the shapes do not fit.
    """
    if features.ndim != 2 or not len(features) or weight.shape != features.shape[1:]:
        raise DataError(
            f"feature importance needs (N, D) features of at least one image and a (D,) weight, got {features.shape} "
            f"and {weight.shape}."
        )
    return np.asarray(features.mean(axis=0, dtype=np.float64) * weight.astype(np.float64))


def build_neuron_bank(
    store: FeatureStore,
    head: LinearHead,
    labels: LabelSpace,
    config: NeuronsConfig,
    *,
    weights_sha256: str | None = None,
    max_label_problems: float = MAX_LABEL_PROBLEMS,
    progress: Progress | None = None,
) -> ConceptBank:
    """Find the most important neural features of each class.

    Each row is a unit vector e_i with offset 0, so that its score is the activation φ_i; ``kind`` is ``neuron`` and
    ``component`` the index i. Rows of a class are ordered by importance. One class's features are in memory at a time.
    Beyond the required columns the table has

    - ``importance`` (see :func:`feature_importance`) and ``importance_rank``, 1 the highest, ties by index;
    - ``mean_activation``, ``std_activation`` (population standard deviation) and ``num_images`` they are taken over;
    - ``alpha_q00`` to ``alpha_q100``: quantiles of the activation over the same images;
    - ``top_keys``, ``top_alphas``: "part/key" and activation (float32) of the images with the highest one, ties by the
      order of (part, row).

    Classes without an image to average over are listed in ``info.rejects``.

    Args:
        store: Features of the labelled training images.
        head: The last layer of the model that made them.
        labels: The model's label space.
        config: What to keep.
        weights_sha256: Hash of the weights that ``head`` comes from, to be compared with the store's; None where the
            caller has done so.
        max_label_problems: Largest share of the images whose label may be of no use, in [0, 1].
        progress: Called with (classes done, classes in all).

    Raises:
        StoreError: The store holds features of another model or label space.
        ModelError: ``config.classes`` names a class that the label space lacks.
        DataError: A feature is NaN or infinite, a label is out of range, or no class is left; or more labels than
            allowed cannot be used.
    """
    check_store(store, head, labels, weights_sha256)
    labels_of_store([store]).check(max_label_problems)
    index = TrainingIndex(store, predicted=config.images == "predicted")
    wanted = _wanted(index, labels, store, config)
    tables: list[pd.DataFrame] = []
    top_images: list[Indices] = []
    rejects: list[dict[str, Any]] = []
    for done, k in enumerate(wanted, start=1):
        images = index.images(k)
        if len(images):
            table, best = _class_neurons(index.features(images), head.weight[k], config)
            tables.append(table.assign(class_index=k, class_id=labels.class_ids[k], class_name=labels.class_names[k]))
            top_images += list(images[best])
        else:
            rejects.append(_reject(labels, k, config))
        if progress:
            progress(done, len(wanted))
    if not tables:
        what = rejects[-1]["reason"] if rejects else "none of its images has a label."
        raise DataError(f"{store.path} leaves no class to find neural features of: {what}")
    named = _finish(pd.concat(tables, ignore_index=True), index.keys(top_images))
    directions = np.zeros((len(named), head.feature_dim), np.float32)
    directions[np.arange(len(named)), named["component"]] = 1.0
    return ConceptBank(directions, np.zeros(len(named), np.float32), named, bank_info(store, config, index, rejects))


def _wanted(index: TrainingIndex, labels: LabelSpace, store: FeatureStore, config: NeuronsConfig) -> list[int]:
    if config.classes is not None:
        return sorted({labels.index(c) for c in config.classes})
    if config.images == "all":
        return index.present
    return TrainingIndex(store).present  # a class whose images are all taken for others is a reject


def _class_neurons(
    features: NDArray[np.float16], weight: NDArray[np.float32], config: NeuronsConfig
) -> tuple[pd.DataFrame, Indices]:
    """Describe one class's top features; also return the (n, top_images) places of each one's top images."""
    importance = feature_importance(features, weight)
    chosen = np.argsort(-importance, kind="stable")[: config.top]
    activation = features[:, chosen].astype(np.float64)
    best = np.argsort(-activation.T, axis=1, kind="stable")[:, : config.top_images]
    quantiles = np.quantile(activation, list(ALPHA_QUANTILES.values()), axis=0)
    top_alphas = np.take_along_axis(activation.T, best, axis=1).astype(np.float32)
    table = pd.DataFrame(
        {
            "component": chosen,
            "importance": importance[chosen],
            "importance_rank": np.arange(1, len(chosen) + 1),
            "mean_activation": activation.mean(axis=0),
            "std_activation": activation.std(axis=0),
            "num_images": len(features),
            **dict(zip(ALPHA_QUANTILES, quantiles, strict=True)),
            "top_alphas": top_alphas.tolist(),
        }
    )
    return table, best


def _finish(table: pd.DataFrame, top_keys: list[list[str]]) -> pd.DataFrame:
    """Name the rows and their top images, and put the required columns first."""
    named = table.assign(
        concept_id="neuron/" + table["class_id"] + "/" + table["component"].astype(str),
        kind="neuron",
        name="",
        top_keys=pd.Series(top_keys),
    )
    return named[[*REQUIRED_COLUMNS, *(c for c in named.columns if c not in REQUIRED_COLUMNS)]]


def _reject(labels: LabelSpace, class_index: int, config: NeuronsConfig) -> dict[str, Any]:
    name = f"class {labels.class_ids[class_index]} ({labels.class_names[class_index]})"
    which = "training images" if config.images == "all" else "training images that the model assigns to it"
    reason = f"{name} has no {which}: its neural features have no mean activation."
    return {"class_id": labels.class_ids[class_index], "images": 0, "reason": reason}
