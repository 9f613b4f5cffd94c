"""What libraries and this project remark on the way: one line each on standard error, but for a named few."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TextIO

from spurious_imagenet.errors import ConfigError

__all__ = ["HUSHED", "Hushed", "show_from", "shown_remarks"]


class Hushed(NamedTuple):
    """A remark of a library that users do not see.

    Attributes:
        source: Regular expression of the logger's name, or of the module that warns.
        text: Regular expression of the remark's beginning.
        why: What makes it say nothing of the result.
    """

    source: str
    text: str
    why: str


_CONVERTING = "of converting a network, whose result is compared with eager torch"

#: All that is kept from users; whatever else is remarked at the level of a warning, they read.
HUSHED = (
    Hushed(r"PIL\.", r"", "of damaged metadata of pictures: each is decoded, or counted as a reject with its reason"),
    Hushed(r"torch\.(jit|onnx)|openvino\.|onnxscript", r"", _CONVERTING),
    Hushed(r"root$", r"No pretrained weights loaded for model", "random weights were asked for: else it is an error"),
)
#: Loggers of these that have a handler of torch's own, which ours cannot filter.
_OWN_HANDLER = ("torch.jit", "torch.onnx")

_SHOWN = logging.WARNING
_OURS = "spurious_imagenet"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@contextmanager
def shown_remarks() -> Iterator[None]:
    """Show every remark once, as one line, until the end of the block; leave logging and warnings as they were."""
    lines = _Lines()
    root = logging.getLogger()
    levels = {logging.getLogger(name): logging.ERROR for name in _OWN_HANDLER}
    levels |= {root: _SHOWN, logging.getLogger(_OURS): logging.NOTSET}
    before = {logger: logger.level for logger in levels}
    for logger, level in levels.items():
        logger.setLevel(level)
    root.addHandler(lines)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lines.take_warning
            for hushed in HUSHED:
                warnings.filterwarnings("ignore", hushed.text, module=hushed.source)
            yield
    finally:
        root.removeHandler(lines)
        for logger, level in before.items():
            logger.setLevel(level)


def show_from(level: str) -> None:
    """Show remarks of this project from a level on, until the end of the block of :func:`shown_remarks`.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; ``error`` hides other libraries' warnings too.

    Raises:
        ConfigError: It is another word.
    """
    if level.upper() not in _LEVELS:
        raise ConfigError(f"log level {level!r}: expected one of {', '.join(name.lower() for name in _LEVELS)}.")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Lines):
            handler.setLevel(level.upper())
            logging.getLogger(_OURS).setLevel(level.upper())


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(_SHOWN)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if _shows_itself(record.name):
            return
        try:
            text = record.getMessage()
        except Exception:  # a library's own mistake in its message must not end a run
            text = str(record.msg)
        if not any(re.match(h.source, record.name) and re.match(h.text, text) for h in HUSHED):
            error = record.exc_info[1] if record.exc_info else None
            said = text if error is None else f"{text}: {type(error).__name__}: {error}"
            self._say(said, "warning" if record.levelno >= logging.WARNING else record.levelname.lower())

    def take_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if self.level <= logging.WARNING:
            self._say(str(message))

    def _say(self, text: str, kind: str = "warning") -> None:
        one_line = " ".join(text.split())
        if one_line and one_line not in self._said:
            self._said.add(one_line)
            print(f"{kind}: {one_line}", file=sys.stderr)


def _shows_itself(name: str) -> bool:
    """Tell whether a library has a handler for its own log, as torch and the Hub's client have."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None and logger is not logging.getLogger():
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent
    return False
