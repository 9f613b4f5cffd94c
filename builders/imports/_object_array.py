"""Reading plain data out of a NumPy file of Python objects, without unpickling it.

``numpy.load(allow_pickle=True)`` runs whatever code the file names. Here the pickle's instructions are read as data by
a machine that knows only what NumPy writes for an array of dicts, lists and integers: no name in the file is looked
up, only plain objects are made, and everything else is refused.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spurious_imagenet.errors import DataError

_MAX_BYTES = 4 << 20  # 1,600 times the published file
_MAX_TUPLE = 8
#: What ``numpy.save`` writes before the pickle of one object. NumPy's own reader tokenises it as Python source.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|O', 'fortran_order': (?:False|True), 'shape': \(\), \} *\n", re.DOTALL
)
#: numpy.core was renamed to numpy._core in NumPy 2.
_GLOBALS = {
    f"{module}.{name}": name
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {"numpy.ndarray": "ndarray", "numpy.dtype": "dtype"}


class _RefusedError(Exception):
    """The pickle holds something that plain data does not need."""


@dataclass(frozen=True)
class _Name:
    """A name that NumPy's arrays are made with; it stands for itself and is never called."""

    name: str


@dataclass
class _DType:
    code: str
    order: str = "<"


@dataclass
class _Array:
    """An array before its content is known; ``value`` is the content afterwards."""

    value: Any = None
    complete: bool = False


_MARK = object()


def read_object_scalar(path: str | Path) -> Any:
    """Read the one object of a 0-dimensional NumPy file of dtype ``object``.

    Args:
        path: The ``.npy`` file.

    Returns:
        Whatever was saved, of dicts with integer keys, lists, tuples, integers, texts, booleans and None; arrays of
        integers come back as lists.

    Raises:
        DataError: The file is missing, too large, no such NumPy file, or its pickle holds anything else, such as code.
    """
    data = _header_removed(Path(path))
    try:
        return _Machine().run(data)
    except (_RefusedError, ValueError, IndexError, OverflowError, MemoryError) as error:
        said = str(error).rstrip(".") or type(error).__name__
        raise DataError(
            f"{path} is refused: {said[:200]}; expected a pickle of dicts, lists and integers only."
        ) from None


def _header_removed(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size} bytes: expected at most {_MAX_BYTES}.")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    header = _HEADER.match(data)
    if header is None:
        raise DataError(f"{path} is not a NumPy file (version 1.0) of one Python object.")
    return data[header.end() :]


