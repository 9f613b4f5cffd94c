"""What the other models say of a chunk of candidate images, and the images' perceptual hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from spurious_imagenet.builders.mining._config import MineConfig
from spurious_imagenet.builders.mining.selection_models import architecture_of
from spurious_imagenet.datasets.manifest import SelectionModel
from spurious_imagenet.errors import DataError, ModelError
from spurious_imagenet.images import DecodeLimits, UndecodableImageError, decode_image
from spurious_imagenet.models import Classifier, load_classifier
from spurious_imagenet.models.inference import ImageRunner, softmax
from spurious_imagenet.shards import ShardImages

__all__ = ["Voters", "perceptual_hash", "vote_columns"]


def perceptual_hash(data: bytes, limits: DecodeLimits) -> str:
    """Return the 64-bit DCT hash of an image's bytes as 16 hexadecimal digits."""
    return str(imagehash.phash(Image.fromarray(decode_image(data, limits))))


def vote_columns(voters: int) -> list[str]:
    """Name the columns of :meth:`Voters.vote`."""
    return ["phash", *(f"{c}_{i}" for i in range(voters) for c in ("predicted", "predicted_name", "probability"))]


@dataclass(frozen=True)
class _Voter:
    classifier: Classifier
    runner: ImageRunner


class Voters:
    """The other models, ready to vote.

    Args:
        config: Names them.
        classes: Class ids that will be voted on.
        limits: Image sizes that the pool was scored with.

    Attributes:
        miners: Who they are, in their order.

    Raises:
        ModelError: A model cannot be loaded or lacks one of the classes.
    """

    def __init__(self, config: MineConfig, classes: Sequence[str], limits: DecodeLimits) -> None:
        self._config = config
        self._limits = limits
        self._source = ShardImages(Path(config.features), config.shards, allow_pipe=config.allow_pipe)
        self._voters = [self._load(spec, classes) for spec in config.agree]
        self.miners = tuple(self._described(v.classifier) for v in self._voters)

    def _load(self, spec: str, classes: Sequence[str]) -> _Voter:
        classifier = load_classifier(spec)
        missing = [c for c in classes if c not in classifier.labels]
        if missing:
            raise ModelError(
                f"{spec} cannot vote: it has no output for {len(missing)} of the mined classes, such as {missing[0]!r}."
            )
        config = self._config
        backend = classifier.backend(config.backend, device=config.device, workers=config.workers)
        runner = ImageRunner(backend, classifier.preprocess, limits=self._limits, workers=config.workers)
        return _Voter(classifier, runner)

    @staticmethod
    def _described(classifier: Classifier) -> SelectionModel:
        spec, weights = classifier.spec, classifier.weights_sha256
        return SelectionModel(model=spec, role="voter", weights_sha256=weights, architecture=architecture_of(spec))

    def vote(self, images: pd.DataFrame) -> pd.DataFrame:
        """Run every model over some images.

        Args:
            images: Rows with ``shard``, ``key``, ``offset``, ``size``, ``sha256`` and ``class_id``, ordered by shard.

        Returns:
            One row per image: ``phash``; and for voter i ``predicted_i`` (class id), ``predicted_name_i`` and
            ``probability_i`` (of the row's class).

        Raises:
            DataError: An image is not the one that was scored, or cannot be read any more.
        """
        data = list(self._source.read_rows(images))
        try:
            hashes: list[object] = [perceptual_hash(d, self._limits) for d in data]
        except UndecodableImageError as error:
            raise DataError(f"a candidate image cannot be decoded any more: {error}.") from error
        opinions = [column for voter in self._voters for column in self._ask(voter, data, images)]
        named = zip(vote_columns(len(self._voters)), [hashes, *opinions], strict=True)
        return pd.DataFrame(dict(named), index=images.index)

    def _ask(
        self, voter: _Voter, data: Sequence[bytes], images: pd.DataFrame
    ) -> tuple[list[object], list[object], list[object]]:
        labels = voter.classifier.labels
        wanted = np.array([labels.index(c) for c in images["class_id"]])
        predicted, names, probability = [], [], []
        for output in voter.runner.run(partial(bytes, d) for d in data):
            if output.rejects or not np.isfinite(output.logits).all():
                reason = output.rejects[0][1] if output.rejects else "NaN or infinite logits"
                raise DataError(f"{voter.classifier.spec} cannot vote on a candidate image: {reason}.")
            best = output.logits.argmax(axis=1)
            predicted += [labels.class_ids[b] for b in best]
            names += [labels.class_names[b] for b in best]
            probability += softmax(output.logits)[np.arange(len(best)), wanted[output.index]].tolist()
        return predicted, names, probability
