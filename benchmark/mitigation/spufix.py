"""Fitting SpuFix: to the scoring model itself (SFE eq. 8), and by transfer to any other classifier (SFE eq. 9-11)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import solve_triangular

from spurious_imagenet.benchmark.mitigation._readout import readout_of
from spurious_imagenet.benchmark.mitigation.spufix_alphas import ClassAlphas, ImagesByClassId
from spurious_imagenet.benchmark.mitigation.spufix_file import (
    Spufix,
    SpufixClass,
    SpufixDirection,
    SpufixInfo,
    labels_digest,
)
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError, ModelError
from spurious_imagenet.features.labelled import check_made_by
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.records import Record

if TYPE_CHECKING:
    from spurious_imagenet.models.classifier import Classifier

__all__ = ["MatchedBasis", "TransferConfig", "fit_scorer", "matched_basis", "transfer"]

Floats = NDArray[np.float64]

# Sine of the angle to the span of the others below which a direction is dropped: stored features are float16, so that
# anything smaller is their rounding, and coordinates in such a basis would be mostly that.
_DEPENDENT = 1e-3

# Share of the largest covariance that their norms allow below which the covariance with α is rounding.
_UNRELATED = 1e-9


class TransferConfig(Record):
    """What a transfer accepts."""

    max_unmatched: float = Field(default=0.01, ge=0, le=1)
    """Largest share of a class's training images that may be on one side only."""


def fit_scorer(bank: ConceptBank, classifier: Classifier, store: FeatureStore | None = None) -> Spufix:
    """Take a bank's NPCA components out of the logits of the model that they were found in (SFE eq. 8).

    Args:
        bank: The spurious concepts: rows of kind ``npca``, whose scores are parts of their class's logit.
        classifier: The bank's model.
        store: Its features of training images, on which corrections are counted; no counts where left out.

    Raises:
        ModelError: The bank reads another model, or a row is not part of a logit.
    """
    # The encoder of a head has features in common with it, but α are parts of the encoder's own logits.
    if bank.info.weights_sha256 != classifier.weights_sha256:
        raise ModelError(
            f"the bank reads features of {bank.info.model} (weights {bank.info.weights_sha256[:12]}), not of "
            f"{classifier.spec} (weights {classifier.weights_sha256[:12]}): to correct another model, give features of "
            "both on the training images."
        )
    other = next((k for k in bank.table["kind"] if k != "npca"), None)
    if other is not None:
        raise ModelError(
            f"the bank has rows of kind {other!r}, whose scores are not parts of a logit: expected kind 'npca', or "
            "features of the training images, by which concepts of any kind are transferred."
        )
    table = bank.table
    rows = [
        SpufixDirection(concept_id=c, class_id=k, component=int(i))
        for c, k, i in zip(table["concept_id"], table["class_id"], table["component"], strict=True)
    ]
    info = _info(classifier, bank.info.model, bank.info.weights_sha256, rows)
    index = np.array([classifier.labels.index(k) for k in table["class_id"]], np.int64)
    spufix = Spufix(bank.directions, bank.offsets, index, info)
    if store is None or not len(bank):
        return spufix
    bank.check_features(store.config.weights_sha256, store.config.sha256, str(store.path))
    check_made_by(store, classifier)
    return _with_counts(spufix, store, classifier)


def _with_counts(spufix: Spufix, store: FeatureStore, classifier: Classifier) -> Spufix:
    class_ids = [classifier.labels.class_ids[k] for k in spufix.classes]
    index = ImagesByClassId(store, class_ids)
    counts = []
    for column, class_id in enumerate(class_ids):
        images = index.images(class_id)
        removed = spufix.removed(index.features(images))[:, column]
        changed = int(np.count_nonzero(removed))
        counts.append(
            SpufixClass(class_id=class_id, images=len(images), without_alpha=0, without_features=0, changed=changed)
        )
    info = spufix.info.model_copy(update={"classes": tuple(counts)})
    return Spufix(spufix.readouts, spufix.offsets, spufix.class_index, info)


