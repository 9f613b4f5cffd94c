"""What a server takes from strangers: how large, how often, how many at once; enforced while bytes arrive."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

#: What the submit page needs of the library that it is made with; everything else of it does not exist here, such as
#: reading files by their path, running named functions, or fetching addresses for a visitor. The library's own files
#: are asked for by names that lead down alone.
_NAME = r"[\w@+~-][\w.@+~-]*"
_SUBMIT_GET = re.compile(
    rf"/submit/(|config/?|theme\.css|favicon\.ico|manifest\.json|(assets|static|svelte)(/{_NAME})+|"
    r"gradio_api/(startup-events|heartbeat/\w+|queue/data|upload_progress|info/?|app_id/?))",
    re.ASCII,
)
_SUBMIT_POST = re.compile(r"/submit/gradio_api/(upload|queue/join|reset/?|cancel)")
_UPLOADS = ("/submit/gradio_api/upload", "/api/submissions")
#: A form around the file, and every body that carries no file.
_SMALL_BODY = 1 << 20
_CLIENTS = 10_000
#: Seconds for which the body of a refused request is read and thrown away: who is still sending reads no answer.
_DRAIN = 10
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True)
class GateLimits:
    """How much is taken.

    Attributes:
        upload: Bytes of one upload.
        uploads_a_minute: Of one client, after a burst of as many.
        uploads_at_once: Of all clients.
        proxies: Reverse proxies of our own in front, each of which appends to ``X-Forwarded-For``.
        hosts: Names by which the server is asked; None for any. A page whose name leads to this machine by a trick
            of name servers has a name of its own.
    """

    upload: int = 256 << 20
    uploads_a_minute: int = 6
    uploads_at_once: int = 4
    proxies: int = 0
    hosts: frozenset[str] | None = None

    def rate(self) -> TokenBucket:
        """Return what counts the uploads of each client."""
        return TokenBucket(self.uploads_a_minute, 60)

    @staticmethod
    def this_machine(*more: str) -> frozenset[str]:
        """Names of this machine as its own programs ask for it, and others that are given."""
        return _LOCAL | {name.lower() for name in more}


class TokenBucket:
    """So many of each client in some time, after a burst of as many.

    Args:
        most: How many.
        seconds: In which time.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = float(most), seconds
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> bool:
        """Take one of the client's, if there is one; who was not seen longest is forgotten."""
        now = time.monotonic()
        tokens, then = self._tokens.pop(client, (self.most, now))
        tokens = min(self.most, tokens + (now - then) * self.most / self.seconds)
        taken = tokens >= 1
        self._tokens[client] = (tokens - taken, now)
        while len(self._tokens) > _CLIENTS:
            self._tokens.popitem(last=False)
        return taken


def too_many_uploads(rate: TokenBucket) -> str:
    """Say that a client has none left."""
    return f"too many uploads from one address: expected at most {rate.most:.0f} per minute."


class Gate:
    """ASGI middleware that refuses what is too large, too often or not meant for strangers, each in one sentence.

    Args:
        app: What is behind it.
        limits: How much is taken.
        rate: Uploads of each client, if something behind takes from them too.
    """

    def __init__(self, app: Asgi, limits: GateLimits, rate: TokenBucket | None = None) -> None:
        self.app, self.limits = app, limits
        self._uploading = 0
        self._uploads = rate or limits.rate()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app behind answer it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        allowed = _SUBMIT_POST if method == "POST" else _SUBMIT_GET
        if path.startswith("/submit/") and not allowed.fullmatch(path):
            await _refuse(receive, send, 404, "there is no such page.")
            return
        if method not in {"GET", "HEAD"} and not (method == "POST" and path.startswith(("/submit/", "/api/"))):
            await _refuse(receive, send, 405, f"{method} is not possible here.")
            return
        upload = method == "POST" and path in _UPLOADS
        most = self.limits.upload + _SMALL_BODY if upload else _SMALL_BODY
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        client = _client(scope, headers, self.limits.proxies)
        refusal = self._refusal(method, client, headers, upload, most)
        if refusal is not None:
            # Who asks first whether to send has not sent anything.
            drained = 0 if "expect" in headers else 2 * most
            await _refuse(receive, send, *refusal, drained=drained)
            return
        scope = {**scope, "client": (client, 0)}
        self._uploading += upload
        try:
            await self._within(scope, receive, send, most)
        finally:
            self._uploading -= upload

    def _refusal(
        self, method: str, client: str, headers: dict[str, str], upload: bool, most: int
    ) -> tuple[int, str] | None:
        hosts = self.limits.hosts
        if hosts is not None and _name(headers.get("host", "")) not in hosts:
            return 421, "this server does not answer by that name: its keeper may add it by `--hostname`."
        if method == "POST" and _foreign(headers, self.limits.proxies):
            return 403, "this was sent by a page of another site: open the board and submit there."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            return 413, _too_large(most)
        if upload and self._uploading >= self.limits.uploads_at_once:
            return 503, "too many uploads at once: try again in a minute."
        if upload and not self._uploads.take(client):
            return 429, too_many_uploads(self._uploads)
        return None

    async def _within(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        """Run the app on a body that is counted while it arrives, whatever its header says of its length."""
        read, started = 0, False

        async def counted() -> Message:
            nonlocal read
            message = {"type": "http.disconnect"} if read > most else await receive()
            read += len(message.get("body", b""))
            return message if read <= most else {"type": "http.disconnect"}  # to the app its sender has gone

        async def noted(message: Message) -> None:
            nonlocal started
            if started or read <= most:  # what the app says of half a body is not the answer
                started = True
                await send(message)

        await self.app(scope, counted, noted)
        if read > most and not started:
            await _refuse(receive, send, 413, _too_large(most), drained=most)


def _too_large(most: int) -> str:
    return f"the request is too large: expected at most {most / (1 << 20):.0f} MiB."


def _client(scope: Scope, headers: dict[str, str], proxies: int) -> str:
    """Address of the client; what it says itself in ``X-Forwarded-For`` stands before what our proxies append."""
    said = [part.strip() for part in headers.get("x-forwarded-for", "").split(",") if part.strip()]
    if proxies and len(said) >= proxies:
        return said[-proxies]
    return str((scope.get("client") or ("unknown",))[0])


def _name(host: str) -> str:
    return re.sub(r":\d*$", "", host.lower())


def _foreign(headers: dict[str, str], proxies: int) -> bool:
    """Tell whether a browser says that a page of another site sends this; other programs say nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    hosts = {headers.get("host", "")} | (
        {headers["x-forwarded-host"]} if proxies and "x-forwarded-host" in headers else set()
    )
    return origin is not None and origin.partition("://")[2].lower() not in {host.lower() for host in hosts}


async def _refuse(receive: Receive, send: Send, status: int, sentence: str, *, drained: int = 0) -> None:
    """Answer; what is left of the body is thrown away within bounds, as a connection that is closed before its sender
    has finished loses the answer.
    """
    body = f"{sentence[0].upper()}{sentence[1:]}".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": bool(drained)})
    if drained:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_drain(receive, drained), _DRAIN)
        await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive, most: int) -> None:
    while most > 0:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        most -= len(message.get("body", b""))
