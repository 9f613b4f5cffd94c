"""Tars written member by member, and small web servers on this machine."""

from __future__ import annotations

import io
import re
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from spurious_imagenet.shards import LocalShard


def write_tar(
    path: Path, members: Sequence[tuple[str, bytes] | tuple[str, bytes, bytes]], fmt: int = tarfile.PAX_FORMAT
) -> Path:
    """Write (name, content[, type flag]) members with the standard library."""
    with tarfile.open(path, "w", format=fmt) as tar:
        for name, content, *kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind[0] if kind else tarfile.REGTYPE
            info.size = len(content) if info.isreg() else 0
            info.linkname = "elsewhere" if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            tar.addfile(info, io.BytesIO(content))
    return path


def write_samples(path: Path, count: int = 5, size: int = 700) -> Path:
    """Write ``count`` samples of image, JSON and label; image ``i`` is of another size and content than the rest."""
    members = []
    for i in range(count):
        image = bytes((i * 31 + j * 7) % 256 for j in range(size + 13 * i))
        members += [(f"s{i}.jpg", image), (f"s{i}.json", b'{"wnid": "n%08d"}' % i), (f"s{i}.cls", b"%d" % i)]
    return write_tar(path, members)


def local(path: Path) -> LocalShard:
    return LocalShard(str(path), path, path.stat().st_size)


class WebFiles:
    """What a test server holds and how it behaves; counts what it is asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.ranges = True
        self.failures: list[
            int | str
        ] = []  # answers for the next GETs: a status, "cut" (half a body) or "garbage" (twice as much)
        self.requests: list[tuple[str, str | None]] = []
        self.body_bytes = 0


def _handler(web: WebFiles) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(head=True)

        def do_GET(self) -> None:
            self.answer(head=False)

        def answer(self, head: bool) -> None:
            asked = self.headers.get("Range")
            if not head:
                web.requests.append((self.path, asked))
            failure = web.failures.pop(0) if web.failures and not head else None
            body = web.files.get(self.path.lstrip("/"))
            if isinstance(failure, int) or body is None:
                self.send_response(failure if isinstance(failure, int) else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, part, total = 200, body, len(body)
            if failure == "garbage":
                part = body * 4  # announced, and half of it sent
            if asked and web.ranges:
                first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", asked).groups()
                part = body[int(first) : int(last) + 1 if last else None]
                status = 206 if part else 416
            self.send_response(status)
            self.send_header("Content-Length", str(len(part)))
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{total}")
            self.end_headers()
            if head:
                return
            if failure in ("cut", "garbage"):
                part = part[: len(part) // 2]
                self.close_connection = True
            try:
                for start in range(0, len(part), 1 << 16):
                    web.body_bytes += len(part[start : start + (1 << 16)])  # before who asked can look
                    self.wfile.write(part[start : start + (1 << 16)])
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    return Handler


@contextmanager
def serve(web: WebFiles) -> Iterator[str]:
    """Serve files on 127.0.0.1; yield the base address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(web))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
