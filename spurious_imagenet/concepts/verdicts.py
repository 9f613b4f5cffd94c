"""Verdicts: what people said of concepts, whoever asked them, and how it is put on the rows of a bank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from spurious_imagenet.concepts.bank import ConceptBank
from spurious_imagenet.concepts.verdict import ConceptVerdict
from spurious_imagenet.concepts.verdict_files import read_rows, write_rows
from spurious_imagenet.errors import DataError, StoreError

__all__ = ["AnnotatedBank", "ConceptVerdicts", "Unmatched", "apply_verdicts"]


@dataclass(frozen=True)
class ConceptVerdicts:
    """Verdicts on concepts, at most one each.

    Attributes:
        rows: The verdicts, in the order of their source.

    Raises:
        DataError: A concept has two verdicts.
    """

    rows: tuple[ConceptVerdict, ...]

    def __post_init__(self) -> None:
        for what, values in (("concept", (r.key for r in self)), ("concept_id", (r.concept_id for r in self))):
            value, count = max(Counter(v for v in values if v is not None).items(), key=_count, default=(None, 0))
            if count > 1:
                raise DataError(f"{what} {value!r} has {count} verdicts: expected one.")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ConceptVerdict]:
        return iter(self.rows)

    def table(self) -> pd.DataFrame:
        """Return the verdicts as a table, one row per concept; ``votes`` is a list of mappings."""
        frame = pd.DataFrame([r.model_dump() for r in self], columns=list(ConceptVerdict.model_fields), dtype=object)
        return frame.astype({"class_index": "int64", "component": "int64"})

    def save(self, path: str | Path, *, comment: str = "") -> None:
        """Write ``.parquet``, ``.jsonl`` (one verdict per line) or ``.csv`` (one vote per line), whole or not at all.

        Equal verdicts give equal bytes. Text in a CSV that a spreadsheet would take for a formula is made inert.

        Args:
            path: The file; its ending says which form.
            comment: For a CSV: put before the header, each line after ``# ``.

        Raises:
            ConfigError: The ending is not one of these, or a form other than CSV is to carry a comment.
        """
        write_rows(Path(path), self.rows, comment)

    @classmethod
    def load(cls, path: str | Path) -> ConceptVerdicts:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing, of another form, or has a row that is not a verdict; the sentence names it.
        """
        rows = read_rows(Path(path))
        try:
            return cls(rows)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


class Unmatched(NamedTuple):
    """A verdict that no row of the bank takes."""

    verdict: ConceptVerdict
    reason: str


class AnnotatedBank(NamedTuple):
    """A bank with verdicts.

    Attributes:
        bank: The bank; its table has ``verdict``, ``verdict_source`` and ``votes`` (a list of mappings, see
            :class:`Vote`), which are null in rows without a verdict, and the names that the verdicts give.
        matched: Verdicts that a row took.
        unmatched: The others, each with the reason.
    """

    bank: ConceptBank
    matched: int
    unmatched: tuple[Unmatched, ...]


def apply_verdicts(bank: ConceptBank, verdicts: ConceptVerdicts) -> AnnotatedBank:
    """Put verdicts on the rows of a bank.

    A verdict with a ``concept_id`` goes to that row, any other one to the row of its kind, class id and component.
    Verdicts that the bank has already stay where no new one replaces them.

    Args:
        bank: The concepts.
        verdicts: What was said of them, or of others too.

    Raises:
        StoreError: The verdicts are on concepts of another model, or the bank has two rows for one of them.
        DataError: Two verdicts go to one row.
    """
    _check_model(bank, verdicts)
    by_id, by_key = _row_numbers(bank.table)
    table = bank.table.copy()
    columns = {c: _column(table, c) for c in ("verdict", "verdict_source", "votes", "name")}
    unmatched: list[Unmatched] = []
    taken: dict[int, str] = {}
    for verdict in verdicts:
        row = by_key.get(verdict.key) if verdict.concept_id is None else by_id.get(verdict.concept_id)
        if row is None:
            unmatched.append(Unmatched(verdict, _why_unmatched(bank.table, verdict)))
            continue
        if row in taken:
            raise DataError(
                f"concept {bank.table['concept_id'].iloc[row]!r} is given two verdicts, {taken[row]!r} by its id and "
                f"{verdict.verdict!r} by kind, class and component or the reverse: expected one."
            )
        taken[row] = verdict.verdict
        columns["verdict"][row], columns["verdict_source"][row] = verdict.verdict, verdict.source
        columns["votes"][row] = [v.model_dump() for v in verdict.votes]
        columns["name"][row] = verdict.name or columns["name"][row]
    for column, values in columns.items():
        table[column] = pd.Series(values, index=table.index, dtype=object)
    return AnnotatedBank(replace(bank, table=table), len(taken), tuple(unmatched))


def _count(item: tuple[Any, int]) -> int:
    return item[1]


def _check_model(bank: ConceptBank, verdicts: Iterable[ConceptVerdict]) -> None:
    for verdict in verdicts:
        if verdict.weights_sha256 not in {None, bank.info.weights_sha256}:
            raise StoreError(
                f"the verdicts are on concepts of a model with weights {str(verdict.weights_sha256)[:12]}, but the "
                f"bank's are of {bank.info.model} with weights {bank.info.weights_sha256[:12]}."
            )


def _row_numbers(table: pd.DataFrame) -> tuple[dict[str, int], dict[tuple[str, str, int], int]]:
    by_id = {str(concept): row for row, concept in enumerate(table["concept_id"])}
    keys = zip(table["kind"], table["class_id"], table["component"], strict=True)
    by_key: dict[tuple[str, str, int], int] = {}
    for row, (kind, class_id, component) in enumerate(keys):
        if by_key.setdefault((str(kind), str(class_id), int(component)), row) != row:
            raise StoreError(f"the bank has two rows of kind {kind!r}, class {class_id!r} and component {component}.")
    return by_id, by_key


def _column(table: pd.DataFrame, name: str) -> list[Any]:
    """Return a column's values with None for every kind of null; all None where the table lacks it."""
    if name not in table:
        return [None] * len(table)
    return [None if not isinstance(v, list | np.ndarray) and pd.isna(v) else v for v in table[name]]


def _why_unmatched(table: pd.DataFrame, verdict: ConceptVerdict) -> str:
    if verdict.concept_id is not None:
        return f"the bank has no concept {verdict.concept_id!r}"
    of_kind = table[table["kind"] == verdict.kind]
    if of_kind.empty:
        return f"the bank has no concept of kind {verdict.kind!r}"
    of_class = of_kind[of_kind["class_id"] == verdict.class_id]
    if of_class.empty:
        return f"the bank has no class {verdict.class_id!r}"
    return f"the bank has no component {verdict.component} of class {verdict.class_id!r} ({len(of_class)} others)"
