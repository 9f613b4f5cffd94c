"""A planted world's labelled splits in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spurious_imagenet.errors import DataError
from spurious_imagenet.images import read_picture
from spurious_imagenet.models.labels import LabelSpace
from spurious_imagenet.planted._shapes import SHAPES
from spurious_imagenet.planted.config import LABEL_SPACE, class_id_of


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one labelled split, held as bytes.

    Attributes:
        images: (N, 3, S, S) uint8, channels last in memory.
        labels: (N,) int64 indices of :func:`planted_label_space`.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels (n, 3, S, S) float32 in [0, 1] and the labels of some rows."""
        return self.images[rows].float() / 255, self.labels[rows]


def planted_label_space() -> LabelSpace:
    """Return the label space of every planted world: the twelve objects."""
    return LabelSpace(LABEL_SPACE, tuple(class_id_of(name) for name in SHAPES), tuple(SHAPES))


def _read_class(folder: Path) -> NDArray[np.uint8]:
    files = sorted(folder.glob("*.jpg"))
    if not files:
        raise DataError(f"{folder} holds no images: expected a class of a planted world.")
    return np.stack([np.asarray(read_picture(file).convert("RGB")) for file in files])


def load_split(world: str | Path, split: str) -> Split:
    """Read a labelled split from its class folders.

    Args:
        world: A planted world's folder.
        split: ``train`` or ``val``.

    Raises:
        DataError: A class has no folder, or no images in it.
    """
    classes = [_read_class(Path(world) / split / class_id) for class_id in planted_label_space().class_ids]
    labels = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor([len(c) for c in classes]))
    images = torch.from_numpy(np.concatenate(classes)).permute(0, 3, 1, 2)
    return Split(images.contiguous(memory_format=torch.channels_last), labels)
