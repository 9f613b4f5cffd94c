"""What stands before the submit page: which uploads may be handed in, by whom, how often, and what its library sees."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from spurious_imagenet.leaderboard.app._guard import SubmitGuard
from spurious_imagenet.leaderboard.app._limits import TokenBucket
from spurious_imagenet.leaderboard.app._progress import SubmissionProgress
from spurious_imagenet.leaderboard.app._uploads import HANDED_IN, Uploads

API = "/submit/gradio_api"
FORMS = {0: ("file",), 1: ("text", "text")}
NO_UPLOAD = "No such upload is waiting here: choose the file again, and submit it within an hour."
NOT_OF_THE_PAGE = "This is not what the submit page sends: open the page, and submit there."


class Library:
    """Stands where the page's library is; notes what it gets."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.got: list[tuple[Any, Any, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"] if scope["method"] == "POST" else b"null"
        self.got.append((json.loads(body), scope.get(HANDED_IN), scope["query_string"]))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


class Visitor:
    """Sends what a page, or anyone, may send."""

    def __init__(self, guard: SubmitGuard, address: str = "1.2.3.4") -> None:
        self.guard, self.address = guard, address

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, Any]:
        sent: list[Any] = []
        path, _, query = path.partition("?")

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        await self.guard({**scope, "client": (self.address, 0)}, receive, send)
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])

    async def upload(self, *contents: bytes, field: str = "files") -> tuple[int, Any]:
        parts = [
            f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="a.zip"\r\n\r\n'.encode()
            + content
            + b"\r\n"
            for content in contents
        ]
        return await self.ask(
            "POST", f"{API}/upload", b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x"
        )

    async def uploaded(self, content: bytes = b"zip") -> str:
        status, answer = await self.upload(content)
        assert status == 200
        return str(json.loads(answer)[0])

    async def join(self, *data: Any, form: Any = 0, session: Any = "s1", **more: Any) -> tuple[int, str]:
        sent = {"data": list(data), "fn_index": form, "session_hash": session, "trigger_id": 4, **more}
        status, answer = await self.ask("POST", f"{API}/queue/join", json.dumps(sent).encode())
        return status, json.loads(answer).get("detail", "")


def file(reference: Any) -> dict[str, Any]:
    """Return what the page says of a file."""
    return {"path": reference, "orig_name": "a.zip", "size": 3, "meta": {"_type": "gradio.FileData"}}


def guarded(library: Library, most: int = 100, uploads: Uploads | None = None) -> SubmitGuard:
    return SubmitGuard(library, uploads or Uploads(), FORMS, TokenBucket(most, 60))


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_an_upload_is_handed_in_once_by_who_sent_it_and_the_library_sees_no_file() -> None:
    async def check() -> None:
        library = Library()
        guard = guarded(library)
        ann, ben = Visitor(guard), Visitor(guard, "5.6.7.8")
        reference = await ann.uploaded(b"of ann")
        assert await ben.join(file(reference)) == (403, NO_UPLOAD)
        assert await ann.join(file(reference)) == (200, "")
        assert await ann.join(file(reference)) == (403, NO_UPLOAD)
        ((sent, handed_in, _),) = library.got
        assert sent["data"] == [None]
        assert handed_in.read() == b"of ann"
        assert reference not in json.dumps(sent)

    run(check())


def test_the_same_bytes_of_two_visitors_are_two_uploads() -> None:
    async def check() -> None:
        library = Library()
        guard = guarded(library)
        visitors = [Visitor(guard), Visitor(guard), Visitor(guard, "5.6.7.8")]
        references = [await visitor.uploaded(b"same") for visitor in visitors]
        assert len(set(references)) == 3
        joined = await asyncio.gather(*(v.join(file(r)) for v, r in zip(visitors, references, strict=True)))
        assert [status for status, _ in joined] == [200, 200, 200]
        assert [handed_in.read() for _, handed_in, _ in library.got] == [b"same"] * 3

    run(check())


def test_two_that_hand_in_the_same_upload_at_the_same_moment_are_one() -> None:
    async def check() -> None:
        visitor = Visitor(guarded(Library()))
        reference = await visitor.uploaded()
        joined = await asyncio.gather(*(visitor.join(file(reference)) for _ in range(5)))
        assert sorted(status for status, _ in joined) == [200, 403, 403, 403, 403]

    run(check())


def test_an_upload_that_nobody_took_may_be_handed_in_again() -> None:
    async def check() -> None:
        library = Library(status=503)
        visitor = Visitor(guarded(library))
        reference = await visitor.uploaded()
        assert (await visitor.join(file(reference)))[0] == 503
        library.status = 200
        assert (await visitor.join(file(reference)))[0] == 200

    run(check())


@pytest.mark.parametrize(
    "data",
    [
        [],
        ["a.zip"],
        [["a.zip"]],
        [[file("a.zip")]],
        [{"orig_name": "a.zip"}],
        [file(None)],
        [file(5)],
        [file("a" * 1000)],
        [{"value": file("a.zip")}],
        [None, None],
        [True],
    ],
)
def test_a_file_form_of_another_shape_is_refused(data: list[Any]) -> None:
    async def check() -> None:
        library = Library()
        assert await Visitor(guarded(library)).join(*data) == (403, NOT_OF_THE_PAGE)
        assert library.got == []

    run(check())


