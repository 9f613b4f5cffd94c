"""``spurious review``: concepts or images judged by labelers who do not see each other's answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from spurious_imagenet.builders.review.agreement import Agreement
from spurious_imagenet.builders.review.consensus import State
from spurious_imagenet.builders.review.progress import ReviewStatus
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.builders.review.sheets import (
    Imported,
    export_disagreements,
    export_sheet,
    import_adjudications,
    import_sheet,
)
from spurious_imagenet.cli.groups import plain_typer
from spurious_imagenet.cli.options import ShardsNow, console, validated, working
from spurious_imagenet.cli.review_open import command as open_command
from spurious_imagenet.cli.tables import Sheet
from spurious_imagenet.errors import ConfigError

__all__ = ["app"]

app = plain_typer()

ReviewPath = Annotated[Path, typer.Argument(metavar="REVIEW", help="Folder of the review.")]
Labeler = Annotated[str, typer.Option(help="One of the review's labelers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.callback()
def group() -> None:
    """Have concepts or images judged by labelers who do not see each other's answers."""


app.command("open")(open_command)


@app.command()
def create(
    labelers: Annotated[str, typer.Option(help="Pseudonyms of those who judge, separated by commas.")],
    out: Annotated[Path, typer.Option(help="Folder of the review to make.")],
    boards: Annotated[
        Path | None, typer.Option(help="Judge these boards; with --candidates: show them beside the images.")
    ] = None,
    candidates: Annotated[Path | None, typer.Option(help="Judge the kept candidates of `spurious mine`.")] = None,
    items: Annotated[Path | None, typer.Option(help="Judge these items of any kind (.jsonl).")] = None,
    form: Annotated[
        str | None,
        typer.Option(help="What is asked: board, image or a .toml or .yaml file; fits the items if left out."),
    ] = None,
    per_item: Annotated[int, typer.Option(help="Labelers an item.", min=1)] = 2,
    concept: Annotated[list[str] | None, typer.Option(help="Judge this concept id only; may be given often.")] = None,
    per_concept: Annotated[int | None, typer.Option(help="At most so many candidates per concept.", min=1)] = None,
    gold: Annotated[Path | None, typer.Option(help="Known answers of some items, a sheet (.csv or .jsonl).")] = None,
    gold_tolerance: Annotated[
        float, typer.Option(help="Share of the known answers that a labeler may miss unwarned.", min=0, max=1)
    ] = 0.1,
    name: Annotated[str | None, typer.Option(help="What the review is called; its folder's name if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Decides who judges what, and in which order.", min=0)] = 0,
    shards: ShardsNow = None,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
) -> None:
    """Make a review of boards, of mined images or of anything else."""
    from spurious_imagenet.builders.review.making import ReviewSource, make_review  # torch: seconds to import

    source = validated(
        ReviewSource,
        boards=boards,
        candidates=candidates,
        items=items,
        form=form,
        gold=gold,
        concepts=tuple(concept or ()),
        per_concept=per_concept,
        shards=tuple(shards or ()),
        allow_pipe=allow_pipe,
    )
    with working("reading the items"):
        review = make_review(
            source,
            out,
            name=name or out.resolve().name,
            labelers=[part.strip() for part in labelers.split(",")],
            per_item=per_item,
            seed=seed,
            gold_tolerance=gold_tolerance,
        )
    known = sum(item.gold is not None for item in review.items.values())
    loads = ", ".join(f"{who} {len(review.queue(who))}" for who in review.labelers)
    typer.echo(f"{out}: {len(review.items)} items, {known} of them with known answers; {loads}.")


@app.command()
def status(review: ReviewPath, as_json: AsJson = False) -> None:
    """Say how far a review is, without what anyone answered."""
    found = Review.open(review).status()
    if as_json:
        _print_json(dataclasses.asdict(found))
    else:
        _show_status(found)


@app.command()
def answer(
    review: ReviewPath,
    labeler: Labeler,
    item: Annotated[str, typer.Option(help="Item id.")],
    answers: Annotated[
        list[str] | None, typer.Option("--set", help="QUESTION=yes, no or unclear; may be given often.")
    ] = None,
    clear: Annotated[bool, typer.Option(help="Take the verdict back.")] = False,
) -> None:
    """Record one verdict in place of the labeler's earlier one on that item."""
    if clear == bool(answers):
        raise ConfigError("expected either --set QUESTION=ANSWER, once a question, or --clear.")
    given = None if clear else dict(_question_and_answer(text) for text in answers or ())
    verdict = Review.open(review).record(labeler, item, given)
    typer.echo(f"{item}: {verdict.outcome or ('not all questions are answered' if verdict.answers else 'no verdict')}.")


@app.command()
def export(
    review: ReviewPath, labeler: Labeler, out: Annotated[Path, typer.Option(help="Sheet to write (.csv or .jsonl).")]
) -> None:
    """Write a labeler's items, with their own answers only, as a sheet to fill in elsewhere."""
    opened = Review.open(review)
    rows = export_sheet(opened, labeler, out)
    typer.echo(
        f"{out}: {rows} items of {labeler}; fill in {', '.join(opened.form.question_ids)} with yes, no or unclear."
    )


@app.command("import")
def import_(
    review: ReviewPath,
    sheet: Annotated[Path, typer.Argument(help="Sheet that was filled in (.csv or .jsonl).")],
    labeler: Annotated[str | None, typer.Option(help="Whose answers these are, if the sheet does not say.")] = None,
) -> None:
    """Record the answers of a sheet: all of its rows, or none where one is wrong."""
    _say_imported(sheet, import_sheet(Review.open(review), sheet, labeler))


