"""What a server takes from strangers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from spurious_imagenet.leaderboard.app._limits import Gate, GateLimits

UPLOAD = "/api/submissions"


class App:
    """Reads the whole body and answers its length; waits if told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.seen = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            self.seen += len(message.get("body", b""))
            more = message.get("more_body", False)
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


async def ask(
    gate: Gate,
    path: str,
    method: str = "POST",
    blocks: int = 1,
    size: int = 10,
    client: str = "1.2.3.4",
    **headers: str,
) -> tuple[int, str]:
    sent: list[Any] = []
    remaining = blocks

    async def receive() -> Any:
        nonlocal remaining
        remaining -= 1
        return {"type": "http.request", "body": b"x" * size, "more_body": remaining > 0}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "client": (client, 1)}
    await gate(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_a_body_is_counted_while_it_arrives_whatever_its_header_says() -> None:
    async def check() -> None:
        app = App()
        gate = Gate(app, GateLimits(upload=1 << 20, uploads_a_minute=100))
        status, said = await ask(gate, UPLOAD, blocks=1000, size=1 << 16, content_length="10")
        assert (status, said) == (413, "The request is too large: expected at most 2 MiB.")
        assert app.seen <= 2 << 20
        assert (await ask(gate, UPLOAD, content_length=str(1 << 30)))[0] == 413
        assert (await ask(gate, UPLOAD, content_length="-1"))[0] == 413
        assert await ask(gate, UPLOAD, blocks=16, size=1 << 16) == (200, "ok")
        assert (await ask(gate, "/submit/gradio_api/queue/join", blocks=17, size=1 << 16))[0] == 413

    run(check())


def test_one_address_has_so_many_uploads_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("spurious_imagenet.leaderboard.app._limits.time.monotonic", lambda: now[0])

    async def check() -> None:
        gate = Gate(App(), GateLimits(uploads_a_minute=3))
        assert [(await ask(gate, UPLOAD))[0] for _ in range(4)] == [200, 200, 200, 429]
        assert (await ask(gate, UPLOAD))[1].startswith("Too many uploads from one address: expected at most 3")
        assert (await ask(gate, UPLOAD, client="5.6.7.8"))[0] == 200
        now[0] += 21
        assert [(await ask(gate, UPLOAD))[0] for _ in range(2)] == [200, 429]

    run(check())


def test_an_address_that_a_visitor_makes_up_does_not_count() -> None:
    async def check() -> None:
        direct = Gate(App(), GateLimits(uploads_a_minute=1))
        assert (await ask(direct, UPLOAD, x_forwarded_for="9.9.9.1"))[0] == 200
        assert (await ask(direct, UPLOAD, x_forwarded_for="9.9.9.2"))[0] == 429
        behind = Gate(App(), GateLimits(uploads_a_minute=1, proxies=1))
        assert (await ask(behind, UPLOAD, x_forwarded_for="made up, 9.9.9.1"))[0] == 200
        assert (await ask(behind, UPLOAD, x_forwarded_for="another, 9.9.9.1"))[0] == 429
        assert (await ask(behind, UPLOAD, x_forwarded_for="made up, 9.9.9.2"))[0] == 200

    run(check())


def test_so_many_uploads_are_taken_at_once() -> None:
    async def check() -> None:
        app = App()
        gate = Gate(app, GateLimits(uploads_at_once=2, uploads_a_minute=100))
        app.go.clear()
        waiting = [asyncio.create_task(ask(gate, UPLOAD)) for _ in range(2)]
        await asyncio.sleep(0)
        assert await ask(gate, UPLOAD) == (503, "Too many uploads at once: try again in a minute.")
        app.go.set()
        assert [status for status, _ in await asyncio.gather(*waiting)] == [200, 200]
        assert (await ask(gate, UPLOAD))[0] == 200

    run(check())


@pytest.mark.parametrize(
    "path",
    [
        "/submit/gradio_api/file=/etc/passwd",
        "/submit/gradio_api/file/etc/passwd",
        "/submit/gradio_api/proxy=http://127.0.0.1/",
        "/submit/gradio_api/openapi.json",
        "/submit/gradio_api/call/submit/1",
        "/submit/monitoring",
        "/submit/gradio_api/vibe-code",
        "/submit/gradio_api/dev/reload",
    ],
)
def test_what_the_submit_page_does_not_need_is_not_there(path: str) -> None:
    async def check() -> None:
        gate = Gate(App(), GateLimits())
        assert (await ask(gate, path, "GET"))[0] == 404
        assert (await ask(gate, path, "POST"))[0] == 404

    run(check())


def test_other_methods_are_refused() -> None:
    async def check() -> None:
        gate = Gate(App(), GateLimits())
        assert (await ask(gate, "/index.html", "POST"))[0] == 405
        assert (await ask(gate, "/api/submissions", "DELETE"))[0] == 405

    run(check())
