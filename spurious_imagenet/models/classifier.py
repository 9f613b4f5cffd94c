"""Classifier: a model as penultimate features and a head, with its labels, its transform and its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import CustomTransform, Preprocess
from spurious_imagenet.models._backends import Backend, make_backend
from spurious_imagenet.models.devices import Precision, pick_device
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.labels import LabelSpace
from spurious_imagenet.models.network import FeatureNetwork, HookedCore, linear_head_of

__all__ = ["Classifier", "weights_digest"]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model that gives penultimate features φ and logits of images.

    Attributes:
        spec: Reproducible name of the model, such as ``timm:resnet50.a1_in1k``.
        weights_sha256: Hash of all parameters and buffers.
        labels: What the outputs are called.
        preprocess: The model's own evaluation transform; a :class:`CustomTransform` where a user gave a callable.
        network: (N, H, W, 3) uint8 pixels → features, logits.
        head: The last layer, or None where the logits are not one linear read-out of the features; the network's own
            logits are the authority in either case.
        encoder_weights_sha256: Hash of the model whose features these are, where this one is only a head on them:
            features that the encoder made, with the same preprocessing, are this model's too. None otherwise.

    Examples:
        >>> labels = LabelSpace("custom", ("n1", "n2"), ("koala", "bee"))
        >>> module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> classifier = Classifier.from_module(module, Preprocess(size=8, resize=8), labels)
        >>> features, logits = classifier.predict(np.zeros((5, 8, 8, 3), np.uint8))
        >>> features.shape, logits.shape
        ((5, 3), (5, 2))
        >>> np.allclose(classifier.linear_head().logits(features), logits, atol=1e-5)
        True
    """

    spec: str
    weights_sha256: str
    labels: LabelSpace
    preprocess: Preprocess | CustomTransform
    network: FeatureNetwork
    head: LinearHead | None
    encoder_weights_sha256: str | None = None

    @classmethod
    def build(
        cls,
        spec: str,
        core: nn.Module,
        labels: LabelSpace,
        preprocess: Preprocess | CustomTransform,
        temperature: float = 1.0,
    ) -> Classifier:
        """Put a classifier together and check it on a blank image.

        Args:
            spec: Name of the model.
            core: Normalised images → (features, logits); see :mod:`~spurious_imagenet.models.network`.
            labels: Label space; as many classes as the model has outputs.
            preprocess: Evaluation transform, with mean and std.
            temperature: Logits are divided by it.

        Raises:
            ModelError: NaN or infinite weights, or another number of outputs than labels.
        """
        core.eval().requires_grad_(False)
        digest = weights_digest(core)
        network = FeatureNetwork(core, preprocess, temperature).eval()
        with torch.no_grad():
            _, logits = network(_blank(preprocess.size))
        if logits.shape[1] != len(labels):
            raise ModelError(
                f"{spec} has {logits.shape[1]} outputs, but its label space {labels.name!r} has {len(labels)} classes."
            )
        head = getattr(core, "linear_head", None) or linear_head_of(core, temperature)
        return cls(spec, digest, labels, preprocess, network, head)

    @classmethod
    def from_module(
        cls,
        model: nn.Module,
        preprocess: Preprocess | Callable[[Any], torch.Tensor],
        labels: LabelSpace,
        *,
        spec: str = "",
        temperature: float = 1.0,
    ) -> Classifier:
        """Wrap any module that maps normalised images to logits.

        Args:
            model: The module; it is put into evaluation mode.
            preprocess: Its transform: a :class:`Preprocess`, or any callable from an RGB ``PIL.Image`` to a normalised
                (3, size, size) tensor, as torchvision and timm make them.
            labels: Its label space.
            spec: A name for records; the module's class where left out.
            temperature: Logits are divided by it.

        Raises:
            ModelError: The module's output or the transform does not fit.
        """
        known = isinstance(preprocess, Preprocess | CustomTransform)
        own: Preprocess | CustomTransform = preprocess if known else CustomTransform(preprocess)  # type: ignore[assignment,arg-type]
        model = model.eval()
        example = _example(own.size, next((p.device for p in model.parameters()), torch.device("cpu")))
        name = spec or f"python:{type(model).__module__}:{type(model).__qualname__}"
        return cls.build(name, HookedCore(model, example).cpu(), labels, own, temperature)

    @property
    def feature_dim(self) -> int:
        """D, the number of penultimate features; 0 where the model shows none."""
        if self.head is not None:
            return self.head.feature_dim
        with torch.no_grad():
            return int(self.network(_blank(self.preprocess.size))[0].shape[1])

    def linear_head(self) -> LinearHead:
        """Return the head.

        Raises:
            ModelError: The logits are not one linear read-out of the features.
        """
        if self.head is None:
            raise ModelError(
                f"{self.spec} has no single linear last layer that gives its logits: components (SFE eq. 1-6) need "
                "one, so choose another scoring model (it can still vote and be evaluated)."
            )
        return self.head

    def with_preprocess(self, preprocess: Preprocess) -> Classifier:
        """Return the same model with another size, crop or interpolation; mean and std stay those of the network."""
        return replace(self, preprocess=preprocess)

    def backend(
        self,
        name: str = "auto",
        *,
        device: str = "auto",
        precision: Precision = "float32",
        batch_size: int | None = None,
        workers: int | None = None,
    ) -> Backend:
        """Prepare the network for running; see :func:`~spurious_imagenet.models._backends.make_backend`."""
        if isinstance(self.preprocess, CustomTransform) and name == "auto":
            name = "channels-last"  # the converted backends are made for uint8 pixels
        return make_backend(
            name,
            self.network,
            self.preprocess.size,
            device=pick_device(device),
            precision=precision,
            batch_size=batch_size,
            workers=workers,
        )

    def predict(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (N, D) float32 features and (N, K) float32 logits of (N, H, W, 3) uint8 pixels, by plain torch."""
        with torch.inference_mode():
            batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.network.mean.device)
            features, logits = self.network(batch)
        return features.float().cpu().numpy(), logits.float().cpu().numpy()


def weights_digest(module: nn.Module) -> str:
    """Hash all parameters and buffers of a module, by name.

    Raises:
        ModelError: A tensor holds NaN or infinite values.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        flat = value.reshape(-1)  # strides of channels-last kernels, of no dimension and of no element cannot be viewed
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"the model's weights {name!r} hold NaN or infinite values: expected finite numbers.")
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(flat.view(torch.uint8).numpy() if flat.numel() else b"")
    return digest.hexdigest()


def _blank(size: int) -> torch.Tensor:
    return torch.zeros(1, size, size, 3, dtype=torch.uint8)


def _example(size: int, device: torch.device) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
