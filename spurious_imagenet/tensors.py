"""The only door to safetensors files: what is read from a file is what was given to be written, in the same dtype."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import atomic_path

if TYPE_CHECKING:
    import torch

__all__ = [
    "SafetensorError",
    "dump_arrays",
    "load_arrays",
    "load_torch",
    "open_tensors",
    "parse_arrays",
    "read_metadata",
    "save_arrays",
    "save_torch",
]

_Arrays = Mapping[str, NDArray[Any]]


def save_arrays(path: str | Path, arrays: _Arrays, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays of any strides and byte order by name, whole or not at all.

    Args:
        path: File to write.
        arrays: Name → array.
        metadata: Texts to keep in the file's header.

    Raises:
        StoreError: The file does not hold what was given.
    """
    from safetensors.numpy import save_file

    dense = {name: _dense(array) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        save_file(dense, temporary, metadata=dict(metadata or {}) or None)
        _check(path, dense, load_arrays(temporary))


def save_torch(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write torch tensors by name, whole or not at all; as :func:`save_arrays`, and tensors may share memory."""
    import torch
    from safetensors.torch import save_file

    dense = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(dense, temporary, metadata=dict(metadata or {}) or None)
        found = load_torch(temporary)
        same = (
            found.keys() == dense.keys()
            and all(found[k].dtype == dense[k].dtype and found[k].shape == dense[k].shape for k in dense)
            and all(torch.equal(_bytes_of(found[k]), _bytes_of(dense[k])) for k in dense)
        )
        if not same:
            raise StoreError(f"{path}: the file read back holds other tensors than were given; nothing was kept.")


def dump_arrays(arrays: _Arrays, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of the file that :func:`save_arrays` would write."""
    from safetensors.numpy import save

    dense = {name: _dense(array) for name, array in arrays.items()}
    data: bytes = save(dense, metadata=dict(metadata or {}) or None)
    _check("safetensors", dense, parse_arrays(data))
    return data


def load_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file by name.

    Raises:
        SafetensorError: The file is not a safetensors file.
    """
    from safetensors.numpy import load_file

    return dict(load_file(path))


def load_torch(path: str | Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a file by name; as :func:`load_arrays`, for dtypes that NumPy lacks too."""
    from safetensors.torch import load_file

    return dict(load_file(path))


def parse_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file's bytes by name.

    Raises:
        SafetensorError: The bytes are not those of a safetensors file.
    """
    from safetensors.numpy import load

    return dict(load(data))


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the texts in a file's header; empty where it has none.

    Raises:
        SafetensorError: The file is not a safetensors file.
    """
    with open_tensors(path) as file:
        return dict(file.metadata() or {})


def open_tensors(path: str | Path) -> Any:
    """Open a file whose tensors are read as NumPy arrays, one by one or in slices (see ``safetensors.safe_open``)."""
    return safe_open(os.fspath(path), framework="numpy")


def _dense(array: NDArray[Any]) -> NDArray[Any]:
    # The library writes the memory that an array begins at, whatever its strides are, and calls it the array.
    native = np.asarray(array)
    return np.array(native, dtype=native.dtype.newbyteorder("="), order="C", copy=None)


def _check(path: str | Path, given: _Arrays, found: _Arrays) -> None:
    for name, array in given.items():
        read = found.get(name)
        if read is None or read.dtype != array.dtype or read.shape != array.shape or read.tobytes() != array.tobytes():
            raise StoreError(f"{path}: the file read back holds another {name!r} than was given; nothing was kept.")


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    flat = tensor.reshape(-1)
    return flat.view(torch.uint8) if flat.numel() else torch.zeros(0, dtype=torch.uint8)
