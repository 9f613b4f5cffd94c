"""Spurious feature collision: what is spurious for one class is core for another (SR section 5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.concepts import ConceptBank, ConceptVerdicts
from spurious_imagenet.errors import StoreError
from spurious_imagenet.records import Record

_KINDS = {"neuron", "npca"}


class Counterpart(Record):
    """The same concept in another class."""

    class_id: str
    component: int
    cosine: float | None = None
    """Of the two directions; None for a neural feature, which is one direction for all classes."""


class Collision(Record):
    """A concept that is spurious for a class and belongs to others too."""

    class_id: str
    kind: str
    component: int
    core_for: tuple[Counterpart, ...]
    """Classes whose object it is, or is part of."""
    spurious_for: tuple[Counterpart, ...]
    """Other classes that it is spurious for."""


class Collisions(Record):
    """All collisions among judged concepts."""

    concepts: int
    """Distinct spurious concepts: neural features, which classes share, and single NPCA components."""
    core_elsewhere: int
    """Those that are core for another class; SR finds 63.8 % of the neural features of Salient ImageNet."""
    core_concepts: int
    """Concepts judged core; without any, no collision of this kind can be seen."""
    rows: tuple[Collision, ...]


def read_collisions(path: str | Path, min_cosine: float) -> Collisions:
    """Find the collisions among the concepts of a bank, or of a file of verdicts (neural features only).

    Raises:
        StoreError: The bank cannot be read, or has no verdicts.
        DataError: The file of verdicts cannot be read.
    """
    if Path(path).is_file():
        return find_collisions(ConceptVerdicts.load(path).table(), None, min_cosine)
    bank = ConceptBank.load(path)
    if "verdict" not in bank.table:
        raise StoreError(f"{path} has no verdicts: expected a bank that `spurious annotate` or a review has judged.")
    return find_collisions(bank.table, bank.directions, min_cosine)


def find_collisions(table: pd.DataFrame, directions: NDArray[np.float32] | None, min_cosine: float) -> Collisions:
    """Find concepts that are spurious for one class and core, or spurious too, for another.

    Two neural features are one concept if they are the same feature. Two NPCA components are if their directions in
    the features, sign included, have at least the given cosine.

    Args:
        table: One row per concept: ``kind``, ``class_id``, ``component``, ``verdict``; others than neural features and
            NPCA components are passed over.
        directions: (M, D) directions of the rows; None leaves NPCA components out.
        min_cosine: In (0, 1].
    """
    judged = np.flatnonzero(table["kind"].isin(_KINDS) & table["verdict"].isin(["spurious", "core"]))
    if directions is None:
        judged = judged[(table["kind"].iloc[judged] == "neuron").to_numpy()]
    rows = table.iloc[judged].reset_index(drop=True)
    same = _same_concept(rows, None if directions is None else directions[judged], min_cosine)
    spurious = (rows["verdict"] == "spurious").to_numpy(dtype=bool)
    found, hits, concepts = [], set(), set()
    for i in map(int, np.flatnonzero(spurious)):
        row = rows.iloc[i]
        shared = row["kind"] == "neuron"
        concept = (row["kind"], "" if shared else row["class_id"], int(row["component"]))
        concepts.add(concept)
        others = same[i] >= min_cosine
        others &= (rows["class_id"] != row["class_id"]).to_numpy(dtype=bool)
        if not others.any():
            continue
        core, also = others & ~spurious, others & spurious
        hits |= {concept} if core.any() else set()
        found.append(
            Collision(
                class_id=str(row["class_id"]),
                kind=str(row["kind"]),
                component=int(row["component"]),
                core_for=_counterparts(rows, same[i], core, shared),
                spurious_for=_counterparts(rows, same[i], also, shared),
            )
        )
    return Collisions(
        concepts=len(concepts),
        core_elsewhere=len(hits),
        core_concepts=int((~spurious).sum()),
        rows=tuple(sorted(found, key=lambda c: (c.class_id, c.kind, c.component))),
    )


def _counterparts(
    rows: pd.DataFrame, same: NDArray[np.float64], mask: NDArray[np.bool_], shared: bool
) -> tuple[Counterpart, ...]:
    return tuple(
        Counterpart(
            class_id=str(rows["class_id"].iloc[j]),
            component=int(rows["component"].iloc[j]),
            cosine=None if shared else float(same[j]),
        )
        for j in sorted(np.flatnonzero(mask), key=lambda j: (-same[j], rows["class_id"].iloc[j]))
    )


def _same_concept(
    rows: pd.DataFrame, directions: NDArray[np.float32] | None, least: float
) -> dict[int, NDArray[np.float64]]:
    """Return for each spurious row how alike it is to every row: 1 for the same neural feature, else the cosine."""
    neuron = (rows["kind"] == "neuron").to_numpy(dtype=bool)
    component = rows["component"].to_numpy(dtype=np.int64)
    unit = None
    if directions is not None:
        length = np.linalg.norm(directions.astype(np.float64), axis=1, keepdims=True)
        unit = directions / np.maximum(length, np.finfo(np.float64).tiny)
    found = {}
    for i in np.flatnonzero((rows["verdict"] == "spurious").to_numpy(dtype=bool)):
        alike = (neuron & (component == component[i])).astype(np.float64) if neuron[i] else np.zeros(len(rows))
        if not neuron[i] and unit is not None:
            alike = np.where(neuron, 0.0, unit @ unit[i])
        found[int(i)] = alike
    return found
