"""``spurious annotate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from spurious_imagenet.cli.options import console
from spurious_imagenet.concepts import ConceptBank, ConceptVerdicts, apply_verdicts
from spurious_imagenet.errors import DataError

__all__ = ["command"]

_SHOWN = 10


def command(
    bank: Annotated[Path, typer.Option(help="Concept bank.")],
    verdicts: Annotated[Path, typer.Option(help="Verdicts, by `spurious import` or `spurious review collect`.")],
    out: Annotated[Path, typer.Option(help="Bank to write.")],
    only: Annotated[
        Literal["spurious", "core", "unclear"] | None, typer.Option(help="Keep only the concepts with this verdict.")
    ] = None,
) -> None:
    """Put verdicts on the concepts of a bank.

    A verdict goes to the concept of its id or, where it was made elsewhere, of its kind, class and component. Verdicts
    that were imported do not say which weights were judged: use them on a bank of that same model only.
    """
    read = ConceptVerdicts.load(verdicts)
    annotated, matched, unmatched = apply_verdicts(ConceptBank.load(bank), read)
    if not matched:
        reason = unmatched[0].reason if unmatched else f"{verdicts} holds no verdicts"
        raise DataError(f"none of {len(read)} verdicts is on a concept of {bank}: {reason}.")
    if only is not None:
        annotated = annotated.choose(verdict=only)
        if not len(annotated):
            raise DataError(f"no concept of {bank} has the verdict {only!r}.")
    annotated.save(out)
    for verdict, reason in unmatched[:_SHOWN]:
        text = f"  not matched: {verdict.kind} {verdict.class_id} {verdict.component} ({verdict.verdict}): {reason}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if len(unmatched) > _SHOWN:
        typer.echo(f"  … and {len(unmatched) - _SHOWN} more", err=True)
    if any(v.weights_sha256 is None for v in read):
        console.print(
            "  warning: these verdicts do not say which model was judged, and components of one model are not "
            f"those of another: they hold only if it was {annotated.info.model}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    typer.echo(
        f"{out}: {len(annotated)} concepts; {matched} of {len(read)} verdicts matched, {len(unmatched)} did not "
        f"({_counts(annotated)})."
    )


def _counts(bank: ConceptBank) -> str:
    counts = bank.table["verdict"].value_counts()
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
