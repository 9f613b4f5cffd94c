"""A sweep: many models on one dataset, under one or both protocols, with their mitigations; one record each."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from spurious_imagenet.benchmark.evaluation import measure, short_name
from spurious_imagenet.benchmark.images import Protocol
from spurious_imagenet.benchmark.models import load_classifier
from spurious_imagenet.benchmark.models.spec import ModelSpec
from spurious_imagenet.benchmark.passes import Measuring
from spurious_imagenet.benchmark.rankings import Rankings
from spurious_imagenet.benchmark.record import EvalRecord
from spurious_imagenet.benchmark.shards import expand_shards
from spurious_imagenet.benchmark.spurious_dataset import SpuriousDataset
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.io import canonical_json, remove_leftovers, sha256_file

__all__ = ["SweepConfig", "SweepModel", "SweepResult", "read_models", "run_sweep"]

# Failures of the disk, which no other model would survive.
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class SweepModel(BaseModel):
    """One model of a sweep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """Model spec."""
    name: str = Field(default="", pattern=r"^[\w][\w .+-]*$|^$")
    """What tables and files call it; made of the spec where left out."""
    image_size: PositiveInt | None = None
    """Input side that overrides the model's own, px."""
    mitigations: tuple[str, ...] = ()
    """Files of ``spurious spufix`` or ``spurious tune``; each adds a record."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        values = {"model": values} if isinstance(values, str) else values
        if isinstance(values, Mapping) and isinstance(values.get("model"), str) and not values.get("name"):
            return {**values, "name": short_name(values["model"])}
        return values

    @property
    def variants(self) -> dict[str, str | None]:
        """File name of each of its records without protocol and suffix -> mitigation, None for the model's own."""
        return {"": None} | {f"-{Path(file).stem}": file for file in self.mitigations}


class SweepConfig(BaseModel):
    """What to measure, and where the records go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[SweepModel, ...] = Field(min_length=1)
    dataset: str
    val: str
    out: Path
    protocols: tuple[Protocol, ...] = Field(default=(Protocol.PAPER, Protocol.STANDARD), min_length=1)
    outputs: Path | None = None
    """Where features and logits are kept; ``out``/outputs where left out."""
    rankings: str | None = None
    """Folder of ``spurious rank``: adds spurious gaps."""
    resamples: PositiveInt = 1000
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    backend: str = "auto"
    workers: PositiveInt | None = None

    @field_validator("models")
    @classmethod
    def _records_have_files_of_their_own(cls, models: tuple[SweepModel, ...]) -> tuple[SweepModel, ...]:
        for model in models:
            if len(model.variants) != 1 + len(model.mitigations):
                raise ValueError(f"model {model.name!r} has two mitigation files of one name: rename one")
        names = [f"{model.name}{variant}" for model in models for variant in model.variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two models are called {twice!r}: give each a name of its own by `name:`")
        return models


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left.

    Attributes:
        records: The finished records, model by model as listed, under one protocol after the other.
        made: How many of them were made now; the others were there.
        failures: Name and reason of each model, or model and protocol, without a record.
    """

    records: tuple[EvalRecord, ...]
    made: int
    failures: tuple[tuple[str, str], ...]


