from __future__ import annotations

import io
import os
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run_spurious

from spurious_imagenet.builders.imports import read_sfe_components
from spurious_imagenet.builders.imports._object_array import read_object_scalar
from spurious_imagenet.concepts import ConceptVerdicts
from spurious_imagenet.errors import DataError
from spurious_imagenet.models.labels import imagenet_label_space

COMPONENTS = {94: [1, 2], 0: [9], 400: [7, 0, 33], 999: [2047], 300: []}


def npy(body: bytes, descr: str = "|O", shape: tuple[int, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + body


def pickled(content: object, protocol: int = 3) -> bytes:
    array = np.empty((), object)
    array[()] = content
    return npy(pickle.dumps(array, protocol=protocol))


#: The instructions that NumPy writes around the one object, from its own pickle of the integer 42.
BEFORE, _, AFTER = pickle.dumps(np.array(42, dtype=object), protocol=3).partition(b"K*")


def around(instructions: bytes) -> bytes:
    """An array whose one object the given pickle instructions make."""
    return npy(BEFORE + instructions + AFTER)


def test_components_are_read_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.array(COMPONENTS, dtype=object))
    verdicts = read_sfe_components(tmp_path / "c.npy")
    found = [(v.class_index, v.component) for v in verdicts]
    assert found == [(0, 9), (94, 1), (94, 2), (400, 0), (400, 7), (400, 33), (999, 2047)]
    ids = imagenet_label_space("imagenet-1k").class_ids
    assert [v.class_id for v in verdicts] == [ids[k] for k, _ in found]
    assert {(v.kind, v.verdict, v.source, v.votes) for v in verdicts} == {("npca", "spurious", "sfe", ())}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_way_of_writing_integers_is_read(tmp_path: Path, protocol: int) -> None:
    written = {
        np.int64(94): [np.int32(1), np.uint8(2)],
        0: [9],
        400: [7, np.int64(0), 33],
        999: [np.int16(2047)],
        300: [],
    }
    if protocol == 2:  # writes bytes as a call of a codec, and NumPy's scalars hold bytes
        written = COMPONENTS
    content = pickled(written, protocol)
    if protocol in {3, 4}:
        content = pickled(written | {400: np.array([7, 0, 33], ">i4"), 94: np.array([1, 2])}, protocol)
    (tmp_path / "c.npy").write_bytes(content)
    if protocol == 2:
        with pytest.raises(DataError, match=r"names '_codecs\.encode', which is code"):
            read_object_scalar(tmp_path / "c.npy")
        return
    assert read_object_scalar(tmp_path / "c.npy") == COMPONENTS


def test_the_form_of_the_published_file_is_read(tmp_path: Path) -> None:
    """It was written by Python 3.7 and NumPy 1: protocol 3, ``numpy.core``."""
    content = pickled(COMPONENTS, 3)
    for name in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        renamed = content.replace(b"numpy._core.multiarray", name)
        (tmp_path / "c.npy").write_bytes(renamed)
        assert name in renamed
        assert read_object_scalar(tmp_path / "c.npy") == COMPONENTS


def test_the_command_says_what_it_read(tmp_path: Path) -> None:
    (tmp_path / "c.npy").write_bytes(pickled(COMPONENTS))
    ran = run_spurious("import", "sfe-components", tmp_path / "c.npy", "--out", tmp_path / "v.parquet")
    assert ran.code == 0, ran
    assert "7 NPCA components with 0 single votes; 7 are spurious, of 4 classes." in ran.out
    assert len(ConceptVerdicts.load(tmp_path / "v.parquet")) == 7


class Runs:
    """Unpickles by a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "key", "value", "component", "array"])
def test_code_is_refused_and_never_runs(tmp_path: Path, protocol: int, place: str) -> None:
    marker = tmp_path / "ran"
    bomb = Runs(os.mkdir, str(marker))
    contents = {"alone": bomb, "key": {bomb: [1]}, "value": {1: bomb}, "component": {1: [2, bomb]}}
    data = npy(pickle.dumps(bomb, protocol)) if place == "array" else pickled(contents[place], protocol)
    (tmp_path / "c.npy").write_bytes(data)
    error = run_spurious("import", "sfe-components", tmp_path / "c.npy", "--out", tmp_path / "v.parquet").the_error()
    assert "c.npy is refused: " in error
    assert not marker.exists()
    assert not (tmp_path / "v.parquet").exists()
    if place != "array" and protocol:
        np.load(tmp_path / "c.npy", allow_pickle=True)  # what a reader that trusts the file does
        assert marker.exists()


TUPLES = b"".join((b")", b"\x85" * 200_000))
CASES = {
    "eval": (around(b"cbuiltins\neval\nX\x03\0\0\x001+1\x85R"), "names 'builtins.eval'"),
    "attribute": (around(b"cnumpy\nload\n"), "names 'numpy.load'"),
    "nested name": (around(b"cnumpy.core.multiarray\n_reconstruct.__globals__\n"), "which is code"),
    "stack name": (around(b"\x8c\x02os\x8c\x06system\x93"), "names 'os.system'"),
    "name of tuples": (around(TUPLES + TUPLES + b"\x93"), "which is code"),
    "class": (around(b"cnumpy\nndarray\n"), "something other than dicts"),
    "array bomb": (around(b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R"), "calls something other"),
    "reconstruct bomb": (
        around(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85C\x01b\x87R"),
        "calls something other",
    ),
    "half an array": (
        around(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"),
        "something other than dicts",
    ),
    "memo bomb": (around(b"Nr\xff\xff\xff\xff"), "holds a NoneType"),
    "text bomb": (around(b"X\xff\xff\xff\xff"), "is refused"),
    "bytes bomb": (around(b"\x8e\xff\xff\xff\xff\xff\xff\0\0"), "is refused"),
    "long bomb": (around(b"\x8a\xff" + b"\x7f" * 255), "more than 64 bits"),
    "hash of tuples": (around(b"}" + TUPLES + b"K\x01s"), "a key is of type tuple"),
    "wide tuple": (around(b"(" + b"K\x01" * 9 + b"t"), "a tuple of 9 items"),
    "deep lists": (around(b"]" * 200_000 + b"a" * 199_999), "holds a list: expected a dict"),
    "list in itself": (around(b"}K\x01]q\x01h\x01as"), "component list: expected a number"),
    "persistent": (around(b"Pid\n"), "instruction PERSID"),
    "instance": (around(b"(ios\nsystem\n"), "instruction INST"),
    "extension": (around(b"\x82\x01"), "instruction EXT1"),
    "new object": (around(b"cnumpy\nndarray\n)\x81"), "instruction NEWOBJ"),
    "unknown memo": (around(b"h\x63"), "malformed"),
    "mark": (around(b"("), "is refused"),
    "nothing on the stack": (npy(b"\x80\x03s."), "is refused"),
    "no end": (npy(BEFORE), "is refused"),
    "unknown instruction": (npy(b"\xff\xff."), "is refused"),
    "more behind": (pickled(COMPONENTS) + b"x", "bytes follow"),
    "no array": (npy(pickle.dumps(COMPONENTS)), "does not make one array"),
    "float": (pickled({1: [2.0]}), "instruction BINFLOAT"),
    "floats": (pickled({1: np.array([2.0])}), "numbers of type 'f8'"),
    "set": (pickled({1: {2}}, 4), "instruction EMPTY_SET"),
    "text key": (pickled({"1": [2]}), "a key is of type str"),
    "text": (pickled({1: ["2"]}), "class 1: component str: expected a number"),
    "bool": (pickled({1: [True]}), "class 1: component bool: expected a number"),
    "not a list": (pickled({1: 2}), "class 1: expected a list of at most 2048 components"),
    "list": (pickled([1, 2]), "holds a list: expected a dict"),
    "empty": (pickled({}), "holds a dict: expected a dict of classes"),
    "no components": (pickled({1: []}), "holds no components"),
    "unknown class": (pickled({1000: [1]}), "class 1000 is unknown"),
    "negative class": (pickled({-1: [1]}), "class -1 is unknown"),
    "negative component": (pickled({1: [-1]}), "class 1: component -1: expected a number from 0 to 2047"),
    "large component": (pickled({1: [2048]}), "class 1: component 2048"),
    "component twice": (pickled({1: [3, 3]}), "class 1 lists a component twice"),
    "many components": (pickled({1: list(range(2049))}), "at most 2048 components"),
    "integers": (npy(struct.pack("<q", 1), "<i8"), "not a NumPy file"),
    "array": (npy(pickle.dumps(np.array([{}])), shape=(1,)), "not a NumPy file"),
    "header": (b"\x93NUMPY\x01\0\x10\0{'descr': __impor", "not a NumPy file"),
    "version": (b"\x93NUMPY\x09\0", "not a NumPy file"),
    "text file": (b"hello world", "not a NumPy file"),
    "nothing": (b"", "not a NumPy file"),
    "large": (npy(b"\0" * (5 << 20)), "bytes: expected at most"),
}


@pytest.mark.parametrize("case", CASES)
def test_anything_else_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    data, words = CASES[case]
    (tmp_path / "c.npy").write_bytes(data)
    with pytest.raises(DataError, match=words) as raised:
        read_sfe_components(tmp_path / "c.npy")
    assert "c.npy" in str(raised.value)
    assert len(str(raised.value)) < 500 + len(str(tmp_path))


def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    rng = random.Random(0)
    path, refused = tmp_path / "c.npy", 0
    for whole in (pickled(COMPONENTS, 3), pickled({1: np.array([2]), np.int64(3): [4]}, 4)):
        for _ in range(1500):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(6 if rng.random() < 0.2 else 128, len(data))] = rng.randrange(256)
            path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
            try:
                assert len(read_sfe_components(path)) > 0
            except DataError:
                refused += 1
    assert refused > 1500


@pytest.mark.skipif("SPURIOUS_DATA" not in os.environ, reason="SPURIOUS_DATA names no folder with the published file")
def test_the_published_file_has_322_components_of_233_classes() -> None:
    path = Path(os.environ["SPURIOUS_DATA"]) / "published/spurious_components.npy"
    verdicts = read_sfe_components(path)
    assert (len(verdicts), len({v.class_id for v in verdicts})) == (322, 233)
    # Known and trusted, so that NumPy may unpickle it here.
    published = np.load(path, allow_pickle=True).item()
    assert {(v.class_index, v.component) for v in verdicts} == {(k, c) for k, cs in published.items() for c in cs}
    # "hummingbird" (94): the bird feeder, components 2 and 3 of the paper, which counts from 1.
    assert sorted(v.component for v in verdicts if v.class_index == 94) == sorted(published[94])
