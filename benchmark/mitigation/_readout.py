"""The weight w_k that ψ_k of SFE eq. 1 needs, of models whose logits are more than one linear layer too."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spurious_imagenet.errors import ModelError
from spurious_imagenet.models.classifier import Classifier
from spurious_imagenet.models.network import TimmCore

# A linear head repeats itself to float32 rounding; one with a nonlinearity misses by orders of magnitude.
_TOLERANCE = 1e-3


class Readout(NamedTuple):
    """A linear part of a model's logits.

    Attributes:
        weight: (K, D) float32.
        name: Which part of the model it is, in words.
    """

    weight: NDArray[np.float32]
    name: str


def readout_of(classifier: Classifier) -> Readout:
    """Return the weight with which a model's features enter its undivided logits.

    That of its last layer where that is all of its head; of its main head where it adds others (VOLO); the mean of its
    heads where it averages them (distilled models).

    Raises:
        ModelError: The model has no such part.
    """
    if classifier.head is not None:
        return Readout(classifier.head.weight, "last layer")
    core: Any = classifier.network.core
    heads: Any = core.model.get_classifier() if isinstance(core, TimmCore) else ()
    heads = heads if isinstance(heads, tuple) else (heads,)
    dim, outputs = classifier.feature_dim, len(classifier.labels)
    weights = [_weight(head, dim, outputs) for head in heads if isinstance(head, nn.Module)]
    found = [weight for weight in weights if weight is not None]
    if not found or len(found) < len(heads):
        raise ModelError(
            f"{classifier.spec} has no linear layer from its features to its logits: the directions of SpuFix are "
            "sought in features weighted by one (SFE eq. 1), so it can be measured but not corrected."
        )
    name = "main head" if len(found) == 1 else f"mean of its {len(found)} heads"
    return Readout(np.mean(found, axis=0, dtype=np.float32), name)


def _weight(head: nn.Module, dim: int, outputs: int) -> NDArray[np.float32] | None:
    """Return the (K, D) weight of a head that is affine in features, a normalised one say; None of any other."""
    if isinstance(head, nn.Conv2d) and head.weight.shape == (outputs, dim, 1, 1):  # on pooled features
        return head.weight.detach()[:, :, 0, 0].float().cpu().numpy()
    like = next(head.parameters(), torch.empty(0))
    probes = torch.randn(4, dim, generator=torch.Generator().manual_seed(0)).to(like)
    with torch.no_grad():
        try:
            offset = head(torch.zeros_like(probes[:1]))
            weight = head(torch.eye(dim).to(like)) - offset
            error = (head(probes) - offset - probes @ weight).abs().max()
        except RuntimeError:  # it reads something else than the features
            return None
    if weight.shape != (dim, outputs) or not float(error) <= _TOLERANCE * float(weight.abs().max()) * dim**0.5:
        return None
    return np.ascontiguousarray(weight.T.float().cpu().numpy())
