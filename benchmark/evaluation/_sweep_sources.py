"""What the records of a sweep are made from, so that a record is made again where any of it has changed."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spurious_imagenet.benchmark.evaluation._sweep_config import SweepConfig, SweepModel
from spurious_imagenet.io import canonical_json, sha256_file
from spurious_imagenet.models.spec import ModelSpec
from spurious_imagenet.shards import expand_shards


def common_sources(config: SweepConfig) -> dict[str, Any]:
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


def model_sources(model: SweepModel) -> dict[str, str | None]:
    """Hash the local files that a spec names: its weights, and those of its options, such as labels or an encoder."""
    spec = ModelSpec.parse(model.model)
    named = {f"{name}_file": _file_of(value) for name, value in spec.options.items()}
    return {"weights_file": hash_if_there(spec.address)} | {k: h for k, h in named.items() if h is not None}


def _file_of(value: str) -> str | None:
    """Hash the file that an option is, or that the model spec in it names."""
    return hash_if_there(value) or hash_if_there(value.partition(":")[2].partition("?")[0])


def hash_if_there(file: str | None) -> str | None:
    """Return the SHA-256 of a local file; None where there is no such file, as of models that are named by a spec."""
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
