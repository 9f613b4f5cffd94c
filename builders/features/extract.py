"""The features stage: every shard's images through the model once, each shard's part written whole."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from spurious_imagenet.builders.features._config import FeaturesConfig
from spurious_imagenet.builders.features._result import ExtractionProgress, FeaturesResult
from spurious_imagenet.builders.features._reuse import open_reusable, reuse_part
from spurious_imagenet.builders.features._shard import score_shard
from spurious_imagenet.engine import Engine, LocalEngine
from spurious_imagenet.errors import ConfigError, DataError, StoreError
from spurious_imagenet.features.label_problems import LabelCount, labels_of_store
from spurious_imagenet.features.label_reading import LabelReader, ReadLabel
from spurious_imagenet.features.shard_parts import ShardParts, changed
from spurious_imagenet.features.store import FeaturePart, FeatureStore, StoreConfig
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import Classifier, load_classifier
from spurious_imagenet.models.inference import ImageRunner
from spurious_imagenet.shards import LocalShard, expand_shards, index_shard, open_shard

__all__ = ["extract_features", "store_config"]

_log = logging.getLogger(__name__)

_VERSIONED = ("torch", "timm", "openvino", "onnxruntime", "simplejpeg", "pillow", "numpy")


def store_config(classifier: Classifier, config: FeaturesConfig) -> StoreConfig:
    """Describe what makes the features, for the store to compare on resume."""
    if not isinstance(classifier.preprocess, Preprocess):
        raise ConfigError(
            f"{classifier.spec} has a custom transform, which a feature store cannot describe: use a Preprocess."
        )
    preprocess = classifier.preprocess.model_dump(mode="json")
    return StoreConfig(
        model=classifier.spec,
        weights_sha256=classifier.weights_sha256,
        label_space=classifier.labels.name,
        class_ids=classifier.labels.class_ids,
        feature_dim=classifier.feature_dim,
        preprocess=preprocess | {"precision": config.precision, "limits": config.limits.model_dump(mode="json")},
    )


def extract_features(
    config: FeaturesConfig,
    out: str | Path,
    *,
    engine: Engine | None = None,
    progress: Callable[[ExtractionProgress], None] | None = None,
) -> FeaturesResult:
    """Run a model over shards and keep its penultimate features.

    A killed run resumes: finished shards are skipped, and the rest is made as if nothing had happened.

    Args:
        config: What to run.
        out: Directory of the FeatureStore, new or of the same configuration.
        engine: How shards are spread; one after the other on this machine where left out.
        progress: Called after every batch.

    Returns:
        What was made; shards that could not be read are in ``failures``, with the others finished.

    Raises:
        ConfigError: The model shows no penultimate features, or no label of the shards can be used.
        StoreError: The store is of another configuration, a shard changed since it was scored, or the disk is full.
        DataError: More samples than ``max_reject_fraction`` were rejected, or more labels than
            ``max_label_problems`` cannot be used.
    """
    shards = _shards(config)
    job = _Job(config, Path(out), len(shards), progress)
    for shard, failure in (engine or LocalEngine()).map(job, shards):
        if failure is not None:
            job.result.failures.append((shard, failure))
        job.report(shard_done=True)
    _check_rejects(job.result.store, config.max_reject_fraction)
    labels_of_store([job.result.store]).check(config.max_label_problems, foreign=False)
    return job.finished(shards)


def _shards(config: FeaturesConfig) -> list[str]:
    if config.shards:
        return list(expand_shards(config.shards, allow_pipe=config.allow_pipe))
    reused = [part.shard for path in config.reuse for part in FeatureStore.open(path).parts]
    if not reused:
        raise ConfigError("there are no shards to run over: expected some, or feature stores to reuse.")
    return list(dict.fromkeys(reused))


class _Job:
    """The work on one shard, with the model loaded once."""

    def __init__(
        self, config: FeaturesConfig, out: Path, shards: int, progress: Callable[[ExtractionProgress], None] | None
    ) -> None:
        classifier = load_classifier(config.model, image_size=config.image_size)
        if classifier.feature_dim == 0:
            raise ConfigError(f"{config.model} shows no penultimate features (no last linear layer was found).")
        self.config = config
        self.classifier = classifier
        self.labels = LabelReader(classifier.labels)
        self._fitting_labels = config.max_label_problems == 1
        made = store_config(classifier, config)
        self.reusable = [ShardParts(open_reusable(path, classifier, made).parts) for path in config.reuse]
        self.result = FeaturesResult(FeatureStore.create(out, made))
        self.parts = ShardParts(self.result.store.parts)
        self._taken: dict[str, str] = {}  # part -> shard
        self._progress = progress
        self._shards, self._done, self._images, self._rejects = shards, 0, 0, 0
        self._start = time.monotonic()

    @cached_property
    def runner(self) -> ImageRunner:
        """The model, prepared for running when the first image needs it."""
        config = self.config
        backend = self.classifier.backend(
            config.backend,
            device=config.device,
            precision=config.precision,
            batch_size=config.batch_size,
            workers=config.workers,
        )
        return ImageRunner(backend, self.classifier.preprocess, limits=config.limits, workers=config.workers)

    def __call__(self, url: str) -> tuple[str, str | None]:
        try:
            part = self.parts.find(url)
            reusable = next((found for parts in self.reusable if (found := parts.find(url)) is not None), None)
            if part is None and reusable is not None:
                part = self.parts.with_bytes_of(reusable)  # the shard may be gone, and known by two addresses
            if part is not None:
                self._check_found(part, url)
                self.result.found += 1
            elif reusable is not None:
                part = reuse_part(reusable, self.result.store, self.classifier)
                self._count(reusable.receipt.scored, len(reusable.receipt.rejects))
                self.result.made += 1
            else:
                with open_shard(url, allow_pipe=self.config.allow_pipe) as shard:
                    part = self._make(shard)
                self.result.made += 1
        except DataError as error:
            return url, str(error)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise StoreError(
                f"the disk of {self.result.store.path} is full: the part of {url} was not written; free space, rerun."
            ) from error
        self._take(part, url)
        return url, None

    def _take(self, part: FeaturePart, url: str) -> None:
        self.parts.add(part)
        if (first := self._taken.setdefault(part.path.name, url)) != url:
            self.result.copies.append((url, first))

    def finished(self, shards: Sequence[str]) -> FeaturesResult:
        """Return what the run did, with the parts that are not its own."""
        result, given = self.result, {self.parts.place(shard) for shard in shards}
        result.others = [
            part
            for part in result.store.parts
            if part.path.name not in self._taken and self.parts.place(part.shard) not in given
        ]
        read = (self.parts, *self.reusable)
        result.hashed = sum(len(parts.hashed) for parts in read)
        result.hashed_bytes = sum(parts.hashed_bytes for parts in read)
        return result

    def _make(self, shard: LocalShard) -> FeaturePart:
        is_local = shard.streamed_sha256 is None
        changed_at = shard.path.stat().st_mtime_ns if is_local else None
        index = index_shard(shard, salvage=self.config.salvage)
        dim = self.result.store.config.feature_dim
        with shard.path.open("rb") as file:
            labels = self.labels.read_shard(file, index.samples)
        self._check_labels(shard.url, labels)
        scored = score_shard(shard, index, self.runner, labels, dim, self._count)
        return self.result.store.write_part(
            shard=shard.url,
            shard_sha256=shard.sha256(),
            shard_bytes=shard.size,
            features=scored.features,
            rows=scored.rows,
            rejects=scored.rejects,
            turned=scored.turned,
            versions=_versions() | {"backend": self.runner.backend.name},
            label_problems=scored.label_problems,
            shard_mtime_ns=changed_at,
        )

    def _check_labels(self, url: str, labels: list[ReadLabel]) -> None:
        """Say before a pass that no label fits the model, for as long as none has."""
        if self._fitting_labels or any(label.label >= 0 and label.problem is None for label in labels):
            self._fitting_labels = True
            return
        count = LabelCount.of(url, labels)
        if count.problems:
            raise ConfigError(
                f"{count.sentence()} Nothing was run: expected class ids of the model. Mend the labels, load the model "
                "with labels=FILE (your own ids in the order of its outputs), or, for `spurious head`, which takes any "
                "ids, give --max-label-problems 1."
            )
        if count.foreign and len(self.labels.labels):
            self._fitting_labels = True  # said once
            _log.warning(
                "%s No image has a class of the model: its features serve `spurious mine` and `spurious head`, but "
                "neither components nor rankings.",
                count.sentence(),
            )

    def _check_found(self, part: FeaturePart, url: str) -> None:
        if part.receipt.config_sha256 != self.result.store.config.sha256:
            raise StoreError(f"{part.path} was made with another configuration than its store: delete it, rerun.")
        if self.config.verify:
            part.check()
            with open_shard(url, allow_pipe=self.config.allow_pipe) as shard:
                if shard.sha256() != part.receipt.shard_sha256:
                    raise changed(part, url)

    def _count(self, images: int, rejects: int) -> None:
        self._images += images
        self._rejects += rejects
        self.report()

    def report(self, *, shard_done: bool = False) -> None:
        self._done += shard_done
        if self._progress is not None:
            seconds = time.monotonic() - self._start
            self._progress(ExtractionProgress(self._done, self._shards, self._images, self._rejects, seconds))


def _check_rejects(store: FeatureStore, allowed: float) -> None:
    receipts = [part.receipt for part in store.parts]
    samples = sum(r.samples for r in receipts)
    rejected = sum(len(r.rejects) for r in receipts)
    if samples and rejected / samples > allowed:
        raise DataError(
            f"{rejected} of {samples} samples were rejected, more than the allowed share of {allowed:g}: the receipts "
            f"in {store.path}/parts say why."
        )


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