class _Machine:
    """A stack machine for the instructions that NumPy's pickles of plain data use."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        build: dict[str, Callable[[], None]] = {
            "MARK": lambda: self.stack.append(_MARK),
            "EMPTY_LIST": lambda: self.stack.append([]),
            "EMPTY_DICT": lambda: self.stack.append({}),
            "EMPTY_TUPLE": lambda: self.stack.append(()),
            "NONE": lambda: self.stack.append(None),
            "NEWTRUE": lambda: self.stack.append(True),
            "NEWFALSE": lambda: self.stack.append(False),
            "APPEND": lambda: self._append([self._pop()]),
            "APPENDS": lambda: self._append(self._to_mark()),
            "SETITEM": lambda: self._set([self._pop(), self._pop()][::-1]),
            "SETITEMS": lambda: self._set(self._to_mark()),
            "TUPLE": lambda: self._tuple(self._to_mark()),
            "TUPLE1": lambda: self._tuple([self._pop()]),
            "TUPLE2": lambda: self._tuple([self._pop() for _ in range(2)][::-1]),
            "TUPLE3": lambda: self._tuple([self._pop() for _ in range(3)][::-1]),
            "STACK_GLOBAL": lambda: self._name([self._pop(), self._pop()][::-1]),
            "MEMOIZE": lambda: self._remember(len(self.memo)),
            "REDUCE": self._reduce,
            "BUILD": self._build,
        }
        self._without_argument = build
        self._with_argument: dict[str, Callable[[Any], None]] = {
            **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), self._push_int),
            **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE"), self.stack.append),
            **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES"), self.stack.append),
            **dict.fromkeys(("BINPUT", "LONG_BINPUT"), self._remember),
            **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda slot: self.stack.append(self._recall(slot))),
            **dict.fromkeys(("PROTO", "FRAME"), lambda _: None),
            "GLOBAL": lambda argument: self._name(argument.split(" ")),
        }

    def run(self, data: bytes) -> Any:
        """Follow the instructions; return the content of the one array that they make."""
        stream = io.BytesIO(data)
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                if stream.read(1):
                    raise _RefusedError("bytes follow its pickle")
                break
            if opcode.name in self._without_argument:
                self._without_argument[opcode.name]()
            elif opcode.name in self._with_argument:
                self._with_argument[opcode.name](argument)
            else:
                raise _RefusedError(f"its pickle has the instruction {opcode.name}")
        result = self._pop()
        if self.stack or not isinstance(result, _Array) or not result.complete or len(result.value) != 1:
            raise _RefusedError("its pickle does not make one array of one object")
        return result.value[0]

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise _RefusedError("its pickle is malformed")
        return value

    def _to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def _push_int(self, value: int) -> None:
        if abs(value) >= 2**63:
            raise _RefusedError("its pickle has an integer of more than 64 bits")
        self.stack.append(value)

    def _remember(self, slot: int) -> None:
        if self.stack[-1] is _MARK:
            raise _RefusedError("its pickle is malformed")
        self.memo[slot] = self.stack[-1]

    def _recall(self, slot: int) -> Any:
        if slot not in self.memo:
            raise _RefusedError("its pickle is malformed")
        return self.memo[slot]

    def _append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise _RefusedError("its pickle appends to something that is not a list")
        target.extend(_content(item) for item in items)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise _RefusedError("its pickle fills something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not int:  # also keeps hashing away from nested tuples, whose depth has no limit
                raise _RefusedError(f"a key is of type {type(key).__name__}")
            target[key] = _content(value)

    def _tuple(self, items: list[Any]) -> None:
        if len(items) > _MAX_TUPLE:
            raise _RefusedError(f"it has a tuple of {len(items)} items")
        self.stack.append(tuple(items))

    def _name(self, parts: list[Any]) -> None:
        name = ".".join(p for p in parts if isinstance(p, str))
        if name not in _GLOBALS:
            raise _RefusedError(f"it names {name[:100]!r}, which is code")
        self.stack.append(_Name(_GLOBALS[name]))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        match function, arguments:
            case _Name("_reconstruct"), (_Name("ndarray"), (0,), bytes()):
                self.stack.append(_Array())
            case _Name("dtype"), (str(code), bool(), bool()):
                self.stack.append(_DType(code))
            case _Name("scalar"), (_DType() as dtype, bytes(raw)):
                self.stack.extend(_integers(dtype, raw, 1))
            case _:
                raise _RefusedError("its pickle calls something other than NumPy's constructors")

    def _build(self) -> None:
        state, target = self._pop(), self.stack[-1]
        match target, state:
            case _DType(), (3, str(order), None, None, None, int(), int(), int()):
                target.order = order
            case _Array(complete=False), (1, (), _DType("O8"), bool(), [_] as items):
                target.value, target.complete = items, True
            case _Array(complete=False), (1, (int(size),), _DType() as dtype, bool(), bytes(raw)):
                target.value, target.complete = _integers(dtype, raw, size), True
            case _:
                raise _RefusedError("its pickle builds something other than an array of integers or of one object")


def _content(value: Any) -> Any:
    """Return an array as the list of its integers; refuse what is only part of an array."""
    if isinstance(value, _Array) and value.complete:
        return value.value
    if isinstance(value, _Name | _DType | _Array | bytes):
        raise _RefusedError("its pickle holds something other than dicts, lists and integers")
    return value


def _integers(dtype: _DType, raw: bytes, count: int) -> list[int]:
    if dtype.code not in {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} or dtype.order not in "<>|=":
        raise _RefusedError(f"it has numbers of type {dtype.code[:20]!r}")
    width = int(dtype.code[1])
    if count < 0 or len(raw) != count * width:
        raise _RefusedError(f"{count} numbers of type {dtype.code} have {len(raw)} bytes")
    order = {"|": "<", "=": "<"}.get(dtype.order, dtype.order)
    return [int(v) for v in np.frombuffer(raw, np.dtype(order + dtype.code))]
