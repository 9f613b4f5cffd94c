"""A model's results as the Hub wants them: ``.eval_results/*.yaml`` and the ``model-index`` of its card."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.data_cards._merge import read_front_matter, with_key
from spurious_imagenet.data_cards.benchmark_file import TASKS
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.io import atomic_path
from spurious_imagenet.records import Record

__all__ = ["ResultsConfig", "export_results"]

_ID = r"^[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}$"
_TASK = {"type": "image-classification", "name": "Image Classification"}


class ResultsConfig(Record):
    """What no record knows of where its results will be shown."""

    dataset_id: Annotated[str, Field(pattern=_ID)]
    """The dataset's repository on the Hub; records know a folder only."""
    repo: Annotated[str, Field(pattern=_ID)] | None = None
    """The model's repository; None: the model is called as in its records."""
    dataset_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    dataset_config: str = "spurious"
    dataset_split: str = "test"
    revision: Annotated[str, Field(max_length=200)] | None = None
    """Commit or tag of the dataset."""
    date: datetime.date | None = None
    source_url: Annotated[str, Field(pattern=r"^https://\S+$", max_length=500)] | None = None
    """Where the predictions or a report can be seen."""
    source_name: Annotated[str, Field(max_length=200)] | None = None


def export_results(records: Sequence[EvalRecord], out: str | Path, config: ResultsConfig) -> list[Path]:
    """Write the results of one model into a copy of its repository.

    ``README.md`` keeps every character except the value of ``model-index``, where results of other datasets stay.
    Results of the same dataset, protocol and mitigation are replaced: a second run changes nothing.

    Args:
        records: Of one model; one for each protocol and mitigation.
        out: Folder of the model's repository; need not exist.
        config: Where the results will be shown.

    Returns:
        The written files.

    Raises:
        ConfigError: No record, or records of several models, or two of one protocol and mitigation.
        DataError: The ``README.md`` that is there has front matter that cannot be read.
    """
    _check(records)
    folder = Path(out)
    readme = folder / "README.md"
    name = config.repo.rpartition("/")[2] if config.repo else _plain(records[0])
    card = _merged(readme, name, [_indexed(record, config) for record in records])
    files = {readme: card}
    for record in records:
        entries = _entries(record, config)
        files[folder / ".eval_results" / _file_name(record, config)] = yaml.safe_dump(
            entries, sort_keys=False, allow_unicode=True, width=120
        )
    for path, text in files.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(text.encode("utf-8"))
    return list(files)


def _check(records: Sequence[EvalRecord]) -> None:
    if not records:
        raise ConfigError("no record is given: expected one that `spurious evaluate` wrote.")
    models = sorted({record.weights_sha256 for record in records})
    if len(models) > 1:
        names = ", ".join(sorted({_plain(record) for record in records}))
        raise ConfigError(f"the records are of {len(models)} models ({names}): a model's card takes results of one.")
    if len({record.dataset_sha256 for record in records}) > 1:
        raise ConfigError("the records are of different versions of the dataset: expected one.")
    seen: set[str] = set()
    for record in records:
        if _variant(record) in seen:
            raise ConfigError(f"two records are of {_variant(record)}: expected one for each protocol and mitigation.")
        seen.add(_variant(record))


def _plain(record: EvalRecord) -> str:
    """Return the model's name without what was done to its logits."""
    return record.name.removesuffix(f" + {record.mitigation.words}") if record.mitigation else record.name


def _variant(record: EvalRecord) -> str:
    return f"{record.protocol.value} protocol" + (f", {record.mitigation.words}" if record.mitigation else "")


def _file_name(record: EvalRecord, config: ResultsConfig) -> str:
    parts = [config.dataset_id.replace("/", "_"), record.protocol.value]
    parts += [record.mitigation.kind] if record.mitigation else []
    return re.sub(r"[^\w.-]", "-", "_".join(parts)) + ".yaml"


