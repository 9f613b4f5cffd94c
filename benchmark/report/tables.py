"""The tables of a report: numbers exactly as in the records, with what is needed to read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.benchmark.report._comparison import METRICS, Comparison
from spurious_imagenet.benchmark.report._groups import Group
from spurious_imagenet.benchmark.report._words import short_source
from spurious_imagenet.concepts.verdict_files import inert_cell

__all__ = ["Cell", "ReportTable", "class_table", "describe", "difference_table", "model_table", "table_files"]

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class ReportTable:
    """A table of whole numbers, text and unrounded values.

    Attributes:
        caption: What it shows.
        columns: Names.
        rows: As many cells each; None where there is no value.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def csv(self) -> str:
        """Write every number in full; text that a spreadsheet would run as a formula is made inert."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([inert_cell(c) if isinstance(c, str) else c for c in row] for row in self.rows)
        return out.getvalue()

    def markdown(self) -> str:
        """Write a GitHub table, values rounded to three decimals, and its caption."""
        numeric = self._numeric()
        rules = ["---:" if n else "---" for n in numeric]
        lines = [self.columns, rules, *([_shown(c) for c in row] for row in self.rows)]
        body = "\n".join("| " + " | ".join(_markdown(c) for c in line) + " |" for line in lines)
        return f"{body}\n\n{_markdown(self.caption)}\n"

    def latex(self) -> str:
        """Write a ``tabular`` with booktabs' rules, values rounded to three decimals."""
        alignment = "".join("r" if n else "l" for n in self._numeric())
        lines = [" & ".join(_latex(_shown(c)) for c in row) + r" \\" for row in (self.columns, *self.rows)]
        body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
        return f"% {_latex(self.caption)}\n\\begin{{tabular}}{{{alignment}}}\n{body}\n\\end{{tabular}}\n"

    def _numeric(self) -> list[bool]:
        return [all(not isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))]


def _shown(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.3f}" if isinstance(cell, float) else f"{cell}"


_MARKDOWN = str.maketrans(
    {c: f"\\{c}" for c in "\\`*_[]|~$#!"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "\r": " "}
)
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "[": "{[}",
        "*": "{*}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "\n": " ",
        "\r": " ",
    }
)


def _markdown(text: str) -> str:
    return text if set(text) <= set("-:") and "---" in text else text.translate(_MARKDOWN)


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _ends(interval: Interval | None) -> tuple[Cell, Cell]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _with_ends(*names: str) -> tuple[str, ...]:
    return tuple(part for name in names for part in (name, f"{name} low", f"{name} high"))


def describe(group: Group) -> str:
    """Say in one sentence what the numbers of a group were measured on."""
    first = group.first
    images = sum(c.spurious_images for c in first.classes)
    return (
        f"{len(first.classes)} classes, {images} spurious images of {short_source(first.dataset)}, "
        f"{first.accuracy_on} (validation), protocol {first.protocol.value}; "
        "low and high: ends of 95 % bootstrap intervals."
    )


def model_table(group: Group, comparison: Comparison) -> ReportTable:
    """One row per record: everything that is measured of a model."""
    columns = (
        "model",
        "mitigation",
        "protocol",
        *_with_ends("spurious AP", "spurious AUC"),
        "chance AP",
        *_with_ends("accuracy", "spurious gap"),
        "effective robustness",
        "parameters",
        "AUC not told apart from",
        "AP not told apart from",
        "specification",
        "weights SHA-256",
    )
    rows = []
    for place, member in enumerate(group.members):
        record, gaps = member.record, member.record.gaps
        ties = ["; ".join(group.members[i].label for i in comparison.ties(place, metric)) for metric in METRICS]
        row: tuple[Cell, ...] = (
            member.label,
            member.mitigation or "none",
            record.protocol.value,
            record.mean.spurious_ap,
            *_ends(record.mean_intervals.get("spurious_ap")),
            record.mean.spurious_auc,
            *_ends(record.mean_intervals.get("spurious_auc")),
            record.mean.chance_ap,
            record.accuracy,
            *_ends(record.accuracy_interval),
            *((gaps.gap, *_ends(gaps.gap_interval)) if gaps else (None, None, None)),
            comparison.robustness.get(place),
            record.parameters,
            *ties,
            record.model,
            record.weights_sha256,
        )
        rows.append(row)
    return ReportTable(f"Models: {describe(group)}", columns, tuple(rows))


def class_table(group: Group) -> ReportTable:
    """One row per class and record."""
    columns = (
        "model",
        "class id",
        "class",
        "validation images",
        "spurious images",
        *_with_ends("spurious AUC", "spurious AP"),
        "chance AP",
        *_with_ends("gap"),
        "control",
    )
    rows = []
    for member in group.members:
        gaps = {g.class_id: g for g in member.record.gaps.classes} if member.record.gaps else {}
        for item in member.record.classes:
            gap = gaps.get(item.class_id)
            row: tuple[Cell, ...] = (
                member.label,
                item.class_id,
                item.class_name,
                item.validation_images,
                item.spurious_images,
                item.spurious_auc,
                *_ends(item.intervals.get("spurious_auc")),
                item.spurious_ap,
                *_ends(item.intervals.get("spurious_ap")),
                item.chance_ap,
                *((gap.gap, *_ends(gap.interval), gap.control) if gap else (None, None, None, None)),
            )
            rows.append(row)
    return ReportTable(f"Classes: {describe(group)}", columns, tuple(rows))


def difference_table(group: Group, comparison: Comparison) -> ReportTable:
    """One row per pair of records: paired differences, and the correlation of their class-wise gaps."""
    columns = (
        "first",
        "second",
        *(p for m in ("AUC", "AP") for p in (*_with_ends(f"{m} difference"), f"{m} told apart")),
        "correlation of class-wise gaps",
    )
    rows: list[tuple[Cell, ...]] = []
    for (i, j), auc in comparison.differences["spurious_auc"].items():
        ap = comparison.differences["spurious_ap"][i, j]
        found = tuple(p for d in (auc, ap) for p in (d.difference, *_ends(d.interval), d.distinguishable))
        labels = group.members[i].label, group.members[j].label
        rows.append((*labels, *found, comparison.correlations.get((i, j))))
    caption = f"Pairs, first minus second, on the same resamples: {describe(group)}"
    return ReportTable(caption, columns, tuple(rows))


def table_files(tables: Sequence[tuple[str, ReportTable]]) -> dict[str, str]:
    """Write tables in all three formats; return file name -> text."""
    written: dict[str, str] = {}
    for name, table in tables:
        written |= {f"{name}.csv": table.csv(), f"{name}.md": table.markdown(), f"{name}.tex": table.latex()}
    return written
