"""A board that is being served: read once, and again when something was added to its store by whomever."""

from __future__ import annotations

import logging
import threading
import time

from spurious_imagenet.errors import SpuriousImagenetError
from spurious_imagenet.leaderboard.pages.board import BoardData
from spurious_imagenet.leaderboard.pages.site import Site
from spurious_imagenet.leaderboard.store.store import Store

_LOG = logging.getLogger(__name__)


class LiveSite:
    """Gives the site as it is; looks for what others added at most every few seconds, and not while someone waits.

    Args:
        store: The board.
        submit: See :class:`~spurious_imagenet.leaderboard.pages.site.Site`.
        every: Seconds between two looks.
    """

    def __init__(self, store: Store, *, submit: bool = False, every: float = 5.0) -> None:
        self.store, self._submit, self._every = store, submit, every
        self._lock = threading.Lock()
        self._site = Site(BoardData.read(store), submit=submit)
        self._looked = time.monotonic()
        # The pages of classes need every entry's classes: they are read before someone waits for them.
        threading.Thread(target=self._site.board.class_means, daemon=True).start()

    def site(self) -> Site:
        """Return the site; if it is time for a look, one is taken meanwhile."""
        if time.monotonic() - self._looked > self._every and self._lock.acquire(blocking=False):
            self._looked = time.monotonic()
            threading.Thread(target=self._look_and_release, daemon=True).start()
        return self._site

    def refresh(self) -> Site:
        """Return the site with everything that is in the store now.

        Raises:
            StoreError: A file of the store is torn.
        """
        with self._lock:
            self._read()
        return self._site

    def _look_and_release(self) -> None:
        try:
            self._read()
        except (SpuriousImagenetError, OSError) as error:
            _LOG.warning("the board could not be read again, and stays as it was: %s", error)
        finally:
            self._looked = time.monotonic()
            self._lock.release()

    def _read(self) -> None:
        data = BoardData.read(self.store, self._site.data)
        if data is not self._site.data:
            self._site = Site(data, submit=self._submit)
