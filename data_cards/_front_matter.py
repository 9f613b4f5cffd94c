"""The YAML that the Hub reads at the head of a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import yaml
from datasets import DatasetInfo, Features
from datasets.info import DatasetInfosDict

from spurious_imagenet.data_cards._sources import Sources, license_front
from spurious_imagenet.data_cards.card import one_line, size_category
from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.datasets.manifest import DatasetManifest
from spurious_imagenet.errors import DataError

_TAGS = {
    "spurious-images": ("spurious-features", "robustness", "spurious-imagenet", "benchmark"),
    "rankings": ("spurious-features", "robustness", "spuriosity-rankings"),
    "concept-annotations": ("spurious-features", "interpretability", "concept-annotations"),
}
_TASKS = {"spurious-images": ["image-classification"], "rankings": ["image-classification"]}


def read_features(folder: str | Path, manifest: DatasetManifest) -> dict[str, Features]:
    """Return the columns of every config, in the manifest's order.

    Raises:
        DataError: Two files of a config have different columns.
    """
    found: dict[str, Features] = {}
    for file in manifest.files:
        features = Features.from_arrow_schema(pq.read_schema(Path(folder) / file.path))
        if found.setdefault(file.config, features) != features:
            raise DataError(f"{file.path} has other columns than the files of config {file.config!r} before it.")
    return found


def dataset_front_matter(
    folder: str | Path,
    manifest: DatasetManifest,
    *,
    creators: str,
    options: CardOptions,
    sources: Sources | None = None,
    default: str | None = None,
) -> str:
    """Return the front matter of a published dataset: configs, columns, sizes, licence, gate, tags.

    Args:
        folder: The dataset with its parquet files, whose columns and sizes are said.
        manifest: What it holds.
        creators: Who annotated, in the Hub's terms.
        options: What the publisher says.
        sources: What the images say of their licences; None where there are no images.
        default: The config that loads when none is named; the manifest's first if None.
    """
    configs = list(dict.fromkeys(file.config for file in manifest.files))
    default = default or configs[0]
    rows = sum(file.rows for file in manifest.files if file.config == default)
    front: dict[str, Any] = {"pretty_name": one_line(manifest.name)}
    if options.languages:
        front["language"] = list(options.languages)
    front |= license_front(options, sources)
    if options.gated_prompt is not None:
        front["extra_gated_prompt"] = options.gated_prompt
        if options.gated_fields:
            front["extra_gated_fields"] = dict(options.gated_fields)
    front |= {
        "task_categories": _TASKS.get(manifest.kind, ["other"]),
        "tags": list(dict.fromkeys([*_TAGS[manifest.kind], *options.tags])),
        "size_categories": [size_category(rows)],
        "annotations_creators": [creators],
        "source_datasets": _source_datasets(options, sources),
        "configs": [_config(manifest, config, config == default) for config in configs],
    }
    _infos(folder, manifest, configs).to_dataset_card_data(cast(Any, front))
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120).strip()


def _source_datasets(options: CardOptions, sources: Sources | None) -> Sequence[str]:
    if options.source_datasets is not None:
        return list(options.source_datasets)
    return ["original"] if sources is None else sources.hub_sources()


def _config(manifest: DatasetManifest, config: str, default: bool) -> dict[str, Any]:
    splits: dict[str, list[str]] = {}
    for file in manifest.files:
        if file.config == config:
            splits.setdefault(file.split, []).append(file.path)
    files = [{"split": split, "path": paths[0] if len(paths) == 1 else paths} for split, paths in splits.items()]
    return {"config_name": config, **({"default": True} if default else {}), "data_files": files}


def _infos(folder: str | Path, manifest: DatasetManifest, configs: Sequence[str]) -> DatasetInfosDict:
    features = read_features(folder, manifest)
    return DatasetInfosDict({config: _info(Path(folder), manifest, config, features[config]) for config in configs})


def _info(folder: Path, manifest: DatasetManifest, config: str, features: Features) -> DatasetInfo:
    """Describe a config, without the sizes of its splits: with them ``datasets`` refuses to load filtered rows."""
    files = [file for file in manifest.files if file.config == config]
    return DatasetInfo(
        features=features,
        download_size=sum(file.bytes for file in files),
        dataset_size=sum(_uncompressed(folder / file.path) for file in files),
    )


def _uncompressed(path: Path) -> int:
    meta = pq.read_metadata(path)
    return sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
