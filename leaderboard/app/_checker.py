"""A process that takes what strangers hand in: whatever a file does to the libraries that read it, the server lives."""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
import threading
import traceback
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from spurious_imagenet.errors import SpuriousImagenetError
from spurious_imagenet.leaderboard.store.rescore import score_under
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.check import check_submission
from spurious_imagenet.leaderboard.submission.problems import Limits
from spurious_imagenet.leaderboard.worker.asking import model_request
from spurious_imagenet.leaderboard.worker.queue import Queue

_NOT_TAKEN = "the board could not take it, and its keeper's log says why: try again later."


@dataclass(frozen=True)
class CheckerConfig:
    """What the process may use.

    Attributes:
        limits: How large a submission may be.
        memory: Bytes of its address space.
        seconds: For one submission or request.
        waiting: Requests of models that may wait for a worker.
    """

    limits: Limits
    memory: int = 12 << 30
    seconds: float = 300
    waiting: int = 100


@dataclass(frozen=True)
class CheckOutcome:
    """What became of what was handed in.

    Attributes:
        id: Of its entry or request; None if it was refused.
        sentences: What is wrong, or else what the submitter should know.
        busy: Whether the same may be taken a little later.
        log: For the keeper's log alone.
    """

    id: str | None
    sentences: tuple[str, ...]
    busy: bool = False
    log: str = ""


class Checker:
    """One such process, started when it is needed and again after it ended; takes one thing at a time.

    Args:
        store: The board.
        config: What it may use.
    """

    def __init__(self, store: Store, config: CheckerConfig) -> None:
        self.store, self.config = store, config
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Any = None

    def submission(self, path: str | Path) -> CheckOutcome:
        """Check a file, and if nothing is wrong add it to the board and score it.

        The same submission again gives the same entry. An entry that is stored but not scored, as after a kill, is
        scored when it comes again or by ``spurious leaderboard rescore``.
        """
        return self._take({"submission": str(path)})

    def request(self, fields: dict[str, Any]) -> CheckOutcome:
        """Ask for a model to be run; ``fields`` are those of a request."""
        return self._take({"request": fields})

    @property
    def pid(self) -> int | None:
        """Of the process; None where it does not run."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                self._end()

    def start(self) -> None:
        """Start the process, so that nobody waits for it."""
        with self._lock:
            self._running()

    def _take(self, what: dict[str, Any]) -> CheckOutcome:
        with self._lock:
            pipe = self._running()
            try:
                pipe.send_bytes(json.dumps(what).encode())
                if pipe.poll(self.config.seconds):
                    answer = json.loads(pipe.recv_bytes())  # JSON: what a broken process sends is data, never code
                    return CheckOutcome(**answer | {"sentences": tuple(answer["sentences"])})
            except (EOFError, OSError):
                code = self._end()
                said = "it cannot be checked: reading it ended the process that checks submissions."
                return CheckOutcome(None, (said,), log=f"the checking process ended with the code {code}: {what}")
            self._end()
            said = f"checking it took more than the {self.config.seconds:g} seconds that are allowed."
            return CheckOutcome(None, (said,), log=f"{said} {what}")

    def _running(self) -> Any:
        if self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")
            self._pipe, end = context.Pipe()
            arguments = (self.store.url, self.store.storage_options, self.config, end)
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            self._process.start()
            end.close()  # so that the end of the process ends the pipe
        return self._pipe

    def _end(self) -> int | None:
        self._process.kill()
        self._process.join()
        self._pipe.close()
        code, self._process = self._process.exitcode, None
        return code if code is None else int(code)


def _serve(url: str, options: dict[str, Any], config: CheckerConfig, pipe: Connection) -> None:
    """Take what comes until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    memory = config.memory if hard == resource.RLIM_INFINITY else min(config.memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
    store = Store(url, storage_options=options)
    while True:
        try:
            what = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        pipe.send_bytes(json.dumps(asdict(_taken(store, config, what))).encode())


def _taken(store: Store, config: CheckerConfig, what: dict[str, Any]) -> CheckOutcome:
    try:
        if "submission" in what:
            return _add(store, what["submission"], config.limits)
        return _ask(store, what["request"], config.waiting)
    except SpuriousImagenetError as error:
        return CheckOutcome(None, tuple(str(error).splitlines()))
    except MemoryError:
        return CheckOutcome(None, ("checking it needs more memory than the board allows.",))
    except Exception:
        return CheckOutcome(None, (_NOT_TAKEN,), log=traceback.format_exc())


def _add(store: Store, path: str, limits: Limits) -> CheckOutcome:
    version = store.version()
    checked = check_submission(path, version, limits)
    if checked.submission is None:
        return CheckOutcome(None, tuple(str(problem) for problem in checked.problems))
    entry = store.add(checked.submission)
    score_under(store, entry, version.info.version)
    return CheckOutcome(entry.id, tuple(str(warning) for warning in checked.warnings))


def _ask(store: Store, fields: dict[str, Any], most: int) -> CheckOutcome:
    wanted, queue = model_request(fields), Queue(store.place)
    waiting = [q for q in queue.all() if q.outcome is None]
    if len(waiting) >= most and all(q.request.id != wanted.id for q in waiting):
        return CheckOutcome(
            None, (f"{len(waiting)} requests wait already: try again when workers have run some.",), busy=True
        )
    queued = queue.add(wanted)
    became = queued.outcome
    if became is not None and became.entry is not None:
        return CheckOutcome(queued.request.id, (f"it was run before: entry {became.entry[:12]}.",))
    return CheckOutcome(queued.request.id, ())
