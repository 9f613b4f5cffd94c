"""Feature attacks: real images changed so that they show a concept more (SR sections 3 and I.1)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from spurious_imagenet.builders.visualise.apgd import maximise
from spurious_imagenet.builders.visualise.npfv import on_device, read_out
from spurious_imagenet.errors import DataError
from spurious_imagenet.models import Classifier
from spurious_imagenet.models.devices import Precision, pick_device

__all__ = ["feature_attack"]


def feature_attack(
    classifier: Classifier,
    direction: NDArray[np.floating] | torch.Tensor,
    images: torch.Tensor,
    *,
    eps: float,
    steps: int = 200,
    device: str = "auto",
    precision: Precision = "float32",
    batch_size: int = 16,
) -> torch.Tensor:
    """Maximise a concept's score from real images, by gradients of the (robust) model that the concept belongs to.

    What the concept responds to in an image is thereby amplified. The paper gives neither a budget nor a search; this
    is the search that makes the visualisations from grey, so that the two can be compared at equal ``eps``.

    Args:
        classifier: The concept's model.
        direction: (D,) read-out of its penultimate features: a bank's row, or a unit vector for a neural feature.
        images: (B, 3, S, S) float32 in [0, 1], S the model's input side.
        eps: Largest L2 norm of an image's change, over all pixel values; see ``eps_at`` for another image side.
        steps: Steps an image.
        device: Where to run.
        precision: Autocast precision of the network.
        batch_size: Images at once.

    Returns:
        (B, 3, S, S) float32 in [0, 1], within ``eps`` of ``images``, with scores never below theirs; on the CPU.

    Raises:
        DataError: Direction or images do not fit the model.
        ModelError: The model has a custom transform.
    """
    place = pick_device(device)
    network = on_device(classifier, place)
    row = torch.as_tensor(direction, dtype=torch.float32).to(place)
    side = classifier.preprocess.size
    if row.shape != (classifier.feature_dim,) or images.shape[1:] != (3, side, side) or len(images) == 0:
        raise DataError(
            f"a feature attack got a direction of shape {tuple(row.shape)} and images of shape {tuple(images.shape)}: "
            f"expected ({classifier.feature_dim},) and (B, 3, {side}, {side})."
        )
    objective = read_out(network, row[None], torch.zeros(1, device=place), precision)
    parts = torch.split(images, batch_size)
    return torch.cat([maximise(objective, part.to(place), eps, steps).images.cpu() for part in parts])
