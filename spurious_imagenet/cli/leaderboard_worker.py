"""``spurious leaderboard request``, ``worker`` and ``verify``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from spurious_imagenet.cli.options import Backend, Device, Workers, console, working
from spurious_imagenet.cli.tables import Sheet
from spurious_imagenet.errors import StoreError
from spurious_imagenet.images import Protocol
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.worker.asking import model_request
from spurious_imagenet.leaderboard.worker.queue import Queue, Queued, RunOutcome

__all__ = ["request", "requests", "verify", "worker"]

Board = Annotated[str, typer.Argument(metavar="BOARD", help="Folder or address of the leaderboard.")]
Allowed = Annotated[
    list[str] | None,
    typer.Option("--allow-scheme", help="file: models of your own, on a board of your own."),
]
Dataset = Annotated[str, typer.Option(help="The leaderboard's published dataset: folder or Hub id.")]
Val = Annotated[str, typer.Option(help="Its validation images: shards, or a folder with one sub-folder per class.")]


def request(
    board: Board,
    model: Annotated[str, typer.Option(help="timm:NAME, timm:hf-hub:ORG/NAME or open_clip:ARCH/WEIGHTS.")],
    protocol: Annotated[Protocol, typer.Option(help="paper, or standard: the model's own transform.")],
    name: Annotated[str, typer.Option(help="What to call it on the board.")],
    authors: Annotated[list[str], typer.Option(help="Who made the model; may be given often.")],
    training_data: Annotated[str, typer.Option(help="What it was trained on, such as ImageNet-1k.")],
    licence: Annotated[str, typer.Option(help="Of the weights.")],
    link: Annotated[str | None, typer.Option(help="Where to read more, https://….")] = None,
    architecture: Annotated[str | None, typer.Option(help="timm's name of it, where the spec does not tell.")] = None,
    notes: Annotated[str | None, typer.Option(help="What else readers should know.")] = None,
    allow_scheme: Allowed = None,
) -> None:
    """Ask for a model with published weights to be run; `spurious leaderboard worker` runs it."""
    wanted = model_request(
        {
            "spec": model,
            "protocol": protocol,
            "model": name,
            "authors": tuple(authors),
            "training_data": training_data,
            "licence": licence,
            "link": link,
            "architecture": architecture,
            "notes": notes,
        },
        allow_scheme or (),
    )
    queued = Queue(Store(board).place).add(wanted)
    _say(f"{queued.request.id[:12]}  {queued.request.model}: {_state(queued)}")


def requests(board: Board) -> None:
    """List what was asked for, and what became of it."""
    sheet = Sheet(("request", "model", "spec", "protocol", "state"), {"model", "spec", "state"})
    for q in Queue(Store(board).place).all():
        r = q.request
        sheet.row(r.id[:12], r.model, r.spec, r.protocol.value, _state(q))
    sheet.print()


def worker(
    board: Board,
    dataset: Dataset,
    val: Val,
    once: Annotated[bool, typer.Option("--once", help="Stop when nothing waits, in place of looking again.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between looks.", min=1)] = 30,
    lease: Annotated[float, typer.Option(help="Seconds after which a dead worker's request is taken.", min=3)] = 600,
    outputs: Annotated[Path | None, typer.Option(help="Folder that keeps logits, to go on after a stop.")] = None,
    allow_scheme: Allowed = None,
    device: Device = "auto",
    backend: Backend = "auto",
    workers: Workers = None,
) -> None:
    """Run the models that were asked for and add them to the board; several workers may share the work."""
    from spurious_imagenet.leaderboard.worker.run import Workplace, work

    store = Store(board)
    queue = Queue(store.place, lease=lease)
    place = Workplace(dataset, val, tuple(allow_scheme or ()), outputs, device, backend, workers)
    while True:
        for queued, outcome in work(queue, store, place):
            _say(f"{queued.request.id[:12]}  {queued.request.model}: {_became(outcome)}")
        if once:
            return
        time.sleep(every)


def verify(
    board: Board,
    entry: Annotated[str, typer.Argument(metavar="ENTRY", help="Id of an entry, or its first digits.")],
    dataset: Dataset,
    val: Val,
    images: Annotated[int, typer.Option(help="How many images to run, half of them spurious.", min=2)] = 32,
    seed: Annotated[int | None, typer.Option(help="To draw a known sample again.", min=0)] = None,
    tolerance: Annotated[float, typer.Option(help="Largest difference of a probability.", min=0)] = 0.01,
    model: Annotated[str | None, typer.Option(help="Spec to load in place of the entry's own.")] = None,
    allow_scheme: Allowed = None,
    device: Device = "auto",
    backend: Backend = "auto",
    workers: Workers = None,
) -> None:
    """Run an entry's model again on some images, which nobody can foresee, and keep whether it agrees."""
    from spurious_imagenet.leaderboard.worker.run import Workplace
    from spurious_imagenet.leaderboard.worker.verify import verify_entry

    store = Store(board)
    found = [e.id for e in store.entries() if e.id.startswith(entry)]
    if len(found) != 1:
        raise StoreError(f"{board} has {len(found)} entries whose id begins with {entry!r}: expected exactly one.")
    place = Workplace(dataset, val, tuple(allow_scheme or ()), None, device, backend, workers)
    with working(f"running the model again on {images} images"):
        said = verify_entry(store, found[0], place, images=images, seed=seed, tolerance=tolerance, model=model)
    if not said.verified:
        console.print(f"{found[0][:12]}: not verified: {said.reason}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1)
    _say(
        f"{found[0][:12]}: verified: the weights have the hash that was given, and {said.agreeing} of {said.images} "
        f"images agree (largest difference {said.largest_difference:.2g}, seed {said.seed})."
    )


def _state(queued: Queued) -> str:
    if queued.outcome is not None:
        return _became(queued.outcome)
    return queued.state(time.time())


def _became(outcome: RunOutcome) -> str:
    return f"entry {outcome.entry[:12]}" if outcome.entry is not None else f"failed: {outcome.reason}"


def _say(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
