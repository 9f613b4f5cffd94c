"""A sweep: many models on one dataset, under one or both protocols, with their mitigations; one record each."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spurious_imagenet.benchmark.evaluation._forward_cache import EvalOptions
from spurious_imagenet.benchmark.evaluation._sweep_config import SweepConfig, SweepModel, read_models
from spurious_imagenet.benchmark.evaluation._sweep_sources import common_sources, hash_if_there, model_sources
from spurious_imagenet.benchmark.evaluation.evaluate import measure
from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.mitigation.load import load_mitigation
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.datasets.spurious import SpuriousDataset
from spurious_imagenet.errors import ConfigError, DataError, SpuriousImagenetError
from spurious_imagenet.images import Protocol
from spurious_imagenet.io import remove_leftovers
from spurious_imagenet.models import Classifier, load_classifier

__all__ = ["SweepConfig", "SweepModel", "SweepResult", "read_models", "run_sweep"]

# Failures of the disk, which no other model would survive.
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

#: What the configuration says of how to measure.
_MEASURING = ("resamples", "seed", "device", "backend", "workers", "max_label_problems")


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left.

    Attributes:
        records: The finished records, model by model as listed, under one protocol after the other.
        made: How many of them were made now; the others were there.
        failures: Name and reason of each model, or model and protocol, or model and mitigation, without a record.
    """

    records: tuple[EvalRecord, ...]
    made: int
    failures: tuple[tuple[str, str], ...]


def run_sweep(
    config: SweepConfig,
    *,
    tell: Callable[[str], None] | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> SweepResult:
    """Measure every model that has no finished record yet; a failing one does not stop the others.

    Nor does a mitigation that does not fit its model: that record alone is missing.

    Args:
        config: What to measure.
        tell: Called with a sentence when a record is made again or a model fails.
        progress: Called with a model's name and the number of images that were done since the last call.

    Raises:
        ConfigError: A mitigation file is not there.
        DataError: The dataset, the validation images or the rankings are not there.
    """
    say = tell or (lambda _: None)
    _check_mitigations(config.models)
    config.out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(config.out)
    data, common = SpuriousDataset(config.dataset), common_sources(config)
    rankings = Rankings.load(config.rankings) if config.rankings else None
    done: dict[Path, EvalRecord] = {}
    failures: list[tuple[str, str]] = []
    made = 0
    for model in config.models:
        count = (lambda n, name=model.name: progress(name, n)) if progress else None
        how = EvalOptions(
            config.outputs or config.out / "outputs",
            rankings,
            config.rankings or "",
            **{name: getattr(config, name) for name in _MEASURING},
            progress=count,
        )
        try:
            found, missing = _finished(config, model, common, say)
            done |= found
            for path, record in _make(config, model, data, how, missing, failures):
                done[path] = record.save(path)
                made += 1
        except Exception as error:  # a model fails in its own library's ways
            if isinstance(error, OSError) and error.errno in _FATAL:
                raise
            failures.append((model.name, " ".join(str(error).split()) or type(error).__name__))
    for name, reason in failures:
        say(f"{name} failed: {reason}")
    paths = [path for protocol in config.protocols for m in config.models for path in _paths(config, m, protocol)]
    return SweepResult(tuple(done[path] for path in paths if path in done), made, tuple(failures))


#: For each protocol, the configuration of each record that is to be made.
_Missing = dict[Protocol, dict[Path, dict[str, Any]]]


def _paths(config: SweepConfig, model: SweepModel, protocol: Protocol) -> dict[Path, str | None]:
    stem = f"{model.name}-{protocol.value}"
    return {config.out / f"{stem}{variant}.json": file for variant, file in model.variants.items()}


def _finished(
    config: SweepConfig, model: SweepModel, common: dict[str, Any], say: Callable[[str], None]
) -> tuple[dict[Path, EvalRecord], _Missing]:
    """Return the records that are there, and what the others are to be made from."""
    done: dict[Path, EvalRecord] = {}
    missing: _Missing = {}
    own = common | {"model": model.model, "name": model.name, "image_size": model.image_size} | model_sources(model)
    for protocol in config.protocols:
        for path, file in _paths(config, model, protocol).items():
            wanted = own | {"protocol": protocol.value, "mitigation": hash_if_there(file)}
            record = _as_wanted(path, wanted, say)
            if record is None:
                missing.setdefault(protocol, {})[path] = wanted
            else:
                done[path] = record
    return done, missing


def _as_wanted(path: Path, wanted: dict[str, Any], say: Callable[[str], None]) -> EvalRecord | None:
    if not path.exists():
        return None
    try:
        record = EvalRecord.load(path)
    except DataError as error:
        raise DataError(f"{error}; move the file away, or write to another folder.") from None
    changed = sorted(key for key in wanted.keys() | record.config.keys() if wanted.get(key) != record.config.get(key))
    if changed:
        say(f"{path.name} was made with other {', '.join(changed)}: it is made again.")
        return None
    try:
        record.read_predictions()
    except DataError:
        say(f"{path.name} lacks its predictions: it is made again.")
        return None
    return record


def _make(
    config: SweepConfig,
    model: SweepModel,
    data: SpuriousDataset,
    how: EvalOptions,
    missing: _Missing,
    failures: list[tuple[str, str]],
) -> Iterator[tuple[Path, EvalRecord]]:
    if not missing:
        return
    classifier = load_classifier(model.model, image_size=model.image_size)
    unfit = _unfit(model, classifier, failures)
    paths: dict[Protocol, dict[Path, str | None]] = {}
    for protocol, wanted in missing.items():
        try:
            classifier.preprocess.for_protocol(protocol, "validation")
        except ConfigError as error:  # another protocol may suit the model
            failures.append((f"{model.name}-{protocol.value}", str(error)))
            continue
        fit = {path: file for path, file in _paths(config, model, protocol).items() if file not in unfit}
        if fit.keys() & wanted.keys():
            paths[protocol] = fit
    files = {protocol: [f for f in of.values() if f] for protocol, of in paths.items()}
    records = measure(classifier, data, config.val, how, files, name=model.name) if paths else {}
    for protocol, made in records.items():
        for path, record in zip(paths[protocol], made, strict=True):
            if path in missing[protocol]:
                predictions = record.read_predictions()
                about = record.model_copy(update={"config": missing[protocol][path]})
                yield path, about.carrying(predictions)


def _unfit(model: SweepModel, classifier: Classifier, failures: list[tuple[str, str]]) -> set[str]:
    """Find the mitigations that are not this model's, each a failure of its own: the rest is measured without them."""
    unfit = set()
    for variant, file in model.variants.items():
        try:
            if file is not None:
                load_mitigation(file, classifier)
        except SpuriousImagenetError as error:
            failures.append((f"{model.name}{variant}", str(error)))
            unfit.add(str(file))
    return unfit


def _check_mitigations(models: tuple[SweepModel, ...]) -> None:
    for model in models:
        for file in model.mitigations:
            if not Path(file).expanduser().is_file():
                raise ConfigError(
                    f"model {model.name!r} has the mitigation {file}, which is not there: expected a file of "
                    "`spurious spufix` or `spurious tune`."
                )
