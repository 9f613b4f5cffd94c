"""Turning a pickled checkpoint that the user trusts into safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.io import sha256_file
from spurious_imagenet.models.timm_models import create_timm_model
from spurious_imagenet.models.weights_file import WeightsFileInfo, save_weights

__all__ = ["convert_checkpoint"]

# Wrappers that training code leaves in parameter names: DataParallel, normalisers, temperature, torch.compile.
_PREFIXES = ("module.", "model.", "_orig_mod.")
# Sub-modules that carry copies of the network, or no weights of it.
_NOT_THE_NETWORK = {"attacker", "normalizer"}


def convert_checkpoint(
    source: str | Path, target: str | Path, info: WeightsFileInfo, *, sha256: str, trust_pickle: bool
) -> None:
    """Write the weights of a pickled checkpoint as self-describing safetensors.

    Reading a pickle can run any code in it, so the caller must say that it is trusted and which bytes are meant.

    Args:
        source: The checkpoint (robustness library, RATIO family, plain torch).
        target: Safetensors file to write.
        info: What the model is; its ``arch`` decides which tensors are expected.
        sha256: Expected hash of the checkpoint's bytes.
        trust_pickle: The user's word that running its code is fine.

    Raises:
        ConfigError: It is not trusted, or its hash is another.
        ModelError: It holds no weights of the architecture.
    """
    if not trust_pickle:
        raise ConfigError(f"{source} is a pickle, which can run code when read: pass --trust-pickle if you trust it.")
    actual = sha256_file(source)
    if actual != sha256.lower():
        raise ConfigError(f"{source} has SHA-256 {actual}, expected {sha256}: it was not opened.")
    checkpoint = torch.load(source, map_location="cpu", weights_only=False)  # trusted and hashed above
    kwargs = dict(info.arch_kwargs)
    if info.class_ids is not None:
        kwargs["num_classes"] = len(info.class_ids)
    model = create_timm_model(info.arch, pretrained=False, **kwargs)
    wanted = set(model.state_dict())
    weights = _matching_weights(_state_dict(checkpoint, str(source)), wanted)
    missing = sorted(wanted - set(weights))
    if missing:
        raise ModelError(f"{source} lacks {len(missing)} tensors of {info.arch}, such as {missing[0]!r}.")
    model.load_state_dict(weights)
    save_weights(target, model, info)


def _state_dict(checkpoint: Any, source: str) -> Mapping[str, Tensor]:
    content = checkpoint
    for _ in range(4):
        if hasattr(content, "state_dict") and not isinstance(content, Mapping):
            content = content.state_dict()
        if isinstance(content, Mapping) and any(isinstance(v, Tensor) for v in content.values()):
            return {k: v for k, v in content.items() if isinstance(v, Tensor)}
        if not isinstance(content, Mapping):
            break
        content = next((content[k] for k in ("model", "state_dict", "model_state_dict", "net") if k in content), None)
    raise ModelError(f"{source} holds no state dict: expected tensors by name, bare or under 'model' or 'state_dict'.")


def _matching_weights(tensors: Mapping[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Strip wrappers' prefixes until a name is one of the architecture's; what never matches is not a weight."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stripped = name
        if _NOT_THE_NETWORK & set(name.split(".")):
            continue
        while stripped not in wanted and stripped.startswith(_PREFIXES):
            stripped = stripped.partition(".")[2]
        if stripped in wanted:
            found[stripped] = tensor
    return found
