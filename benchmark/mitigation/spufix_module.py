"""SpuFix as part of a network: corrected logits from the network's own features and logits, in one forward pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from spurious_imagenet.benchmark.mitigation.spufix_file import Spufix
from spurious_imagenet.errors import ModelError
from spurious_imagenet.models.classifier import Classifier, weights_digest
from spurious_imagenet.models.load import load_classifier, load_recorded
from spurious_imagenet.models.network import HookedCore, TimmCore
from spurious_imagenet.models.spec import ModelSpec

__all__ = ["SpufixCore", "SpufixModule", "load_spufix", "spufix", "with_spufix"]


class SpufixCore(nn.Module):
    """A core whose logits are corrected (SFE eq. 8 and 11); its features stay the encoder's.

    It works on undivided logits: a temperature comes after it. Outputs of classes without a direction keep every bit.

    Args:
        core: Normalised images → (N, D) features and (N, K) logits.
        correction: What to take off.
        outputs: K.
    """

    readouts: Tensor
    offsets: Tensor
    membership: Tensor
    column: Tensor

    def __init__(self, core: nn.Module, correction: Spufix, outputs: int) -> None:
        super().__init__()
        self.core = core
        count, classes = len(correction), correction.classes
        self.is_identity = not count
        if self.is_identity:
            return
        # Each direction adds to its class's column; all other outputs read the last one, which is always 0.
        membership = np.zeros((count, len(classes) + 1), np.float32)
        membership[np.arange(count), np.searchsorted(classes, correction.class_index)] = 1
        column = np.full(outputs, len(classes), np.int64)
        column[classes] = np.arange(len(classes))
        self.register_buffer("readouts", torch.from_numpy(correction.readouts.copy()))
        self.register_buffer("offsets", torch.from_numpy(correction.offsets.copy()))
        self.register_buffer("membership", torch.from_numpy(membership))
        self.register_buffer("column", torch.from_numpy(column))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the core's (N, D) features and the corrected (N, K) logits of normalised images."""
        features, logits = self.core(images)
        if self.is_identity:
            return features, logits
        parts = functional.relu(functional.linear(features.to(self.readouts.dtype), self.readouts, self.offsets))
        removed = parts @ self.membership
        return features, logits - removed.index_select(1, self.column).to(logits.dtype)


class SpufixModule(nn.Module):
    """A module from normalised images to corrected logits.

    Args:
        core: A core whose logits are corrected.
    """

    def __init__(self, core: SpufixCore) -> None:
        super().__init__()
        self.core = core

    def forward(self, images: Tensor) -> Tensor:
        """Return the corrected (N, K) logits of (N, 3, H, W) normalised images."""
        logits: Tensor = self.core(images)[1]
        return logits


def spufix(model: nn.Module, correction: Spufix | str | Path) -> SpufixModule:
    """Correct the logits of a bare module.

    The module runs as it is, whatever heads it has; its features are what enters its last linear layer, or for a timm
    model what timm calls its pre-logits.

    Args:
        model: Normalised images → (N, K) logits; it is put into evaluation mode and not copied.
        correction: A correction of this very model, or its file.

    Raises:
        ModelError: The correction was made for other weights.

    Examples:
        >>> import numpy as np
        >>> import pandas as pd
        >>> from spurious_imagenet.benchmark.mitigation.spufix import fit_scorer
        >>> from spurious_imagenet.concepts import BankInfo, ConceptBank
        >>> from spurious_imagenet.images import Preprocess
        >>> from spurious_imagenet.models import LabelSpace
        >>> model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> labels = LabelSpace("custom", ("n1", "n2"), ("koala", "bee"))
        >>> classifier = Classifier.from_module(model, Preprocess(size=8, resize=8), labels)
        >>> row = dict(concept_id="npca/n1/0", kind="npca", class_index=0, class_id="n1", class_name="koala")
        >>> info = BankInfo(
        ...     model=classifier.spec,
        ...     weights_sha256=classifier.weights_sha256,
        ...     feature_dim=3,
        ...     feature_config_sha256="0" * 64,
        ... )
        >>> directions, offsets = np.ones((1, 3), np.float32), np.zeros(1, np.float32)
        >>> bank = ConceptBank(directions, offsets, pd.DataFrame([row | dict(component=0, name="")]), info)
        >>> corrected = spufix(model, fit_scorer(bank, classifier))
        >>> white = torch.ones(1, 3, 8, 8)
        >>> with torch.no_grad():
        ...     (model(white) - corrected(white)).round(decimals=3).tolist()
        [[3.0, 0.0]]
    """
    found = correction if isinstance(correction, Spufix) else Spufix.load(correction)
    size = found.info.image_size
    tensor = next(model.parameters(), torch.empty(0))
    example = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(tensor)
    hooked = HookedCore(model.eval(), example)
    is_timm = all(hasattr(model, name) for name in ("forward_features", "forward_head", "get_classifier"))
    cores = (hooked, TimmCore(model, example)) if is_timm else (hooked,)
    if found.info.weights_sha256 not in {weights_digest(core) for core in cores}:
        raise ModelError(
            f"the correction was made for {found.info.model} (weights {found.info.weights_sha256[:12]}), which this "
            f"{type(model).__name__} is not: expected the same module with the same weights."
        )
    # What enters the last layer can be had from the module's own forward pass; other features need timm's.
    core = hooked if hooked.head_is_linear else cores[-1]
    with torch.no_grad():
        outputs = model(example).shape[1]
    return SpufixModule(SpufixCore(core, found, outputs).to(tensor.device)).eval()


def with_spufix(classifier: Classifier, correction: Spufix, spec: str) -> Classifier:
    """Correct a classifier's logits; features, labels, transform and temperature stay.

    Args:
        classifier: The model that the correction was made for.
        correction: What to take off.
        spec: A name for the result.

    Raises:
        ModelError: The correction was made for other weights or other classes.
    """
    correction.check_model(classifier)
    core = SpufixCore(classifier.network.core, correction, len(classifier.labels))
    temperature = classifier.network.temperature
    made = Classifier.build(spec, core, classifier.labels, classifier.preprocess, temperature)
    return replace(made, encoder_weights_sha256=classifier.encoder_weights_sha256 or classifier.weights_sha256)


def load_spufix(spec: ModelSpec) -> Classifier:
    """Load ``spufix:PATH``: the model that the file names, with corrected logits.

    The option ``model=SPEC`` says where the model lies now, if it has moved (``%26`` for an ampersand in it); its
    weights must be the same.

    Raises:
        ModelError: The file is not a correction, or the model is not the one it was made for.
    """
    spec.check_options("model")
    correction = Spufix.load(Path(spec.address).expanduser())
    size = spec.image_size or correction.info.image_size
    if "model" in spec.options:
        classifier = load_classifier(spec.options["model"], image_size=size)
    else:
        classifier = load_recorded(correction.info.model, image_size=size, what=spec.address)
    return with_spufix(classifier, correction, spec.text)
