"""How much of an upload has arrived, told to the page that sends it, as the page's library expects it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from spurious_imagenet.leaderboard.app._limits import Message, Receive

_NAME = re.compile(rb'filename="([^"\r\n]{1,500})"')
_START, _EVERY = 3.0, 0.1  # seconds


@dataclass
class Arriving:
    """An upload that arrives.

    Attributes:
        name: Of the file, as its sender calls it; it is shown to the sender and to nobody else.
        bytes: That arrived since the sender was told.
        done: Whether all of it is there, or it has ended otherwise.
    """

    name: str = ""
    bytes: int = 0
    done: bool = False

    def counting(self, receive: Receive) -> Receive:
        """Return what counts the bytes that it passes on."""

        async def counted() -> Message:
            message = await receive()
            body: bytes = message.get("body", b"")
            if not self.name:
                found = _NAME.search(body[:4096])
                self.name = found[1].decode("utf-8", "replace") if found else ""
            self.bytes += len(body)
            return message

        return counted


class SubmissionProgress:
    """The uploads that arrive, by the names that their pages gave them."""

    def __init__(self) -> None:
        self._arriving: dict[str, Arriving] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[Arriving]:
        """Count an upload for as long as the context lasts."""
        arriving = self._arriving[name] = Arriving()
        try:
            yield arriving
        finally:
            arriving.done = True
            if self._arriving.get(name) is arriving:
                del self._arriving[name]

    async def events(self, name: str) -> AsyncIterator[str]:
        """Yield server-sent events until the upload has arrived; an upload that does not begin has arrived."""
        began = time.monotonic()
        while (arriving := self._arriving.get(name)) is None and time.monotonic() < began + _START:
            await asyncio.sleep(_EVERY)
        while arriving is not None and not arriving.done:
            said = {"msg": "update", "orig_name": arriving.name, "chunk_size": arriving.bytes}
            arriving.bytes = 0
            yield f"data: {json.dumps(said)}\n\n"
            await asyncio.sleep(_EVERY)
        yield 'data: {"msg": "done"}\n\n'
