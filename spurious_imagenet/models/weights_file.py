"""Self-describing weight files: safetensors whose metadata say what the model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spurious_imagenet.errors import ModelError, one_line
from spurious_imagenet.records import Record
from spurious_imagenet.tensors import read_metadata, save_torch

if TYPE_CHECKING:
    from torch import nn

__all__ = ["WeightsFileInfo", "read_weights_info", "save_weights"]

_METADATA_KEY = "spurious_imagenet"


class WeightsFileInfo(Record):
    """What a weights file holds, kept in its metadata; each field may be overridden in the model spec."""

    arch: str
    """A timm architecture."""
    arch_kwargs: dict[str, Any] = {}
    """Keyword arguments of ``timm.create_model`` besides the number of classes."""
    label_space: str | None = None
    class_ids: tuple[str, ...] | None = None
    """One id an output; left out for ImageNet's label spaces."""
    class_names: tuple[str, ...] | None = None
    image_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    temperature: float = 1.0
    """The model divides its logits by it."""


def save_weights(path: str | Path, module: nn.Module, info: WeightsFileInfo) -> None:
    """Write a module's weights as safetensors that ``file:PATH`` loads.

    Args:
        path: File to write, whole or not at all.
        module: Its ``state_dict`` is saved.
        info: What the file says about itself.
    """
    metadata = {_METADATA_KEY: json.dumps(info.model_dump(mode="json", exclude_none=True), sort_keys=True)}
    save_torch(path, module.state_dict(), metadata)


def read_weights_info(path: str | Path) -> WeightsFileInfo | None:
    """Return what a safetensors file says about itself, or None where it says nothing.

    Raises:
        ModelError: The file is not a safetensors file, or its description is malformed.
    """
    try:
        text = read_metadata(path).get(_METADATA_KEY)
        return None if text is None else WeightsFileInfo.model_validate_json(text)
    except Exception as error:
        raise ModelError(f"{path} is not a readable safetensors weights file: {one_line(error)}") from error
