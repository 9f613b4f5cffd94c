"""What happens to what was handed in: a few at once are checked, each in a process of its own."""

from __future__ import annotations

import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from spurious_imagenet.leaderboard.app._checker import Checker, CheckerConfig, CheckOutcome
from spurious_imagenet.leaderboard.app._limits import TokenBucket
from spurious_imagenet.leaderboard.store.store import Store

_LOG = logging.getLogger(__name__)
_BUSY = "the board is busy with other submissions: try again in a minute."


class Receiver:
    """Takes submissions and requests of models.

    Args:
        store: The board.
        config: What checking may use.
        at_once: How many may be in work; more are refused, not queued without end.
        requests_an_hour: Requests of one address.
    """

    def __init__(self, store: Store, config: CheckerConfig, at_once: int, requests_an_hour: int = 10) -> None:
        self._free: queue.SimpleQueue[Checker] = queue.SimpleQueue()
        checkers = [Checker(store, config) for _ in range(at_once)]
        for checker in checkers:
            self._free.put(checker)
        self._requests = TokenBucket(requests_an_hour, 3600)
        self._most = requests_an_hour
        threading.Thread(target=checkers[0].start, daemon=True).start()

    def submission(self, path: str | Path) -> CheckOutcome:
        """Check a file, and if nothing is wrong add it to the board."""
        return self._with_checker(lambda checker: checker.submission(path))

    def handed_in(self, file: IO[bytes]) -> CheckOutcome:
        """Check an open file, and if nothing is wrong add it to the board; the file is closed."""
        with place_for_one() as path:
            with file, path.open("xb") as copy:
                shutil.copyfileobj(file, copy)
            return self.submission(path)

    def request(self, fields: dict[str, Any], client: str) -> CheckOutcome:
        """Ask for a model with published weights to be run; empty fields count as left out."""
        if not self._requests.take(client):
            said = f"too many requests from one address: expected at most {self._most} an hour."
            return CheckOutcome(None, (said,), busy=True)
        return self._with_checker(lambda checker: checker.request(fields))

    def _with_checker(self, take: Callable[[Checker], CheckOutcome]) -> CheckOutcome:
        try:
            checker = self._free.get_nowait()
        except queue.Empty:
            return CheckOutcome(None, (_BUSY,), busy=True)
        try:
            outcome = take(checker)
        finally:
            self._free.put(checker)
        if outcome.log:
            _LOG.error("%s", outcome.log)
        return outcome


@contextmanager
def place_for_one() -> Iterator[Path]:
    """Yield where a submission may be written for as long as it is in work, in a folder that is open to nobody else."""
    with tempfile.TemporaryDirectory(prefix="spurious-board-") as folder:
        yield Path(folder) / "submission.zip"
