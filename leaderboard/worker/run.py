"""Running requested models: from a request to an entry with a score."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from spurious_imagenet.benchmark.evaluation.evaluate import evaluate
from spurious_imagenet.datasets.spurious import SpuriousDataset
from spurious_imagenet.errors import DataError, SpuriousImagenetError, StoreError, one_line
from spurious_imagenet.leaderboard.entry import Entry, Verification
from spurious_imagenet.leaderboard.store.records import now
from spurious_imagenet.leaderboard.store.rescore import score_under
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.check import check_submission
from spurious_imagenet.leaderboard.submission.make import make_submission
from spurious_imagenet.leaderboard.worker._specs import load_public
from spurious_imagenet.leaderboard.worker.queue import ModelRequest, Queue, Queued, RunOutcome

__all__ = ["Workplace", "run_request", "work"]


@dataclass(frozen=True)
class Workplace:
    """What a worker runs models on, and how.

    Attributes:
        dataset: The benchmark's published dataset: folder or Hub id.
        val: Its validation images.
        allowed: Schemes of local models that the owner of the board allows.
        outputs: Folder that keeps features and logits, so that a request that is taken again goes on.
        device: Where to run.
        backend: How to run.
        workers: Decoding threads.
    """

    dataset: str
    val: str
    allowed: Collection[str] = ()
    outputs: Path | None = None
    device: str = "auto"
    backend: str = "auto"
    workers: int | None = None


def work(queue: Queue, store: Store, workplace: Workplace) -> Iterator[tuple[Queued, RunOutcome]]:
    """Run requests one after another until none waits.

    A request that cannot be run fails with its reason, and the next one is taken; what the machine cannot do, such as
    write to the store, ends the work, and the request waits again when its claim expires.

    Yields:
        Each request with what became of it.

    Raises:
        StoreError: The store cannot be read or written.
    """
    while (queued := queue.take()) is not None:
        with queue.held(queued):
            try:
                entry = run_request(queued.request, store, workplace)
            except StoreError:
                raise
            except SpuriousImagenetError as error:
                yield queued, queue.finish(queued, reason=one_line(error, 500))
            else:
                yield queued, queue.finish(queued, entry=entry.id)


def run_request(request: ModelRequest, store: Store, workplace: Workplace) -> Entry:
    """Run a model on the newest version of the benchmark and add the entry.

    The entry counts as verified: nobody but the worker made its predictions.

    Raises:
        ConfigError: The spec is refused.
        ModelError: The model cannot be loaded or run.
        DataError: The images are not those of the version, or the request says something that no submission may say.
    """
    classifier = load_public(request.spec, workplace.allowed)
    version = store.version()
    record = evaluate(
        classifier,
        SpuriousDataset(workplace.dataset),
        workplace.val,
        protocol=request.protocol,
        outputs=workplace.outputs,
        device=workplace.device,
        backend=workplace.backend,
        workers=workplace.workers,
        resamples=1,  # the score has its own
    )
    with TemporaryDirectory(prefix="spurious-request-") as folder:
        submission = make_submission(
            record,
            Path(folder) / "submission",
            authors=request.authors,
            training_data=request.training_data,
            licence=request.licence,
            dataset_version=version.info.version,
            model=request.model,
            link=request.link,
            architecture=request.architecture,
            notes=request.notes,
        )
        checked = check_submission(submission, version)
    if checked.submission is None:
        raise DataError(f"the run is not a submission that the board takes: {checked.problems[0]}")
    entry = store.add(checked.submission)
    score_under(store, entry, version.info.version)
    store.add_verification(_made_here(entry, len(checked.submission.table)))
    return entry


def _made_here(entry: Entry, images: int) -> Verification:
    return Verification(
        entry=entry.id,
        time=now(),
        images=images,
        agreeing=images,
        largest_difference=0,
        tolerance=0,
        weights_sha256=entry.info.weights_sha256,
        verified=True,
    )
