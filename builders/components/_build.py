"""From the training features of a model to the bank of its classes' neural PCA components."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from spurious_imagenet.builders.components._npca import ClassNpca, class_npca, npca_concepts
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.concepts.bank import REQUIRED_COLUMNS
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, labels_of_store
from spurious_imagenet.features.labelled import Indices, TrainingIndex, bank_info, check_store
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.labels import LabelSpace
from spurious_imagenet.records import Record

#: Column of the table -> share of the class's training images with a lower α.
ALPHA_QUANTILES = {f"alpha_q{percent:02d}": percent / 100 for percent in (0, 1, 5, 25, 50, 75, 95, 99, 100)}

Progress = Callable[[int, int], None]


class ComponentsConfig(Record):
    """How to take the components of each class."""

    top: int = Field(default=128, ge=1)
    """Components to keep a class, by variance."""
    top_images: int = Field(default=20, ge=1)
    """Training images with the highest α to name for each component."""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Ids of the classes to do; if left out, all that the store has images of."""


@dataclass(frozen=True, eq=False)
class _ClassConcepts:
    """What one class adds to the bank.

    Attributes:
        directions: (r + 1, D) float64.
        offsets: (r + 1,) float64.
        table: r + 1 rows of the bank's table.
        top_images: (r + 1, top_images) ids of the images with the highest α.
    """

    directions: NDArray[np.float64]
    offsets: NDArray[np.float64]
    table: pd.DataFrame
    top_images: Indices


def build_bank(
    store: FeatureStore,
    head: LinearHead,
    labels: LabelSpace,
    config: ComponentsConfig,
    *,
    weights_sha256: str | None = None,
    max_label_problems: float = MAX_LABEL_PROBLEMS,
    progress: Progress | None = None,
) -> ConceptBank:
    """Take the neural PCA of each class's training images (SFE section 4).

    A class gives one row of kind ``npca`` for each component (``component`` counts from 0) and one of kind
    ``npca_residual`` (``component`` -1) for all that its components leave of the logit; see
    :func:`~spurious_imagenet.builders.components._npca.npca_concepts`. Beyond the required columns the table has

    - ``eigenvalue``, ``explained_share``, ``ones_dot_v``: see ``ClassNpca``; NaN for the residual;
    - ``mean_logit``: <1, ψ_mean> + b_k, the class's undivided logit averaged over its training images: the logit
      of an image is this plus its scores on all rows of the class (SFE eq. 6);
    - ``num_images``: training images of the class;
    - ``alpha_q00`` to ``alpha_q100``: quantiles of α over them;
    - ``top_keys``, ``top_alphas``: "part/key" and α (float32) of the images with the highest α, ties by the order of
      (part, row).

    Classes with fewer than 2 images or without variation are listed in ``info.rejects``. Images without a label are
    not used; ``info.counts`` says how many.

    Args:
        store: Features of the labelled training images.
        head: The last layer of the model that made them; α are contributions to its undivided logits.
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
    index = TrainingIndex(store)
    wanted = index.present if config.classes is None else sorted({labels.index(c) for c in config.classes})
    # Room for all rows at once, since joining the classes' arrays would need twice the bank; pages come when written.
    room = len(wanted) * (min(config.top, head.feature_dim) + 1)
    directions, offsets = np.empty((room, head.feature_dim), np.float32), np.empty(room, np.float32)
    tables: list[pd.DataFrame] = []
    top_images: list[Indices] = []
    rejects: list[dict[str, Any]] = []
    size = 0
    for done, k in enumerate(wanted, start=1):
        found = _class_concepts(index, head, k, config)
        if found is None:
            rejects.append(_reject(labels, k, len(index.images(k))))
        else:
            rows = slice(size, size := size + len(found.offsets))
            directions[rows], offsets[rows] = found.directions, found.offsets
            tables.append(found.table.assign(class_id=labels.class_ids[k], class_name=labels.class_names[k]))
            top_images += list(found.top_images)
        if progress:
            progress(done, len(wanted))
    if not tables:
        what = rejects[-1]["reason"] if rejects else "none of its images has a label."
        raise DataError(f"{store.path} leaves no class to take components of: {what}")
    table = _finish(pd.concat(tables, ignore_index=True), index.keys(top_images))
    return ConceptBank(directions[:size], offsets[:size], table, bank_info(store, config, index, rejects))


def _reject(labels: LabelSpace, class_index: int, count: int) -> dict[str, Any]:
    name = f"class {labels.class_ids[class_index]} ({labels.class_names[class_index]})"
    if count < 2:
        reason = f"{name} has {count} training images: components need at least 2."
    else:
        reason = f"{name} has {count} training images that all add the same to its logit: nothing to decompose."
    return {"class_id": labels.class_ids[class_index], "images": count, "reason": reason}


def _class_concepts(
    index: TrainingIndex, head: LinearHead, class_index: int, config: ComponentsConfig
) -> _ClassConcepts | None:
    """Take one class's components; None where it has fewer than 2 images or no variation."""
    images = index.images(class_index)
    if len(images) < 2:
        return None
    features = index.features(images).astype(np.float64)
    weight = head.weight[class_index]
    npca = class_npca(features, weight, config.top)
    if not npca.rank:
        return None
    directions, offsets = npca_concepts(npca, weight)
    alphas = features @ directions.T + offsets
    rounded = alphas.T.astype(np.float32)
    best = np.argsort(-rounded, axis=1, kind="stable")[:, : config.top_images]
    table = _class_table(npca, alphas).assign(
        class_index=class_index,
        mean_logit=float(npca.psi_mean.sum()) + float(head.bias[class_index]),
        top_alphas=np.take_along_axis(rounded, best, axis=1).tolist(),
    )
    return _ClassConcepts(directions, offsets, table, images[best])


def _class_table(npca: ClassNpca, alphas: NDArray[np.float64]) -> pd.DataFrame:
    """Make the columns that describe a class's components and its residual; ``alphas`` is (N, r + 1)."""
    count = len(npca.eigenvalues)
    quantiles = np.quantile(alphas, list(ALPHA_QUANTILES.values()), axis=0)
    return pd.DataFrame(
        {
            "component": [*range(count), -1],
            "kind": [*["npca"] * count, "npca_residual"],
            "eigenvalue": np.append(npca.eigenvalues, np.nan),
            "explained_share": np.append(npca.explained_share, np.nan),
            "ones_dot_v": np.append(npca.ones_dot_v, np.nan),
            "num_images": len(alphas),
            **dict(zip(ALPHA_QUANTILES, quantiles, strict=True)),
        }
    )


def _finish(table: pd.DataFrame, top_keys: list[list[str]]) -> pd.DataFrame:
    """Name the rows and their top images, and put the required columns first."""
    components = table["component"].astype(str).where(table["component"] >= 0, "residual")
    named = table.assign(
        concept_id="npca/" + table["class_id"] + "/" + components, name="", top_keys=pd.Series(top_keys)
    )
    return named[[*REQUIRED_COLUMNS, *(c for c in named.columns if c not in REQUIRED_COLUMNS)]]
