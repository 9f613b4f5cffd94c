"""The last linear layer of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.errors import ModelError

__all__ = ["LinearHead"]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Logits as a linear read-out of penultimate features: ``(φ · weight[k] + bias[k]) / temperature``.

    Attributes:
        weight: (K, D) float32, w_k of SFE eq. 1 in row k.
        bias: (K,) float32.
        temperature: The model divides its logits by it; components and α are those of the undivided logits.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ModelError(
                f"a linear head needs a (K, D) weight and a (K,) bias, got {self.weight.shape} and {self.bias.shape}."
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ModelError("the model's last layer has NaN or infinite weights: expected finite numbers.")

    @property
    def feature_dim(self) -> int:
        """D, the number of penultimate features."""
        return int(self.weight.shape[1])

    def logits(self, features: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return the model's (N, K) logits of (N, D) features, in the features' precision but at least float32."""
        dtype = np.result_type(features.dtype, np.float32)
        undivided = features.astype(dtype, copy=False) @ self.weight.T.astype(dtype) + self.bias
        return np.asarray(undivided / self.temperature, dtype=dtype)
