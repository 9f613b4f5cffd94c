"""Which concepts of a bank get a board."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spurious_imagenet.builders.boards.config import BoardsConfig
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError


def chosen_rows(
    bank: ConceptBank, config: BoardsConfig, chosen: dict[int, list[str]] | None = None
) -> dict[int, list[int]]:
    """Choose the concepts of each class, best first.

    Args:
        bank: The bank.
        config: Asks for classes, and for concepts by id or by number.
        chosen: By class, the ids of the concepts whose NPFVs were chosen, best first; None without NPFVs. Kinds that
            have no NPFV (neural features) are chosen by their own rank in either case.

    Returns:
        Class index → rows of the bank, ascending by class. Named concepts keep the bank's order; others go by
        NPFV, importance rank or component, whichever is there first.

    Raises:
        ConfigError: A named class or concept is not in the bank, or nothing is left.
    """
    table = bank.table
    _check_names(table, config)
    wanted = table["concept_id"].isin(config.concepts) if config.concepts else table["component"] >= 0
    if config.classes is not None:
        wanted &= table["class_id"].isin(config.classes)
    elif chosen is not None and not config.concepts:
        wanted &= table["class_index"].isin(list(chosen)) | (table["kind"] == "neuron")
    rows: dict[int, list[int]] = {}
    for class_index, group in table[wanted].groupby("class_index", sort=True):
        own = None if chosen is None else chosen.get(int(str(class_index)), [])
        kept = list(group.index) if config.concepts else _best(group, own, config.components)
        if kept:
            rows[int(str(class_index))] = kept
    if not rows:
        raise ConfigError(f"bank {config.bank} has no concept to draw a board of for these options.")
    return rows


def _check_names(table: pd.DataFrame, config: BoardsConfig) -> None:
    for what, asked, column in (("class", config.classes, "class_id"), ("concept", config.concepts, "concept_id")):
        missing = sorted(set(asked or ()) - set(table[column]))
        if missing:
            raise ConfigError(
                f"bank {config.bank} has no {what} {missing[0]!r}: expected ids such as {table[column].iloc[0]!r}."
            )


def _best(group: pd.DataFrame, chosen: list[str] | None, count: int) -> list[int]:
    """Return the best rows of one class: so many of every kind."""
    found: list[int] = []
    for kind, rows in group.groupby("kind", sort=False):
        if kind == "neuron" and "importance_rank" in rows:
            ranked = rows.sort_values("importance_rank", kind="stable")
        elif chosen is not None and kind != "neuron":
            place = {concept_id: i for i, concept_id in enumerate(chosen)}
            ranked = rows[rows["concept_id"].isin(chosen)]
            ranked = ranked.iloc[np.argsort([place[c] for c in ranked["concept_id"]])]
        else:
            ranked = rows.sort_values("component", kind="stable")
        found += [int(i) for i in ranked.index[:count]]
    return found