@app.command()
def adjudicate(
    review: ReviewPath,
    who: Annotated[
        str | None, typer.Option(help="Pseudonym of the third person, who judged none of the items.")
    ] = None,
    answers: Annotated[Path | None, typer.Option(help="Their filled-in sheet (.csv or .jsonl).")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the disagreements as a sheet for them to fill in.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the items on which labelers differ, or record what a third person says of them."""
    opened = Review.open(review)
    if answers is not None:
        if who is None:
            raise ConfigError("--who is missing: expected the pseudonym of the person who answered.")
        _say_imported(answers, import_adjudications(opened, who, answers))
    elif sheet is not None:
        typer.echo(f"{sheet}: {export_disagreements(opened, sheet)} items on which labelers differ.")
    else:
        _list_disagreements(opened, as_json)


@app.command()
def kappa(review: ReviewPath, as_json: AsJson = False) -> None:
    """Say how far labelers agree beyond chance: overall, and in each concept or class."""
    found = Review.open(review).kappa()
    if as_json:
        _print_json([dataclasses.asdict(a) for a in found])
    else:
        _show_agreement(found)


@app.command()
def collect(
    review: ReviewPath,
    out: Annotated[Path, typer.Option(help="File to write: .parquet, or for boards .jsonl or .csv too.")],
    comment: Annotated[str, typer.Option(help="For a .csv: put before its header.")] = "",
) -> None:
    """Write what a review has found: verdicts for `spurious annotate`, or reviewed images for `spurious publish`."""
    from spurious_imagenet.builders.review.collect import collect as collect_review

    done = collect_review(Review.open(review), out, comment=comment)
    typer.echo(
        f"{out}: {done.rows} items, {done.accepted} accepted; {done.open} still to be judged, "
        f"{done.disagreed} on which labelers differ."
    )


@app.command()
def script(
    review: ReviewPath,
    truth: Annotated[Path, typer.Option(help="Right answers: a sheet, or the folder of a planted world.")],
    check: Annotated[
        Path | None, typer.Option(help="With a planted world: what `spurious planted check` wrote.")
    ] = None,
    error_rate: Annotated[float, typer.Option(help="Probability that an answer is wrong.", min=0, max=1)] = 0.0,
    seed: Annotated[int, typer.Option(help="Another seed errs elsewhere.", min=0)] = 0,
    labeler: Annotated[str | None, typer.Option(help="Answer all items of this labeler.")] = None,
    adjudicator: Annotated[
        str | None, typer.Option(help="Decide what the labelers differ on, without errors, as this third person.")
    ] = None,
) -> None:
    """Answer a labeler's items from known truth, with a stated rate of errors, or decide what labelers differ on."""
    from spurious_imagenet.planted.scripted import (
        adjudicate_by_script,
        answer_by_script,
        planted_answers,
        read_truth,
    )

    opened = Review.open(review)
    if labeler is None and adjudicator is None:
        raise ConfigError("expected --labeler or --adjudicator: who answers?")
    if truth.is_dir() != (check is not None):
        raise ConfigError("expected --check with the folder of a planted world, and without it for a sheet.")
    answers = read_truth(opened, truth) if check is None else planted_answers(opened, truth, check)
    if labeler is not None:
        count = answer_by_script(opened, labeler, answers, error_rate=error_rate, seed=seed)
        typer.echo(f"{labeler}: {count} verdicts by script, each answer wrong with probability {error_rate:g}.")
    if adjudicator is not None:
        count = adjudicate_by_script(opened, adjudicator, answers)
        typer.echo(f"{adjudicator}: {count} items on which labelers differed decided by script.")


def _question_and_answer(text: str) -> tuple[str, str]:
    question, separator, given = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text!r}: expected QUESTION=ANSWER.")
    return question, given


def _say_imported(path: Path, done: Imported) -> None:
    typer.echo(f"{path}: {done.recorded} verdicts recorded, {done.unchanged} were there already, {done.empty} empty.")
    if done.unread:
        typer.echo(f"{path}: columns that were not read: {', '.join(done.unread)}.")


def _show_status(found: ReviewStatus) -> None:
    headers = ("labeler", "items", "done", "begun", "a minute", "known answers")
    sheet = Sheet(headers, {"labeler"}, found.name)
    for who in found.labelers:
        pace = "" if who.per_minute is None else f"{who.per_minute:.1f}"
        gold = f"{who.gold.judged - len(who.gold.failed)} of {who.gold.judged}" if who.gold.judged else ""
        sheet.row(who.labeler, str(who.items), str(who.done), str(who.partial), pace, gold)
    sheet.print()
    for who in found.labelers:
        if who.gold.warning:
            console.print(f"warning: {who.gold.warning}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    counts = ", ".join(f"{found.states.get(state, 0)} {state.value}" for state in State)
    typer.echo(f"{found.items} items: {counts}; {found.accepted} accepted.")


def _list_disagreements(review: Review, as_json: bool) -> None:
    differ = [c for c in review.consensus().values() if c.state is State.DISAGREED]
    said = [{"item_id": c.item_id} | {v.labeler: dict(v.answers) for v in c.verdicts} for c in differ]
    if as_json:
        _print_json(said)
        return
    for consensus in differ:
        outcomes = ", ".join(f"{v.labeler}: {v.outcome}" for v in consensus.verdicts)
        typer.echo(f"{consensus.item_id}  {outcomes}")
    typer.echo(f"{len(differ)} items on which labelers differ.")


def _show_agreement(found: Sequence[Agreement]) -> None:
    sheet = Sheet(("scope", "items", "agreed", "measure", "value"), {"scope", "measure", "value"}, "agreement")
    for one in found:
        value = (one.undefined or "") if one.value is None else f"{one.value:.3f}"
        sheet.row(one.scope, str(one.items), str(one.agreed), one.measure, value)
    sheet.print()


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
