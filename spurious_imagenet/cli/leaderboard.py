"""``spurious leaderboard``: keep and score a leaderboard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.cli.groups import plain_typer
from spurious_imagenet.cli.leaderboard_serve import export, serve, space
from spurious_imagenet.cli.leaderboard_show import say_broken, show
from spurious_imagenet.cli.leaderboard_worker import request, requests, verify, worker
from spurious_imagenet.cli.options import MaxLabelProblems, console, progress_bar, working
from spurious_imagenet.errors import ConfigError, StoreError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS
from spurious_imagenet.leaderboard.entry import Entry
from spurious_imagenet.leaderboard.scoring.alike import alike_to
from spurious_imagenet.leaderboard.store.rescore import RescoreReport, rescore, score_under
from spurious_imagenet.leaderboard.store.retiring import RetiredKey, retire
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.texts import read_list

__all__ = ["app"]

app = plain_typer()

Board = Annotated[
    str, typer.Argument(metavar="BOARD", help="Folder or address of the leaderboard, such as s3://… or hf://….")
]
Workers = Annotated[int | None, typer.Option(help="Processes that score; as many as CPUs if not given.", min=1)]
_LISTED = 20
#: As written by hand, or saved by a spreadsheet with its separator.
_RETIRED = re.compile(r"""(?:"?(?P<class_id>.*[^\s,;"])"?\s*[\s,;]\s*)?"?(?P<sha256>[0-9a-fA-F]{64})"?[\s,;]*""")


@app.callback()
def group() -> None:
    """Keep, score, serve and export a leaderboard."""