def transfer(
    alphas: Iterable[ClassAlphas],
    store: FeatureStore,
    classifier: Classifier,
    config: TransferConfig,
    *,
    scorer: str,
    scorer_sha256: str,
    progress: Callable[[int, int], None] | None = None,
) -> Spufix:
    """Take concepts that were found in one model out of the logits of another (SFE eq. 9-11).

    Of each concept's α on the class's training images and this model's ψ of the same images, the direction is that of
    their covariance (eq. 10). ψ - ψ_mean is projected onto the span of the class's directions and written in their
    non-orthogonal basis; each positive part is taken off the logit (eq. 11). For the scoring model that is eq. 8.

    A direction within 1e-3 (the sine of the angle) of the span of those before it, or whose α is unrelated to the
    model's ψ, is dropped and listed in ``info.dropped``. Where the model adds further heads to a main one (VOLO), ψ is
    that of the main one; of heads that it averages (distilled models) it is that of their mean.

    Args:
        alphas: The concepts' α, class by class.
        store: The model's features of the same training images, matched by the images' hashes.
        classifier: The model.
        config: What to accept.
        scorer: The model that gave α, or the file they come from.
        scorer_sha256: Hash of that model's weights, or of that file.
        progress: Called with (classes done, classes in all).

    Raises:
        StoreError: The store holds features of another model, or of another image size.
        ModelError: The model lacks a class, or its logits have no linear part in its features.
        DataError: Too many of a class's images are on one side only, or fewer than 2 on both.
    """
    check_made_by(store, classifier)
    readout = readout_of(classifier)
    given = list(alphas)
    outputs = {one.class_id: classifier.labels.index(one.class_id) for one in given}
    index = ImagesByClassId(store, list(outputs))
    fits = []
    for done, one in enumerate(given, start=1):
        fits.append(_class_fit(one, index, readout.weight[outputs[one.class_id]], config, store))
        if progress:
            progress(done, len(given))
    info = _info(classifier, scorer, scorer_sha256, [row for fit in fits for row in fit.rows])
    info = info.model_copy(
        update={
            "readout": readout.name,
            "dropped": tuple(reason for fit in fits for reason in fit.dropped),
            "classes": tuple(fit.counts for fit in fits),
        }
    )
    empty = np.empty((0, readout.weight.shape[1]))
    return Spufix(
        np.concatenate([empty, *(fit.readouts for fit in fits)]).astype(np.float32),
        np.concatenate([empty[:, 0], *(fit.offsets for fit in fits)]).astype(np.float32),
        np.array([outputs[row.class_id] for row in info.directions], np.int64),
        info,
    )


def _info(classifier: Classifier, scorer: str, scorer_sha256: str, rows: list[SpufixDirection]) -> SpufixInfo:
    return SpufixInfo(
        code_version=version("spurious-imagenet"),
        model=classifier.spec,
        weights_sha256=classifier.weights_sha256,
        image_size=classifier.preprocess.size,
        label_space=classifier.labels.name,
        labels_sha256=labels_digest(classifier.labels),
        scorer=scorer,
        scorer_sha256=scorer_sha256,
        directions=tuple(rows),
    )


@dataclass(frozen=True, eq=False)
class _ClassFit:
    readouts: Floats
    offsets: Floats
    rows: list[SpufixDirection]
    dropped: list[dict[str, str]]
    counts: SpufixClass