def _entries(record: EvalRecord, config: ResultsConfig) -> list[dict[str, Any]]:
    """Return one entry for each task of the dataset's ``eval.yaml``."""
    entries = []
    for task in TASKS:
        dataset: dict[str, Any] = {"id": config.dataset_id, "task_id": task}
        if config.revision is not None:
            dataset["revision"] = config.revision
        entry: dict[str, Any] = {"dataset": dataset, "value": _number(getattr(record.mean, task))}
        if config.date is not None:
            entry["date"] = config.date.isoformat()
        if (source := _source(config)) is not None:
            entry["source"] = source
        entry["notes"] = _notes(record, record.mean_intervals.get(task))
        entries.append(entry)
    return entries


def _source(config: ResultsConfig) -> dict[str, str] | None:
    if config.source_url is None:
        return None
    return {"url": config.source_url} | ({"name": config.source_name} if config.source_name else {})


def _notes(record: EvalRecord, interval: Interval | None) -> str:
    parts = [_variant(record)]
    if interval is not None:
        parts.append(f"95 % interval {interval.low:.3f} to {interval.high:.3f}")
    return "; ".join([*parts, f"dataset {record.dataset_sha256[:12]}", f"weights {record.weights_sha256[:12]}"])


def _number(value: float) -> float:
    return round(float(value), 6)


def _indexed(record: EvalRecord, config: ResultsConfig) -> dict[str, Any]:
    """Return one result of ``model-index``."""
    args = {"protocol": record.protocol.value} | ({"mitigation": record.mitigation.words} if record.mitigation else {})
    dataset: dict[str, Any] = {
        "name": config.dataset_name or config.dataset_id.rpartition("/")[2],
        "type": config.dataset_id,
        "config": config.dataset_config,
        "split": config.dataset_split,
    }
    if config.revision is not None:
        dataset["revision"] = config.revision
    metrics = [
        {"type": task, "value": _number(getattr(record.mean, task)), "name": f"{about.name} ({_variant(record)})"}
        for task, about in TASKS.items()
    ]
    if record.gaps is not None:
        name = f"Spurious gap, {record.gaps.k} images a side ({_variant(record)})"
        metrics.append({"type": "spurious_gap", "value": _number(record.gaps.gap), "name": name})
    found: dict[str, Any] = {"task": dict(_TASK), "dataset": dataset | {"args": args}, "metrics": metrics}
    source = _source(config)
    return found | ({"source": source} if source is not None else {})


def _merged(readme: Path, name: str, results: list[dict[str, Any]]) -> str:
    try:
        text = readme.read_bytes().decode("utf-8") if readme.exists() else ""
    except UnicodeDecodeError as error:
        raise DataError(
            f"{readme} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:x}."
        ) from error
    try:
        index = read_front_matter(text).get("model-index")
        if index is None:
            index = []
        models = _models(index)
        own = next((m for m in models if m.get("name") == name), None)
        if own is None and len(models) == 1:
            own = models[0]  # whatever its card calls it: a repository is one model
        if own is None:
            own = {"name": name, "results": []}
            models.append(own)
        replaced = {_identity(result) for result in results}
        own["results"] = [r for r in own["results"] if _identity(r) not in replaced] + results
        if own["results"] == next((m["results"] for m in index if m.get("name") == own["name"]), None):
            return text
        return with_key(text, "model-index", models)
    except DataError as error:
        raise DataError(f"{readme}: {error}") from error


def _models(index: Any) -> list[dict[str, Any]]:
    sound = isinstance(index, list) and all(
        isinstance(m, dict)
        and isinstance(m.get("results"), list)
        and all(isinstance(r, dict) and isinstance(r.get("dataset", {}), dict) for r in m["results"])
        for m in index
    )
    if not sound:
        raise DataError("model-index is not as the Hub has it: expected a list of models, each with a list of results.")
    return [dict(model) for model in index]


def _identity(result: dict[str, Any]) -> str:
    """Return what a result is of, without what came out."""
    dataset = result.get("dataset", {})
    task = result.get("task") if isinstance(result.get("task"), dict) else {}
    keys = [(key, str(dataset.get(key))) for key in ("type", "config", "split", "revision", "args")]
    return repr([str((task or {}).get("type")), *keys])