@app.command()
def init(
    board: Board,
    dataset: Annotated[str, typer.Option(help="Published dataset of spurious images: folder or Hub id.")],
    val: Annotated[str, typer.Option(help="Validation images: shards, or a folder with one sub-folder per class.")],
    rankings: Annotated[
        Path | None, typer.Option(help="Folder of `spurious rank` for these validation images: adds spurious gaps.")
    ] = None,
    boards: Annotated[
        Path | None, typer.Option(help="Folder of `spurious boards`; the dataset's own boards if left out.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="For datasets that do not say theirs, such as 1.0.0.")] = None,
    name: Annotated[str | None, typer.Option(help="Title; the dataset's if left out.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="File with one class id per line: the classes whose validation images count.")
    ] = None,
    max_label_problems: MaxLabelProblems = MAX_LABEL_PROBLEMS,
    gap_k: Annotated[int, typer.Option(help="Images on either side of each class's spurious gap.", min=1)] = 10,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of the intervals.", min=2)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resamples.", min=0)] = 0,
) -> None:
    """Make a leaderboard of a published dataset, or add that dataset's version to one."""
    from spurious_imagenet.leaderboard.store.making import make_version
    from spurious_imagenet.models import label_space_for
    from spurious_imagenet.models.spec import read_labels_file

    ids = None if labels is None else read_labels_file(labels)[0]
    with working("reading the dataset and its validation images"):
        made, pictures = make_version(
            dataset,
            val,
            rankings=rankings,
            boards=boards,
            version=version,
            name=name,
            labels=None if ids is None else label_space_for(len(ids), class_ids=ids),
            max_label_problems=max_label_problems,
            gap_k=gap_k,
            resamples=resamples,
            seed=seed,
        )
        Store(board, create=True).add_version(made, pictures)
    info = made.info
    typer.echo(
        f"{board}: {info.name} {info.version}, {len(made.side('spurious'))} spurious images of {len(info.class_names)} "
        f"classes, {len(made.side('validation'))} validation images of {made.side('validation')['class_id'].nunique()} "
        f"classes, "
        f"{'spurious gaps' if made.rankings else 'no spurious gaps'}."
    )


@app.command()
def add(
    board: Board,
    submissions: Annotated[list[Path], typer.Argument(metavar="SUBMISSION...", help="Directories or zip files.")],
) -> None:
    """Check submissions, keep those that are right, and score them."""
    from spurious_imagenet.leaderboard.submission.check import check_submission

    store = Store(board)
    version = store.version()
    classes = version.side("validation")["class_id"].nunique()
    refused = 0
    for path in submissions:
        checked = check_submission(path, version)
        for problem in checked.problems:
            typer.secho(f"{path}: {problem}", err=True, fg=typer.colors.RED)
        for warning in checked.warnings:
            typer.secho(f"{path}: {warning}", err=True, fg=typer.colors.YELLOW)
        if checked.submission is None:
            refused += 1
            continue
        entry = store.add(checked.submission)
        score = score_under(store, entry, version.info.version).score
        same = _same_predictions(store, entry, version.info.version)
        for other in same:
            text = f"{path}: its predictions equal those of entry {other.id[:12]} ({other.info.model}) on every image."
            typer.secho(text, err=True, fg=typer.colors.YELLOW)
        typer.echo(
            f"{entry.id[:12]}  {entry.info.model}: spurious AUC {score.mean.spurious_auc:.4f}, "
            f"AP {score.mean.spurious_ap:.4f}, accuracy {score.accuracy:.4f} "
            f"on {score.accuracy_images} images of {classes} classes."
        )
    if refused:
        raise ConfigError(f"{refused} of {len(submissions)} submissions were refused, for the reasons above.")


def _same_predictions(store: Store, entry: Entry, version: str) -> list[Entry]:
    entries = {e.id: e for e in store.entries()}
    scores = {i: scored.score for i, scored in store.summaries(version).items() if i in entries}
    return [entries[i] for i in alike_to(entry.id, entries, scores, store.submitted)]


@app.command("retire")
def retire_command(
    board: Board,
    images: Annotated[Path, typer.Option(help="File with one image per line: SHA-256, or class id and SHA-256.")],
    reason: Annotated[str, typer.Option(help="Why, in one sentence that everyone can read.")],
    version: Annotated[str, typer.Option(help="Name of the new version, such as 1.0.1.")],
    workers: Workers = None,
) -> None:
    """Make a version without some images, and score every entry under it from its predictions.

    Scores under older versions stay.
    """
    store = Store(board)
    made = retire(store, _retired_keys(images), reason, version)
    left = len(made.side("spurious"))
    typer.echo(f"{board}: version {made.info.version} with {left} spurious images.")
    _rescore(store, made.info.version, workers)


@app.command("rescore")
def rescore_command(
    board: Board,
    version: Annotated[str, typer.Option(help="Version; the newest if not given.")] = "latest",
    workers: Workers = None,
) -> None:
    """Score every entry that lacks a score under a version; goes on where a killed run was."""
    _rescore(Store(board), version, workers)


@app.command()
def withdraw(
    board: Board,
    entry: Annotated[str, typer.Argument(help="Id of an entry, or its first digits.")],
    reason: Annotated[str, typer.Option(help="Why, in one sentence that everyone can read.")],
) -> None:
    """Take an entry off the board for good; its files stay."""
    store = Store(board)
    found = _find(store, entry)
    done = store.withdraw(found.id, reason)
    typer.echo(f"{found.id[:12]}  {found.info.model}: withdrawn {done.time}: {done.reason}")


for command in (show, request, requests, worker, verify, serve, export, space):
    app.command()(command)


def _rescore(store: Store, version: str, workers: int | None) -> None:
    with progress_bar("entries") as bar:
        task = bar.add_task("scoring", total=None, note="")
        report = rescore(store, version, lambda done, of: bar.update(task, completed=done, total=of), workers=workers)
    for entry_id, reason in list(report.refused.items())[:_LISTED]:
        console.print(f"{entry_id[:12]}: {reason}", highlight=False, markup=False, soft_wrap=True)
    typer.echo(_said(report))
    say_broken(store)


def _said(report: RescoreReport) -> str:
    text = f"version {report.version}: {report.scored} entries scored, {report.kept} had a score"
    if report.refused:
        text += f", {len(report.refused)} cannot be scored"
    return f"{text}; {report.seconds:.1f} s."


def _find(store: Store, prefix: str) -> Entry:
    found = [e for e in [*store.entries(), *store.entries(withdrawn=True)] if e.id.startswith(prefix)]
    if len(found) != 1:
        what = "several entries" if found else "no entry"
        raise StoreError(f"{store.place.name} has {what} whose id begins with {prefix!r}: expected exactly one.")
    return found[0]


def _retired_keys(path: Path) -> list[RetiredKey]:
    keys: list[RetiredKey] = []
    for number, line in read_list(path, "list of images", ConfigError):
        found = _RETIRED.fullmatch(line)
        if found is None:
            raise ConfigError(
                f"list of images {path}, line {number}: got {line[:80]!r}, expected a SHA-256 in 64 hexadecimal "
                "digits, or a class id before it."
            )
        sha256 = found["sha256"].lower()
        keys.append((found["class_id"], sha256) if found["class_id"] else sha256)
    return keys
