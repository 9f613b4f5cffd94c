"""What stands before the submit page's library: whatever a request says, the library gets text and no files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from spurious_imagenet.leaderboard.app._limits import Asgi, Message, Receive, Scope, Send, TokenBucket, too_many_uploads
from spurious_imagenet.leaderboard.app._progress import SubmissionProgress
from spurious_imagenet.leaderboard.app._uploads import HANDED_IN, Uploads

FieldKind = Literal["file", "text"]

_LOG = logging.getLogger(__name__)
_API = "/submit/gradio_api"
_UPLOAD, _PROGRESS, _JOIN = f"{_API}/upload", f"{_API}/upload_progress", f"{_API}/queue/join"
_NOT_OF_THE_PAGE = "this is not what the submit page sends: open the page, and submit there."
_NO_UPLOAD = "no such upload is waiting here: choose the file again, and submit it within an hour."


class _Reference(BaseModel):
    """What a form says of an upload; all but its secret is for the page."""

    model_config = ConfigDict(strict=True)
    path: Annotated[str, Field(max_length=200)]


class _Sent(BaseModel):
    """What a form of the page sends."""

    model_config = ConfigDict(strict=True)
    fn_index: int
    trigger_id: int | None = None
    session_hash: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    data: list[str | _Reference | None]

    def fits(self, kinds: Sequence[FieldKind]) -> bool:
        """Tell whether these are the fields of a form: files where files belong, text elsewhere."""
        if len(self.data) != len(kinds):
            return False
        forbidden = {"file": str, "text": _Reference}
        return not any(isinstance(value, forbidden[kind]) for kind, value in zip(kinds, self.data, strict=True))

    def reference(self) -> str | None:
        """Return the secret of the upload that is handed in, if any."""
        return next((value.path for value in self.data if isinstance(value, _Reference)), None)

    def without_file(self) -> bytes:
        """Return the form as the library gets it."""
        data = [None if isinstance(value, _Reference) else value for value in self.data]
        return self.model_copy(update={"data": data}).model_dump_json().encode()


class SubmitGuard:
    """ASGI middleware around the submit page.

    Uploads end here, in files without names. A form that hands one in names it by the secret that its upload was
    answered with; the library gets the form without it, and :data:`HANDED_IN` of the request's scope is the open file.
    A form that refers to anything else is refused before a file is touched, and counts as an upload of its sender.

    Args:
        app: What is behind it.
        uploads: What was uploaded.
        forms: What the fields of the page's forms hold, by the number of the form.
        rate: Uploads of each client.
    """

    def __init__(
        self, app: Asgi, uploads: Uploads, forms: Mapping[int, Sequence[FieldKind]], rate: TokenBucket
    ) -> None:
        self.app, self.uploads, self.forms, self.rate = app, uploads, forms, rate
        self._progress = SubmissionProgress()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what concerns files; let the app behind answer the rest."""
        if scope["type"] != "http" or not scope["path"].startswith("/submit/"):
            await self.app(scope, receive, send)
            return
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["path"] == _UPLOAD:
            await (await self._upload(scope, receive, query))(scope, receive, send)
        elif scope["path"] == _PROGRESS:
            events = self._progress.events(query.get("upload_id", ""))
            await StreamingResponse(events, media_type="text/event-stream")(scope, receive, send)
        elif scope["path"] == _JOIN:
            await self._join(scope, receive, send)
        else:  # of a query the library needs whose events it is to send, and nothing that may stand for a file
            session = {key: query[key] for key in ("session_hash",) if key in query}
            await self.app({**scope, "query_string": urlencode(session).encode()}, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, query: Mapping[str, str]) -> Response:
        request = Request(scope)
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return _said(400, _NOT_OF_THE_PAGE)
        try:
            with self._progress.of(query.get("upload_id", "")) as arriving:
                form = await Request(scope, arriving.counting(receive)).form(max_files=1, max_fields=1)
        except (MultiPartException, ValueError):
            return _said(400, "the upload is damaged, or more than one file: expected one zip.")
        except ClientDisconnect:
            return Response(status_code=400)
        except OSError:
            _LOG.exception("an upload could not be kept")
            return _said(503, "the board could not keep the upload, and its keeper's log says why: try again later.")
        found = form.get("files")
        if not isinstance(found, UploadFile):
            return _said(400, "no file was uploaded: expected one zip.")
        return JSONResponse([self.uploads.keep(found.file, scope["client"][0])])

    async def _join(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope["client"][0]
        try:
            sent = _Sent.model_validate_json(await Request(scope, receive).body())
        except ClientDisconnect:
            return
        except ValidationError:
            sent = None
        if sent is None or not sent.fits(self.forms.get(sent.fn_index, ())):
            await self._refusal(client, _NOT_OF_THE_PAGE)(scope, receive, send)
            return
        reference = sent.reference()
        kept = None if reference is None else self.uploads.take(reference, client)
        if reference is not None and kept is None:
            await self._refusal(client, _NO_UPLOAD)(scope, receive, send)
            return
        body = sent.without_file()
        own = {b"content-length": str(len(body)).encode(), b"content-type": b"application/json"}
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in own] + list(own.items())
        inner = {**scope, "headers": headers, "query_string": b"", HANDED_IN: kept and kept.file}
        status = await _status_of(self.app, inner, _replayed(body, receive), send)
        if reference is not None and kept is not None and status != 200:  # nobody took it: too many wait
            self.uploads.put_back(reference, kept)

    def _refusal(self, client: str, sentence: str) -> Response:
        return _said(403, sentence) if self.rate.take(client) else _said(429, too_many_uploads(self.rate))


async def _status_of(app: Asgi, scope: Scope, receive: Receive, send: Send) -> int:
    """Run an app; return the status that it answered with."""
    status = 500

    async def noted(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        await send(message)

    await app(scope, receive, noted)
    return status


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, and then whatever comes."""
    read = False

    async def replay() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _said(status: int, sentence: str) -> JSONResponse:
    """Answer in the form in which the page shows it."""
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return JSONResponse({"detail": f"{sentence[0].upper()}{sentence[1:]}"}, status, headers)
