"""The board as a web server: the pages of an export, made when they are asked for, and a way to submit."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.leaderboard.app._checker import CheckerConfig, CheckOutcome
from spurious_imagenet.leaderboard.app._guard import SubmitGuard
from spurious_imagenet.leaderboard.app._limits import Asgi, Gate, GateLimits
from spurious_imagenet.leaderboard.app._live import LiveSite
from spurious_imagenet.leaderboard.app._receive import Receiver, place_for_one
from spurious_imagenet.leaderboard.app._submit_page import mount_submit_page
from spurious_imagenet.leaderboard.app._uploads import Uploads
from spurious_imagenet.leaderboard.pages.rendering import POLICY
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.problems import Limits

_LOG = logging.getLogger(__name__)
#: The submit page's library writes code and style into its page; still nothing comes from or goes to elsewhere. A Space
#: is shown in a frame of its Hub.
_SUBMIT_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "object-src 'none'; frame-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self' https://huggingface.co"
)
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}|(?<=//)[^/@\s]+(?=@)")


@dataclass(frozen=True)
class ServeConfig:
    """How a board is served.

    Attributes:
        host: Address to listen at; the machine itself only unless asked otherwise.
        port: Port.
        submit: Whether entries may be handed in.
        requests: Whether models may be asked for.
        requests_an_hour: Of one address.
        hostnames: Names by which a reverse proxy of this machine is asked; without them a server that listens to this
            machine only answers to this machine's own names only.
        gate: How much is taken from strangers.
        checked_at_once: Submissions in work at the same time; as many more may wait.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    submit: bool = True
    requests: bool = True
    requests_an_hour: int = 10
    hostnames: tuple[str, ...] = ()
    gate: GateLimits = field(default_factory=GateLimits)
    checked_at_once: int = 2

    @classmethod
    def of_environment(cls) -> ServeConfig:
        """As a Space asks for it: ``GRADIO_SERVER_NAME`` and ``GRADIO_SERVER_PORT`` are honoured where they are set."""
        port = os.environ.get("GRADIO_SERVER_PORT", "7860")
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"GRADIO_SERVER_PORT is {port!r}: expected a port, 1 to 65535.")
        on_space = "SPACE_ID" in os.environ  # whose proxy is the one in front
        return cls(
            host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
            port=int(port),
            gate=GateLimits(proxies=1 if on_space else 0),
        )


def board_app(store: Store, config: ServeConfig = ServeConfig()) -> Asgi:
    """Make the server's application.

    Args:
        store: The board.
        config: How it is served.

    Raises:
        ConfigError: Entries may be handed in, and gradio is not installed.
        StoreError: The store has no version, or a file of it is torn.
    """
    live = LiveSite(store, submit=config.submit)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    rate, inner = config.gate.rate(), cast(Asgi, app)
    if config.submit:
        limits = Limits(upload=config.gate.upload)
        receiver = Receiver(store, CheckerConfig(limits), config.checked_at_once, config.requests_an_hour)
        _add_api(app, receiver)
        forms = mount_submit_page(
            app,
            receiver.handed_in,
            receiver.request if config.requests else None,
            name=live.site().board.version.info.name,
            upload=limits.upload,
            queue=4 * config.checked_at_once,
        )
        inner = SubmitGuard(inner, Uploads(), forms, rate)
    _add_pages(app, live)
    app.add_middleware(GZipMiddleware, minimum_size=2048, compresslevel=5)
    here = config.host in {"127.0.0.1", "localhost", "::1"}
    hosts = GateLimits.this_machine(*config.hostnames) if here else None
    return Gate(inner, replace(config.gate, hosts=hosts), rate)


def _add_pages(app: FastAPI, live: LiveSite) -> None:
    async def page(path: str) -> Response:
        site = live.site()
        if path == "submit" and site.submit:
            return RedirectResponse("submit/")
        file = await run_in_threadpool(site.file, path)
        if file is None and path.startswith(("models/", "data/", "downloads/")):  # it may be new
            site = await run_in_threadpool(live.refresh)
            file = await run_in_threadpool(site.file, path)
        status = 200 if file is not None else 404
        found = file or site.missing(path)
        headers = {"Cache-Control": "no-cache", **_headers(POLICY)}
        text = found.media_type.startswith(("text/", "application/json"))
        media_type = f"{found.media_type}; charset=utf-8" if text else found.media_type
        return Response(found.content, status, headers, media_type)

    app.add_api_route("/{path:path}", page, methods=["GET", "HEAD"], include_in_schema=False)

    @app.middleware("http")
    async def headers(request: Request, proceed: Any) -> Response:
        try:
            response: Response = await proceed(request)
        except ClientDisconnect:  # whoever sent this has gone, or is told by the gate that it is too large
            response = Response(status_code=400)
        except Exception:
            _LOG.exception("%s could not be answered", request.url.path)
            response = Response(
                "The board could not answer, and its keeper's log says why.", 500, media_type="text/plain"
            )
        policy = _SUBMIT_POLICY if request.url.path.startswith("/submit") else POLICY
        for key, value in _headers(policy).items():
            response.headers[key] = value
        return response


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _add_api(app: FastAPI, receiver: Receiver) -> None:
    @app.post("/api/submissions", include_in_schema=False)
    async def submissions(request: Request) -> JSONResponse:
        """Take a zip as the request's body."""
        with place_for_one() as path:
            await _write(path, request.stream())
            outcome = await run_in_threadpool(receiver.submission, path)
        return _answer(outcome)


def _answer(outcome: CheckOutcome) -> JSONResponse:
    if outcome.id is None:
        return JSONResponse({"entry": None, "problems": outcome.sentences}, 503 if outcome.busy else 422)
    return JSONResponse({"entry": outcome.id, "page": f"models/{outcome.id}.html", "remarks": outcome.sentences})


async def _write(path: Path, blocks: AsyncIterator[bytes]) -> None:
    with path.open("wb") as file:
        async for block in blocks:
            file.write(block)


class _WithoutTokens(logging.Filter):
    """Takes out of log lines what looks like a token or the password of an address."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _TOKEN.sub("…", record.getMessage()), ()
        if record.exc_info:
            text = logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = _TOKEN.sub("…", text), None
        return True


@contextmanager
def _logged_without_tokens(*names: str) -> Iterator[None]:
    """Let loggers write to the terminal, without what nobody should read there, for as long as the context lasts."""
    handler = logging.StreamHandler()
    handler.addFilter(_WithoutTokens())
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


def serve_board(url: str | Path, config: ServeConfig | None = None) -> None:
    """Serve a board until it is interrupted.

    Args:
        url: Folder or address of its store.
        config: How; by default as the environment says, which on a Space is what the Space needs.

    Raises:
        ConfigError: The address to listen at, or an environment variable, cannot be used.
        StoreError: There is no board.
    """
    chosen = config or ServeConfig.of_environment()
    app = board_app(Store(url), chosen)
    with _logged_without_tokens("spurious_imagenet", "uvicorn.error", "gradio"):
        uvicorn.run(
            app,
            host=chosen.host,
            port=chosen.port,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=200,
            timeout_keep_alive=10,
            ws="none",
        )