def _class_fit(
    one: ClassAlphas, index: ImagesByClassId, weight: NDArray[Any], config: TransferConfig, store: FeatureStore
) -> _ClassFit:
    images = index.images(one.class_id)
    row_of = {digest: row for row, digest in enumerate(one.sha256)}
    found = np.array([row_of.get(digest, -1) for digest in index.digests(images)], np.int64)
    used, rows = images[found >= 0], found[found >= 0]
    without_alpha, without_features = len(images) - len(used), len(row_of) - len(np.unique(rows))
    _check_counts(one.class_id, len(used), without_alpha, without_features, config, store)
    weight = weight.astype(np.float64)
    psi = index.features(used).astype(np.float64) * weight
    mean = psi.mean(axis=0)
    psi -= mean
    alpha = one.alpha[rows].astype(np.float64)
    basis = matched_basis(psi, alpha)
    readouts = basis.directions.sum(axis=1)[:, None] * basis.coordinates
    parts = psi @ readouts.T
    counts = SpufixClass(
        class_id=one.class_id,
        images=len(used),
        without_alpha=without_alpha,
        without_features=without_features,
        changed=int(np.count_nonzero((parts > 0).any(axis=1))),
    )
    described = [
        SpufixDirection(
            concept_id=one.concept_ids[m],
            class_id=one.class_id,
            component=one.components[m],
            alpha_correlation=float(np.corrcoef(parts[:, i], alpha[:, m])[0, 1]),
        )
        for i, m in enumerate(basis.kept)
    ]
    dropped = [{"concept_id": one.concept_ids[m], "reason": why} for m, why in sorted(basis.dropped.items())]
    return _ClassFit(readouts * weight, -(readouts @ mean), described, dropped, counts)


def _check_counts(
    class_id: str, used: int, without_alpha: int, without_features: int, config: TransferConfig, store: FeatureStore
) -> None:
    share = (without_alpha + without_features) / max(used + without_alpha + without_features, 1)
    if share > config.max_unmatched or used < 2:
        raise DataError(
            f"{store.path}, class {class_id!r}: {used} training images have α and features, {without_features} have "
            f"only α and {without_alpha} only features ({share:.1%} unmatched): expected at least 2 matched and at "
            f"most {config.max_unmatched:.1%} unmatched, of the same image files."
        )


@dataclass(frozen=True, eq=False)
class MatchedBasis:
    """The directions in one class's ψ that stand for the scoring model's concepts.

    Attributes:
        directions: (L, D) unit vectors b_l in rows (SFE eq. 10), linearly independent.
        coordinates: (L, D) such that ``coordinates @ (ψ - ψ_mean)`` is P (SFE eq. 11): the least-squares coordinates in
            the basis of the directions.
        kept: Index of the concept of each row.
        dropped: Index of each other concept -> why it has no row.
    """

    directions: Floats
    coordinates: Floats
    kept: tuple[int, ...]
    dropped: dict[int, str]


def matched_basis(psi: Floats, alpha: Floats) -> MatchedBasis:
    """Find the directions of largest covariance with each concept's α, and the coordinates in their basis.

    Args:
        psi: (n, D) ψ of the class's training images less its mean.
        alpha: (n, L) α of the same images.
    """
    sums = (alpha - alpha.mean(axis=0)).T @ psi  # ψ sums to 0, so the mean of α adds nothing but rounding
    bounds = np.linalg.norm(alpha, axis=0) * np.linalg.norm(psi)
    kept: list[int] = []
    dropped: dict[int, str] = {}
    directions, spanned = np.empty((2, 0, psi.shape[1]))
    for m, (total, bound) in enumerate(zip(sums, bounds, strict=True)):
        length = float(np.linalg.norm(total))
        if length <= _UNRELATED * bound:
            dropped[m] = "its α does not vary with this model's features on the class's training images"
            continue
        unit = total / length
        rest = unit - (spanned @ unit) @ spanned
        rest -= (spanned @ rest) @ spanned  # once more, for what rounding left
        sine = float(np.linalg.norm(rest))
        if sine < _DEPENDENT:
            dropped[m] = f"its direction lies in the span of those before it (sine of the angle {sine:.1e})"
            continue
        kept.append(m)
        directions, spanned = np.vstack([directions, unit]), np.vstack([spanned, rest / sine])
    orthogonal, triangular = np.linalg.qr(directions.T)
    coordinates = solve_triangular(triangular, orthogonal.T) if kept else directions
    return MatchedBasis(directions, coordinates, tuple(kept), dropped)