def read_models(path: str | Path) -> tuple[SweepModel, ...]:
    """Read a YAML list of models: model specs, or mappings with the fields of :class:`SweepModel`.

    Raises:
        ConfigError: It is no such list; the sentence names the entry and the key.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:200]}.") from error
    if not isinstance(content, list) or not content:
        raise ConfigError(f"{path} holds {type(content).__name__}: expected a list of models, each with `model: SPEC`.")
    return tuple(_model(entry, f"{path}, model {number}") for number, entry in enumerate(content, 1))


def _model(entry: Any, where: str) -> SweepModel:
    try:
        return SweepModel.model_validate(entry)
    except ValidationError as error:
        # A mistyped key says more than the absence of the right one.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(SweepModel.model_fields)
            raise ConfigError(f"{where} has the unknown key {key!r}: expected {known}.") from None
        at = f" key {key!r}:" if key else ""
        raise ConfigError(f"{where}:{at} {first['msg']} (got {first['input']!r}).") from None


def run_sweep(
    config: SweepConfig,
    *,
    tell: Callable[[str], None] | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> SweepResult:
    """Measure every model that has no finished record yet; a failing one does not stop the others.

    Args:
        config: What to measure.
        tell: Called with a sentence when a record is made again or a model fails.
        progress: Called with a model's name and the number of images that were done since the last call.

    Raises:
        DataError: The dataset, the validation images or the rankings are not there.
    """
    say = tell or (lambda _: None)
    config.out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(config.out)
    data, common = SpuriousDataset(config.dataset), _common(config)
    rankings = Rankings.load(config.rankings) if config.rankings else None
    done: dict[Path, EvalRecord] = {}
    failures: list[tuple[str, str]] = []
    made = 0
    for model in config.models:
        count = (lambda n, name=model.name: progress(name, n)) if progress else None
        how = Measuring(
            config.outputs or config.out / "outputs",
            rankings,
            config.rankings or "",
            **{name: getattr(config, name) for name in ("resamples", "seed", "device", "backend", "workers")},
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
    own = common | {"model": model.model, "name": model.name, "image_size": model.image_size} | _weights(model)
    for protocol in config.protocols:
        for path, file in _paths(config, model, protocol).items():
            wanted = own | {"protocol": protocol.value, "mitigation": _hash_if_there(file)}
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
    how: Measuring,
    missing: _Missing,
    failures: list[tuple[str, str]],
) -> Iterator[tuple[Path, EvalRecord]]:
    if not missing:
        return
    classifier = load_classifier(model.model, image_size=model.image_size)
    usable: _Missing = {}
    for protocol, wanted in missing.items():
        try:
            classifier.preprocess.for_protocol(protocol, "validation")
            usable[protocol] = wanted
        except ConfigError as error:  # another protocol may suit the model
            failures.append((f"{model.name}-{protocol.value}", str(error)))
    files = {protocol: [f for f in _paths(config, model, protocol).values() if f] for protocol in usable}
    records = measure(classifier, data, config.val, how, files, name=model.name) if usable else {}
    for protocol, made in records.items():
        for path, record in zip(_paths(config, model, protocol), made, strict=True):
            if path in usable[protocol]:
                predictions = record.read_predictions()
                about = record.model_copy(update={"config": usable[protocol][path]})
                yield path, about.carrying(predictions)


def _common(config: SweepConfig) -> dict[str, Any]:
    """Say what all records of a sweep are made from; data by the names and sizes of its files."""
    return {
        "code_version": version("spurious-imagenet"),
        "dataset": config.dataset,
        "dataset_files": _listing(config.dataset, remote=True),
        "validation": config.val,
        "validation_files": _listing(config.val),
        "rankings": config.rankings,
        "rankings_files": _contents(config.rankings),
        "resamples": config.resamples,
        "seed": config.seed,
        "device": config.device,
        "backend": config.backend,
    }


def _weights(model: SweepModel) -> dict[str, str | None]:
    """Hash the local files that a spec names: its weights, and those of its options, such as labels or an encoder."""
    spec = ModelSpec.parse(model.model)
    named = {f"{name}_file": _file_of(value) for name, value in spec.options.items()}
    return {"weights_file": _hash_if_there(spec.address)} | {k: h for k, h in named.items() if h is not None}


def _file_of(value: str) -> str | None:
    """Hash the file that an option is, or that the model spec in it names."""
    return _hash_if_there(value) or _hash_if_there(value.partition(":")[2].partition("?")[0])


def _hash_if_there(file: str | None) -> str | None:
    path = Path(file or "").expanduser()
    return sha256_file(path) if file and path.is_file() else None


def _listing(source: str, *, remote: bool = False) -> str | None:
    """Hash the names and sizes of local files; None for what lies elsewhere."""
    root = Path(source).expanduser()
    if root.is_dir():
        files = {str(path.relative_to(root)): path for path in sorted(root.rglob("*"))}
    else:
        files = {} if remote else {Path(shard).name: Path(shard) for shard in expand_shards([source])}
    lines = [[name, path.stat().st_size] for name, path in files.items() if path.is_file()]
    return hashlib.sha256(canonical_json(lines).encode()).hexdigest() if lines else None


def _contents(folder: str | None) -> str | None:
    if folder is None:
        return None
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix in {".json", ".parquet"})
    return hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest()
