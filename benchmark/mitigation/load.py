"""From a file to what it does to a model's logits, whatever kind of mitigation it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.benchmark.mitigation.record import Mitigation
from spurious_imagenet.benchmark.mitigation.spufix_file import SPUFIX_METADATA_KEY, Spufix
from spurious_imagenet.errors import ModelError
from spurious_imagenet.io import sha256_file
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.tensors import read_metadata

if TYPE_CHECKING:
    from spurious_imagenet.models.classifier import Classifier

__all__ = ["HeadMitigation", "LogitMitigation", "SpufixMitigation", "load_mitigation"]

Floats = NDArray[np.float32]


class LogitMitigation(Protocol):
    """Something that gives a model other logits, from its features and its own logits alone."""

    @property
    def record(self) -> Mitigation:
        """What was done, for the evaluation record."""

    def corrected(self, features: Floats, logits: Floats) -> Floats:
        """Return the corrected logits; nothing is changed in place.

        Args:
            features: (N, D) float32 penultimate features of the model that the mitigation belongs to.
            logits: (N, K) float32 logits of that model, divided by its temperature where it has one.

        Returns:
            (N, K) float32.
        """


@dataclass(frozen=True, eq=False)
class SpufixMitigation:
    """SpuFix (SFE eq. 8 and 11) on logits that a model gave already."""

    spufix: Spufix
    temperature: float
    record: Mitigation

    def corrected(self, features: Floats, logits: Floats) -> Floats:
        """See :meth:`LogitMitigation.corrected`; classes without directions keep every bit."""
        removed = self.spufix.removed(features)
        changed = logits.copy()
        changed[:, self.spufix.classes] -= removed if self.temperature == 1.0 else removed / self.temperature
        return changed


@dataclass(frozen=True, eq=False)
class HeadMitigation:
    """Another head, such as a tuned one, on the features of the same encoder."""

    head: LinearHead
    record: Mitigation

    def corrected(self, features: Floats, logits: Floats) -> Floats:
        """See :meth:`LogitMitigation.corrected`; the given logits are not used."""
        return np.asarray(self.head.logits(features), dtype=np.float32)


def load_mitigation(path: str | Path, classifier: Classifier) -> LogitMitigation:
    """Load a mitigation for a model.

    Args:
        path: A file of ``spurious spufix``, or a head on the model's own features of ``spurious tune``.
        classifier: The model whose logits it corrects.

    Raises:
        ModelError: The file is neither, or was made for other weights or other classes.
    """
    file = Path(path).expanduser()
    if _metadata_of(file).get(SPUFIX_METADATA_KEY) is not None:
        spufix = Spufix.load(file)
        spufix.check_model(classifier)
        record = Mitigation(kind="spufix", file=str(path), sha256=sha256_file(file))
        return SpufixMitigation(spufix, classifier.network.temperature, record)
    from spurious_imagenet.models.head_file import read_head

    head, info = read_head(file)
    encoder = classifier.encoder_weights_sha256 or classifier.weights_sha256
    if info.encoder_weights_sha256 != encoder:
        raise ModelError(
            f"{path} was fitted to features of {info.encoder} (weights {info.encoder_weights_sha256[:12]}), but those "
            f"of {classifier.spec} come from weights {encoder[:12]}."
        )
    if info.class_ids != classifier.labels.class_ids:
        raise ModelError(
            f"{path} has the {len(info.class_ids)} classes of {info.label_space!r}, but {classifier.spec} the "
            f"{len(classifier.labels)} of {classifier.labels.name!r}: expected the same classes in the same order."
        )
    return HeadMitigation(head, Mitigation(kind="head", file=str(path), sha256=sha256_file(file)))


def _metadata_of(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ModelError(f"there is no mitigation file {path}.")
    try:
        return read_metadata(path)
    except Exception as error:
        raise ModelError(f"{path} is not a readable mitigation file: {error}") from error
