"""``head:`` models: a linear head in a safetensors file, on the frozen features of an encoder that any spec names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from spurious_imagenet.errors import ModelError, one_line
from spurious_imagenet.models.classifier import Classifier
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.labels import LabelSpace
from spurious_imagenet.models.spec import ModelSpec
from spurious_imagenet.records import Record
from spurious_imagenet.tensors import load_arrays, read_metadata, save_arrays

__all__ = ["HeadFileInfo", "load_head", "read_head", "save_head", "with_head"]

_METADATA_KEY = "spurious_imagenet_head"


class HeadFileInfo(Record):
    """What a head file says of the encoder that its weights read, kept in its metadata."""

    encoder: str
    """Spec of the encoder."""
    encoder_weights_sha256: str
    """Hash of all of the encoder's weights, its own head's included."""
    image_size: int
    """Input side at which the encoder made the features, px."""
    label_space: str
    class_ids: tuple[str, ...]
    """One id per row of the head."""
    class_names: tuple[str, ...]


class HeadCore(nn.Module):
    """An encoder's features, and the logits of a head of one's own.

    Args:
        encoder: Normalised images → (features, logits); its logits are not used.
        head: (K, D) weight and (K,) bias.
    """

    def __init__(self, encoder: nn.Module, head: LinearHead) -> None:
        super().__init__()
        self.encoder = encoder
        # Without a draw of first weights, which would move the random numbers of whoever loads a model.
        empty: Callable[..., nn.Linear] = cast(Any, nn.utils.skip_init)
        self.classifier = empty(nn.Linear, head.feature_dim, len(head.bias))
        self.classifier.load_state_dict(
            {"weight": torch.from_numpy(head.weight.copy()), "bias": torch.from_numpy(head.bias.copy())}
        )
        self.head_is_linear = True

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's (N, D) features and the head's (N, K) logits of normalised images."""
        features, _ = self.encoder(images)
        return features, self.classifier(features)


def with_head(encoder: Classifier, head: LinearHead, labels: LabelSpace, spec: str) -> Classifier:
    """Put a head of one's own on a classifier's features.

    Args:
        encoder: Whose features the head reads; the result has its preprocessing.
        head: The head.
        labels: The head's classes.
        spec: A name for the result.

    Raises:
        ModelError: The head reads another number of features than the encoder gives.
    """
    if encoder.feature_dim != head.feature_dim:
        raise ModelError(
            f"the head reads {head.feature_dim} features, but {encoder.spec} gives {encoder.feature_dim}: expected the "
            "encoder that it was fitted to."
        )
    core = HeadCore(encoder.network.core, head)
    made = Classifier.build(spec, core, labels, encoder.preprocess, head.temperature)
    return replace(made, encoder_weights_sha256=encoder.encoder_weights_sha256 or encoder.weights_sha256)


def save_head(path: str | Path, head: LinearHead, info: HeadFileInfo) -> None:
    """Write a head as safetensors that ``head:PATH`` loads, whole or not at all."""
    save_arrays(path, {"weight": head.weight, "bias": head.bias}, {_METADATA_KEY: info.model_dump_json()})


def load_head(spec: ModelSpec) -> Classifier:
    """Load ``head:PATH``: the head in the file on the encoder that the file names.

    The option ``encoder=SPEC`` says where the encoder lies now, if it has moved (``%26`` for an ampersand in it); its
    weights must be the same.

    Raises:
        ModelError: The file is not a head, or the encoder is not the one it was fitted to.
    """
    # Imported here: load.py names this module.
    from spurious_imagenet.models.load import load_classifier, load_recorded

    spec.check_options("encoder")
    path = Path(spec.address).expanduser()
    if not path.is_file():
        raise ModelError(f"{spec.text}: there is no file {path}.")
    head, info = read_head(path)
    size = spec.image_size or info.image_size
    if "encoder" in spec.options:
        encoder = load_classifier(spec.options["encoder"], image_size=size)
    else:
        encoder = load_recorded(info.encoder, image_size=size, what=str(path))
    if encoder.weights_sha256 != info.encoder_weights_sha256:
        raise ModelError(
            f"{spec.text} was fitted to features of {info.encoder} (weights {info.encoder_weights_sha256[:12]}), but "
            f"{encoder.spec} has weights {encoder.weights_sha256[:12]} at {encoder.preprocess.size} px."
        )
    labels = LabelSpace(info.label_space, info.class_ids, info.class_names)
    return with_head(encoder, head, labels, spec.text)


def read_head(path: Path) -> tuple[LinearHead, HeadFileInfo]:
    """Read what :func:`save_head` wrote.

    Raises:
        ModelError: The file is not a head.
    """
    try:
        text, tensors = read_metadata(path).get(_METADATA_KEY), load_arrays(path)
        if text is None or set(tensors) != {"weight", "bias"}:
            raise ModelError(f"{path} holds no linear head: expected a file that `spurious head` wrote.")
        info = HeadFileInfo.model_validate_json(text)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{path} is not a readable head file: {one_line(error)}") from error
    head = LinearHead(tensors["weight"].astype(np.float32), tensors["bias"].astype(np.float32))
    if len(head.bias) != len(info.class_ids):
        raise ModelError(f"{path} holds a head of {len(head.bias)} outputs for {len(info.class_ids)} classes.")
    return head, info