@pytest.mark.parametrize(
    "changes",
    [
        {"data": [file("a.zip"), "text"], "fn_index": 1},
        {"data": ["text", {"value": file("a.zip")}], "fn_index": 1},
        {"data": ["text", [file("a.zip")]], "fn_index": 1},
        {"data": ["text", 5], "fn_index": 1},
        {"fn_index": 2},
        {"fn_index": -1},
        {"fn_index": "0"},
        {"fn_index": None},
        {"session_hash": None},
        {"session_hash": "../s1"},
        {"session_hash": ""},
        {"trigger_id": "4"},
    ],
)
def test_a_form_that_the_page_does_not_have_is_refused(changes: dict[str, Any]) -> None:
    async def check() -> None:
        library = Library()
        sent = {"data": [None], "fn_index": 0, "session_hash": "s1", **changes}
        visitor = Visitor(guarded(library))
        status, answer = await visitor.ask("POST", f"{API}/queue/join", json.dumps(sent).encode())
        assert (status, json.loads(answer)) == (403, {"detail": NOT_OF_THE_PAGE})
        assert library.got == []

    run(check())


def test_text_comes_through_as_it_was_typed_and_nothing_besides() -> None:
    async def check() -> None:
        library = Library()
        visitor = Visitor(guarded(library))
        typed = '{"path": "/etc/hostname"} é\u2028"'
        assert (await visitor.join(typed, None, form=1, event_data={"path": "x"}, event_id="1"))[0] == 200
        assert await visitor.join(file("x"), "y", form=1) == (403, NOT_OF_THE_PAGE)
        ((sent, handed_in, _),) = library.got
        assert sent == {"data": [typed, None], "fn_index": 1, "session_hash": "s1", "trigger_id": 4}
        assert handed_in is None

    run(check())


def test_what_is_no_json_is_refused() -> None:
    async def check() -> None:
        visitor = Visitor(guarded(Library()))
        for body in (b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000):
            assert (await visitor.ask("POST", f"{API}/queue/join", body))[0] == 403

    run(check())


def test_every_refusal_counts_as_an_upload_of_its_sender() -> None:
    async def check() -> None:
        library = Library()
        guard = guarded(library, most=3)
        visitor, other = Visitor(guard), Visitor(guard, "5.6.7.8")
        sent = [file("/a.zip"), "a.zip", file("b"), file("c")]
        answers = [await visitor.join(value) for value in sent]
        assert [status for status, _ in answers] == [403, 403, 403, 429]
        assert answers[-1][1] == "Too many uploads from one address: expected at most 3 per minute."
        assert (await other.join(file("a")))[0] == 403
        assert (await visitor.join(None))[0] == 200
        assert not guard.rate.take("1.2.3.4")

    run(check())


def test_a_query_names_a_session_and_nothing_else() -> None:
    async def check() -> None:
        library = Library()
        visitor = Visitor(guarded(library))
        await visitor.ask("GET", f"{API}/queue/data?session_hash=a%26b&deep_link=x")
        await visitor.ask("GET", "/submit/?deep_link=../x&file=/etc/hostname&page=a")
        await visitor.ask("GET", "/submit/config?deep_link=x")
        assert [query for _, _, query in library.got] == [b"session_hash=a%26b", b"", b""]

    run(check())


def test_an_upload_is_one_file_in_one_form() -> None:
    async def check() -> None:
        guard = guarded(Library())
        visitor = Visitor(guard)
        assert (await visitor.upload(b"a", b"b"))[0] == 400
        assert (await visitor.upload())[0] == 400
        assert (await visitor.upload(b"a", field="other"))[0] == 400
        for body, kind in (
            (b"junk", "multipart/form-data; boundary=x"),
            (b"--x\r\n\r\n", "multipart/form-data; boundary=x"),
            (b"a", "multipart/form-data"),
            (b"files=a", "application/x-www-form-urlencoded"),
            (b"a", ""),
        ):
            status, said = await visitor.ask("POST", f"{API}/upload", body, kind)
            assert status == 400
            assert json.loads(said)["detail"].endswith(".")
        assert len(guard.uploads) == 0

    run(check())


def test_so_many_uploads_wait_and_the_oldest_go() -> None:
    async def check() -> None:
        uploads = Uploads(most=4, each=2)
        files = [io.BytesIO(bytes([i])) for i in range(6)]
        ann = [uploads.keep(f, "ann") for f in files[:3]]
        assert [uploads.take(r, "ann") is None for r in ann[:1]] == [True]
        assert files[0].closed
        others = [uploads.keep(f, name) for f, name in zip(files[3:], "bcd", strict=True)]
        assert len(uploads) == 4
        assert uploads.take(ann[1], "ann") is None
        assert uploads.take(ann[2], "ann") is not None
        assert all(uploads.take(r, name) is not None for r, name in zip(others, "bcd", strict=True))
        assert len(uploads) == 0

    run(check())


def test_uploads_are_forgotten_after_a_while() -> None:
    async def check() -> None:
        uploads = Uploads(seconds=0.01)
        kept = io.BytesIO(b"a")
        reference = uploads.keep(kept, "ann")
        await asyncio.sleep(0.1)
        assert uploads.take(reference, "ann") is None
        assert kept.closed

    run(check())


def test_a_page_is_told_how_much_of_its_upload_has_arrived() -> None:
    async def check() -> None:
        progress = SubmissionProgress()
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="m\xc3\xa9.zip"\r\n\r\n'
        blocks = [head, b"y" * 1000]

        async def receive() -> Any:
            return {"type": "http.request", "body": blocks.pop(0), "more_body": bool(blocks)}

        events = progress.events("u1")
        with progress.of("u1") as arriving:
            counted = arriving.counting(receive)
            await counted()
            first = json.loads((await anext(events)).removeprefix("data: "))
            await counted()
            second = json.loads((await anext(events)).removeprefix("data: "))
        last = [event async for event in events]
        assert first == {"msg": "update", "orig_name": "mé.zip", "chunk_size": len(head)}
        assert second["chunk_size"] == 1000
        assert last == ['data: {"msg": "done"}\n\n']

    run(check())
