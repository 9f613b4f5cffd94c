"""A guard before a local web app: for this machine's own pages only, and no files but those that they show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

_HERE = frozenset({"127.0.0.1", "localhost", "::1"})
#: Pages may load nothing from elsewhere: no fonts, no counting of visitors, no tiles.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:"
)


class LocalOnly:
    """An ASGI app that answers for another one, after a look at who asks and for what.

    Listening on the loopback interface keeps other machines out, not the web pages that are open in the same browser:
    requests that name another host (DNS rebinding) or come from another site's page are refused. So is any file that
    is not on the list: an App that serves any path would show a labeler the other's journal.

    Args:
        app: The App.
        files: What ``/media?filepath=`` may serve, as absolute paths.
    """

    def __init__(self, app: _App, files: Collection[Path]) -> None:
        self.app = app
        self.files = frozenset(str(path) for path in files)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http" or not self._allows(scope):
            await _refuse(scope, send)
        else:
            await self.app(scope, receive, _with_policy(send))

    def _allows(self, scope: _Scope) -> bool:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if urlsplit(f"//{host}").hostname not in _HERE:
            return False
        if "origin" in headers and urlsplit(headers["origin"]).netloc != host:
            return False
        if not scope["path"].startswith("/media"):
            return True
        wanted = parse_qs(scope["query_string"].decode("latin-1")).get("filepath", [])
        return all(path in self.files for path in wanted)


def _with_policy(send: _Send) -> _Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"content-security-policy", _POLICY.encode())]
        await send(message)

    return sending


async def _refuse(scope: _Scope, send: _Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"Not served to this page."})
