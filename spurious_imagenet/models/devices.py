"""The one place that decides where tensors live and in which precision networks run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from spurious_imagenet.errors import ConfigError

__all__ = ["Precision", "autocast", "available_devices", "pick_device"]

Precision = Literal["float32", "float16", "bfloat16"]

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def available_devices() -> tuple[str, ...]:
    """Return the kinds of device this machine has, best first."""
    devices = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return (*devices, "cpu")


def pick_device(name: str = "auto") -> torch.device:
    """Resolve a device name.

    Args:
        name: ``auto`` (the best there is), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        ConfigError: The machine has no such device.
    """
    if name == "auto":
        return torch.device(available_devices()[0])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown: expected auto, cpu, cuda, cuda:N or mps.") from error
    if device.type not in available_devices():
        raise ConfigError(f"device {name!r} is not on this machine: it has {', '.join(available_devices())}.")
    return device


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which a network runs in ``precision`` on ``device``."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])
