"""The door to safetensors: what is read is what was given, and everybody whom the umask lets may read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spurious_imagenet.errors import StoreError
from spurious_imagenet.tensors import (
    dump_arrays,
    load_arrays,
    load_torch,
    parse_arrays,
    read_metadata,
    save_arrays,
    save_torch,
)

GRID = np.arange(24, dtype=np.float32).reshape(4, 6)
ODD = {
    "every second": GRID[:, ::2],
    "one column": GRID[:, 1],
    "transposed": GRID.T,
    "Fortran order": np.asfortranarray(GRID),
    "reversed": GRID[::-1],
    "other byte order": GRID.astype(">f4"),
    "broadcast": np.broadcast_to(np.float32(3), (5,)),
    "scalar": np.float32(2).reshape(()),
    "empty": GRID[:0, ::2],
    "read only": np.frombuffer(GRID.tobytes(), np.float32)[::3],
    "half": GRID.astype(np.float16)[:, ::3],
    "whole numbers": np.arange(10, dtype=np.int64)[::-2],
}


@pytest.mark.parametrize("name", ODD)
def test_arrays_of_any_layout_come_back(name: str, tmp_path: Path) -> None:
    given = np.asarray(ODD[name])
    save_arrays(tmp_path / "a.safetensors", {"a": given, "b": GRID}, {"note": "ü"})
    found = load_arrays(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(found["a"], given)
    assert found["a"].dtype == given.dtype.newbyteorder("=")
    assert found["a"].shape == given.shape
    np.testing.assert_array_equal(parse_arrays(dump_arrays({"a": given}))["a"], given)
    assert read_metadata(tmp_path / "a.safetensors") == {"note": "ü"}


def test_torch_tensors_of_any_layout_come_back(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    given = {
        "columns": base[:, ::2],
        "transposed": base.T,
        "bfloat": base.bfloat16()[:, 1],
        "shared": base,
        "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "not a number": torch.tensor([float("nan"), 1.0]),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }
    save_torch(tmp_path / "t.safetensors", given)
    found = load_torch(tmp_path / "t.safetensors")
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_a_file_that_holds_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(tensors: dict[str, np.ndarray], path: Path, metadata: object = None) -> None:
        real({name: tensor[::-1].copy() for name, tensor in tensors.items()}, path, metadata)

    import safetensors.numpy

    real = safetensors.numpy.save_file
    monkeypatch.setattr(safetensors.numpy, "save_file", wrong)
    with pytest.raises(StoreError, match="another 'a' than was given"):
        save_arrays(tmp_path / "a.safetensors", {"a": GRID})
    assert not list(tmp_path.iterdir())
