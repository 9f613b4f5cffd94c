"""``spurious leaderboard show``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from spurious_imagenet.cli.options import console
from spurious_imagenet.cli.tables import Sheet
from spurious_imagenet.leaderboard.entry import Entry
from spurious_imagenet.leaderboard.pages.board import VersionBoard
from spurious_imagenet.leaderboard.scoring.ranking import RankedEntry
from spurious_imagenet.leaderboard.store.store import Store

__all__ = ["say_broken", "show"]

_LISTED = 20
_COLUMNS = ("rank", "entry", "model", "AUC and its interval", "AP", "accuracy", "gap")


def show(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="Folder or address of the leaderboard.")],
    version: Annotated[str, typer.Option(help="Version; the newest if not given.")] = "latest",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """List the entries of a leaderboard with their scores, the best first.

    Each protocol has ranks of its own. Rank 2-4 says that one entry is significantly better, and that two others cannot
    be told apart from this one, each pair judged by the same resamples of images and classes.
    """
    store = Store(board)
    found = VersionBoard.read(store, store.latest if version == "latest" else version)
    unscored = [e for e in store.entries() if e.id not in found.scored]
    if as_json:
        typer.echo(json.dumps(_records(found, unscored), indent=1, ensure_ascii=False))
        return
    info = found.version.info
    for protocol, part in found.ranking.protocols.items():
        _table(f"{info.name} {info.version}, protocol {protocol.value}", part.rows, found).print()
    if not found.entries:
        typer.echo(f"{info.name} {info.version}: no entry has a score.")
    if unscored:
        number = _number(len(unscored), "entry has", "entries have")
        typer.echo(f"{number} no score under this version: `spurious leaderboard rescore` makes it.")
    withdrawn = len(store.withdrawals())
    if withdrawn:
        typer.echo(f"{_number(withdrawn, 'entry was', 'entries were')} withdrawn.")
    say_broken(store)


def say_broken(store: Store) -> None:
    """Name files that count nowhere as they are not what they must be."""
    for path, reason in store.broken[:_LISTED]:
        console.print(f"left out {path}: {reason}.", style="yellow", highlight=False, markup=False, soft_wrap=True)


def _number(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _table(title: str, rows: Sequence[RankedEntry], found: VersionBoard) -> Sheet:
    sheet = Sheet(_COLUMNS, {"model"}, title)
    for row in rows:
        score = found.scored[row.entry].score
        sheet.row(
            f"{row.rank}-{row.worst_rank}" if row.ties else f"{row.rank}",
            row.entry[:8],
            found.entries[row.entry].info.model,
            f"{row.value:.3f} [{row.interval.low:.3f}, {row.interval.high:.3f}]",
            f"{score.mean.spurious_ap:.3f}",
            f"{score.accuracy:.3f}",
            "" if score.gaps is None else f"{score.gaps.gap:.3f}",
        )
    return sheet


def _records(found: VersionBoard, unscored: Sequence[Entry]) -> list[dict[str, Any]]:
    ranked = [
        {
            "entry": found.entries[row.entry].model_dump(mode="json"),
            "place": row.model_dump(mode="json"),
            "score": found.scored[row.entry].score.model_dump(mode="json", exclude={"classes", "concepts"}),
        }
        for part in found.ranking.protocols.values()
        for row in part.rows
    ]
    return [*ranked, *({"entry": e.model_dump(mode="json"), "place": None, "score": None} for e in unscored)]
