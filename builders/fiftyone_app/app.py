"""The one door to FiftyOne: a connection to one database, its App in this process, and operators of plain functions."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.builders.fiftyone_app._local_only import LocalOnly
from spurious_imagenet.builders.fiftyone_app.mongo import LOOPBACK
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.process_state import environment, log_levels

__all__ = ["connect", "listen", "operator", "page", "plane", "serve"]

_FIRST_PORT, _PORTS = 5151, 100
#: FiftyOne looks these up again while it serves.
_SERVING = {
    # It follows change streams, which only a replica set has.
    "FIFTYONE_EXECUTION_STORE_NOTIFICATION_SERVICE_DISABLED": "true",
    "FIFTYONE_SERVER": "1",
}


def connect(uri: str, database: str, plugins: Path | None = None) -> Any:
    """Import FiftyOne, which takes seconds, connected to one database.

    A process has one database: what a labeler's App cannot name, it cannot show.

    Args:
        uri: MongoDB server.
        database: Name of the database in it.
        plugins: Folder of the plugins to load; that of the user if None.

    Returns:
        The module ``fiftyone``.

    Raises:
        ConfigError: FiftyOne is not installed, cannot connect, or is already connected to another database.
    """
    if (loaded := sys.modules.get("fiftyone")) is not None:
        if (loaded.config.database_uri, loaded.config.database_name) != (uri, database):
            raise ConfigError(f"FiftyOne has another database open than {database}: start a new process.")
        return loaded
    # All of it is read while FiftyOne is imported. Left in place, a server that this project started would pass for one
    # that the user named.
    configuration = {
        "FIFTYONE_DATABASE_URI": uri,
        "FIFTYONE_DATABASE_NAME": database,
        "FIFTYONE_PLUGINS_DIR": str(plugins or ""),
        "FIFTYONE_PLUGINS_CACHE_ENABLED": "true",
        # The default differs between versions, and is every interface where some of them detect a container.
        "FIFTYONE_DEFAULT_APP_ADDRESS": LOOPBACK,
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "FIFTYONE_LOGGING_LEVEL": "ERROR",
    }
    try:
        with environment(configuration | _SERVING):
            return importlib.import_module("fiftyone")
    except (ImportError, ConnectionError, RuntimeError) as error:
        raise ConfigError(f"FiftyOne cannot be used ({error}): is spurious-imagenet[review] installed?") from error


def plane(samples: Any, places: NDArray[np.float64], key: str) -> None:
    """Keep (n, 2) places of ``n`` samples, in their order, as what the App's embeddings panel shows under ``key``."""
    from fiftyone import brain

    brain.compute_visualization(samples, points=places, method="manual", brain_key=key)


def listen(port: int | None) -> socket.socket:
    """Listen on the loopback interface.

    Args:
        port: TCP port; the first free one from 5151 on if None.

    Raises:
        ConfigError: The port is taken.
    """
    for candidate in [port] if port is not None else range(_FIRST_PORT, _FIRST_PORT + _PORTS):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, candidate))
            listener.listen()
        except OSError:
            listener.close()
            continue
        return listener
    raise ConfigError(f"port {port or _FIRST_PORT} is taken: choose another by --port.")


def page(listener: socket.socket, dataset: str, workspace: str) -> str:
    """Return the address of a dataset's page in the App, laid out as a saved workspace says."""
    name, port = quote(dataset), listener.getsockname()[1]
    return f"http://{LOOPBACK}:{port}/datasets/{name}?workspace={quote(workspace)}"


def serve(listener: socket.socket, files: Collection[Path], on_ready: Callable[[], None]) -> None:
    """Serve the App until the process is interrupted or terminated; :func:`connect` comes first.

    Args:
        listener: From :func:`listen`; no longer usable afterwards.
        files: The only files that the App may hand out.
        on_ready: Called when pages can be opened.
    """
    from fiftyone.server.app import app
    from fiftyone.server.events import set_port
    from hypercorn.asyncio import serve as hypercorn
    from hypercorn.config import Config

    set_port(listener.getsockname()[1])
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]  # which closes it at the end
    config.graceful_timeout = 1.0
    config.loglevel = "ERROR"

    async def run() -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        # Before anyone can know of the page: an interrupt that met the server while it starts would be lost in it.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        on_ready()
        await hypercorn(LocalOnly(app, files), config, shutdown_trigger=stopped.wait)  # type: ignore[arg-type]

    # At the end asyncio would report every page that is still open.
    with _handlers_kept(signal.SIGINT, signal.SIGTERM), log_levels(logging.CRITICAL, "asyncio"), environment(_SERVING):
        asyncio.run(run())


@contextmanager
def _handlers_kept(*numbers: signal.Signals) -> Iterator[None]:
    """Put back the handlers of signals that a loop inside takes over: it leaves Python's own behind."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def operator(name: str, label: str, action: Callable[[dict[str, Any]], dict[str, Any]]) -> type:
    """Make a FiftyOne operator of a function from parameters to a JSON result.

    Args:
        name: The operator's name in its plugin.
        label: What it is called in the App.
        action: The function; what it raises becomes the operator's error.
    """
    import fiftyone.operators as foo

    class FunctionOperator(foo.Operator):  # type: ignore[misc]
        @property
        def config(self) -> Any:
            return foo.OperatorConfig(name=name, label=label, unlisted=True, rerunnable=False)

        def execute(self, ctx: Any) -> dict[str, Any]:
            return action(dict(ctx.params))

    return FunctionOperator
