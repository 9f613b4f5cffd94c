"""Neural PCA components against the top neural features of one model, class by class (SFE section 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version

import numpy as np
from pydantic import Field

from spurious_imagenet.builders.contrast._overlap import (
    distinct_share,
    mean_pairwise,
    principal_angles,
    shared_images,
    top_images,
)
from spurious_imagenet.builders.contrast._record import ClassContrast, ContrastMeans, ContrastRecord, Diversity
from spurious_imagenet.builders.contrast.cues import CueTruth, found_cues
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError, UndefinedMetricError
from spurious_imagenet.features.labelled import TrainingIndex
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.records import Record

__all__ = ["ContrastConfig", "contrast"]


class ContrastConfig(Record):
    """What to compare."""

    top: int = Field(default=5, ge=2)
    """Concepts a class of each kind: the components of largest variance, the neurons of highest importance. SFE's
    comparison takes 5."""
    top_images: int = Field(default=20, ge=1)
    """Images a concept to compare."""


def contrast(
    npca: ConceptBank,
    neurons: ConceptBank,
    store: FeatureStore,
    config: ContrastConfig,
    *,
    truth: CueTruth | None = None,
    pool: FeatureStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ContrastRecord:
    """Compare what the first components and the first neurons of each class show.

    Directions are those of the banks, both read-outs of the features φ: a component's is <1, v> w ⊙ v, a neuron's e_i.
    Classes that a bank lacks, or has too few concepts of, are refused and listed. One class's features are in memory at
    a time.

    Args:
        npca: Components of a model (kind ``npca``), each class's in the order of their variance.
        neurons: Neural features of the same model (kind ``neuron``), each class's in the order of their importance.
        store: That model's features of the labelled images.
        config: What to compare.
        truth: Which images of the pool show which cue, to say which cues either kind finds.
        pool: The model's features of that pool.
        progress: Called with (classes done, classes in all).

    Raises:
        StoreError: Banks and stores are not of one model.
        DataError: No class is left, a bank holds no concept of its kind, or the pool is not that of ``truth``.
    """
    for bank in (npca, neurons):
        bank.check_features(store.config.weights_sha256, store.config.sha256, str(store.path))
    banks = _first(npca, "npca", config.top), _first(neurons, "neuron", config.top)
    cues = [found_cues(bank, pool, truth) for bank in banks] if truth and pool else [None, None]
    index = TrainingIndex(store)
    refused: dict[str, str] = {}
    classes = []
    wanted = sorted({*banks[0].table["class_index"].tolist(), *banks[1].table["class_index"].tolist()})
    for done, class_index in enumerate(wanted, start=1):
        pair = [bank.select(np.flatnonzero(bank.table["class_index"] == class_index)) for bank in banks]
        try:
            classes.append(_class_contrast(pair[0], pair[1], index, class_index, store, config))
        except UndefinedMetricError as error:
            refused[store.config.class_ids[class_index]] = str(error)
        if progress:
            progress(done, len(wanted))
    if not classes:
        raise DataError(f"{store.path} leaves no class to compare: {next(iter(refused.values()))}")
    return ContrastRecord(
        code_version=version("spurious-imagenet"),
        model=store.config.model,
        weights_sha256=store.config.weights_sha256,
        features=str(store.path),
        top=config.top,
        top_images=config.top_images,
        classes=tuple(classes),
        refused=refused,
        mean=_mean(classes),
        npca_less_overlap=sum(c.npca.overlap < c.neurons.overlap for c in classes),
        npca_cues=cues[0],
        neuron_cues=cues[1],
    )


def _first(bank: ConceptBank, kind: str, top: int) -> ConceptBank:
    """Return the bank's first so many concepts of a kind of each class."""
    chosen = bank.choose(kinds=[kind], first=top)
    if not len(chosen):
        kinds = sorted(set(bank.table["kind"]))
        raise DataError(f"a concept bank of {bank.info.model} holds concepts of kind {kinds}: expected {kind!r}.")
    return chosen


def _class_contrast(
    npca: ConceptBank,
    neurons: ConceptBank,
    index: TrainingIndex,
    class_index: int,
    store: FeatureStore,
    config: ContrastConfig,
) -> ClassContrast:
    counts = len(npca), len(neurons)
    if min(counts) < config.top:
        raise UndefinedMetricError(
            f"the banks have {counts[0]} components and {counts[1]} neurons of the class: expected {config.top} of "
            "both kinds."
        )
    features = index.features(index.images(class_index))
    tops = [top_images(bank.score(features), config.top_images) for bank in (npca, neurons)]
    diversity = [Diversity(overlap=mean_pairwise(shared_images(t, t)), distinct=distinct_share(t)) for t in tops]
    shared = shared_images(tops[0], tops[1])
    angles = principal_angles(npca.directions, neurons.directions)
    return ClassContrast(
        class_id=str(npca.table["class_id"].iloc[0]),
        class_name=str(npca.table["class_name"].iloc[0]),
        images=len(features),
        npca=diversity[0],
        neurons=diversity[1],
        between=float(shared.mean()),
        chance=config.top_images / len(features),
        shared_subspace=float(np.mean(np.cos(np.deg2rad(angles)) ** 2)),
        chance_subspace=config.top / store.config.feature_dim,
        npca_ids=tuple(npca.table["concept_id"]),
        neuron_ids=tuple(neurons.table["concept_id"]),
        shared=tuple(tuple(row) for row in shared.tolist()),
        angles=tuple(angles.tolist()),
    )


def _mean(classes: list[ClassContrast]) -> ContrastMeans:
    """Average over classes, each counting the same."""

    def diversity(found: Iterable[Diversity]) -> Diversity:
        values = np.array([(d.overlap, d.distinct) for d in found]).mean(axis=0)
        return Diversity(overlap=float(values[0]), distinct=float(values[1]))

    names = ("between", "chance", "shared_subspace", "chance_subspace")
    return ContrastMeans(
        npca=diversity(c.npca for c in classes),
        neurons=diversity(c.neurons for c in classes),
        **{name: float(np.mean([getattr(c, name) for c in classes])) for name in names},
    )
