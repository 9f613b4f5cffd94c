"""What visitors uploaded and have not handed in yet: open files that have no name, each known by a secret."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from typing import IO, NamedTuple

#: Where a request's scope holds the open file that its sender hands in.
HANDED_IN = "spurious_imagenet.handed_in"


class Kept(NamedTuple):
    """An upload.

    Attributes:
        file: The open file.
        client: Address of who uploaded it.
    """

    file: IO[bytes]
    client: str


class Uploads:
    """Keeps them for a while; used from within the event loop alone.

    No path leads to an upload and none is ever made of what a request says, so nothing else can be handed in: not a
    file of the server, not a link, not what another visitor uploaded, not the same upload twice.

    Args:
        most: How many; the oldest goes for one more.
        each: How many of one client, likewise.
        seconds: For how long.
    """

    def __init__(self, most: int = 64, each: int = 6, seconds: float = 3600) -> None:
        self.most, self.each, self.seconds = most, each, seconds
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, file: IO[bytes], client: str) -> str:
        """Keep an open file; return the secret by which its client may hand it in."""
        own = [reference for reference, kept in self._kept.items() if kept.client == client]
        for reference in own[: max(0, len(own) - self.each + 1)]:
            self._drop(reference)
        while len(self._kept) >= self.most:
            self._drop(next(iter(self._kept)))
        reference = secrets.token_urlsafe(24)
        self._kept[reference] = Kept(file, client)
        asyncio.get_running_loop().call_later(self.seconds, self._drop, reference)
        return reference

    def take(self, reference: str, client: str) -> Kept | None:
        """Give away what this client uploaded; None if there is no such upload, or no longer."""
        kept = self._kept.get(reference)
        return self._kept.pop(reference) if kept is not None and kept.client == client else None

    def put_back(self, reference: str, kept: Kept) -> None:
        """Take back what was given away for nothing."""
        self._kept[reference] = kept

    def _drop(self, reference: str) -> None:
        kept = self._kept.pop(reference, None)
        if kept is not None:
            kept.file.close()
