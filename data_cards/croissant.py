"""Croissant: what a dataset's files and columns are, for machines; the only door to mlcroissant."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets import Features, Image, List, Value

from spurious_imagenet.data_cards._citation import citation
from spurious_imagenet.data_cards._columns import meaning
from spurious_imagenet.data_cards._front_matter import read_features
from spurious_imagenet.data_cards._responsible import Responsible, responsible
from spurious_imagenet.data_cards._sources import Sources, license_addresses, read_sources
from spurious_imagenet.data_cards.card import one_line
from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.datasets.manifest import DatasetManifest
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.io import write_json
from spurious_imagenet.process_state import log_levels

__all__ = ["CROISSANT", "the_library", "the_library_quiet", "write_croissant"]

#: The file's name in the dataset's folder, where search engines look for it.
CROISSANT = "croissant.json"

_CONFORMS = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
_PARQUET = "application/x-parquet"
_TYPES = {
    **{f"{sign}int{bits}": f"cr:{name}Int{bits}" for sign, name in (("", ""), ("u", "U")) for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"cr:Float{bits}" for bits in (16, 32, 64)},
    **{"string": "sc:Text", "large_string": "sc:Text", "bool": "sc:Boolean"},
}


def write_croissant(
    folder: str | Path,
    manifest: DatasetManifest,
    *,
    review: Mapping[str, Any] | None = None,
    options: CardOptions | None = None,
    made: datetime.date | None = None,
) -> Path:
    """Describe a dataset's folder in Croissant 1.0 with the fields of Responsible AI 1.0.

    Args:
        folder: The dataset, with its parquet files.
        manifest: What it is.
        review: How people judged, see :func:`~spurious_imagenet.data_cards.render_spurious_card`.
        options: What the publisher says.
        made: Dates the version where neither the publisher nor a verdict does.

    Returns:
        Path of ``croissant.json``; equal inputs give equal bytes.

    Raises:
        ConfigError: mlcroissant is not installed, or nothing gives a date.
        DataError: A column is of a type that Croissant has no word for.
    """
    options = options or CardOptions()
    images = next((c for c, f in read_features(folder, manifest).items() if "image" in f), None)
    sources = read_sources(folder, manifest, images) if images else None
    path = Path(folder) / CROISSANT
    published = options.published or (sources.last_verdict if sources else None) or made
    if published is None:
        raise ConfigError(
            f"dataset {manifest.name!r} needs the date of this version: none was given and no verdict has one."
        )
    date = datetime.datetime.fromisoformat(str(published))
    with the_library_quiet():
        write_json(path, _metadata(Path(folder), manifest, review, options, sources, date).to_json())
    return path


def the_library() -> Any:
    """Import mlcroissant.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import mlcroissant
    except ImportError as error:
        raise ConfigError(
            "the dataset's machine-readable description needs mlcroissant: install spurious-imagenet[publish]."
        ) from error
    return mlcroissant


@contextmanager
def the_library_quiet() -> Iterator[None]:
    """Keep what mlcroissant says in passing out of the log while a block runs."""
    the_library()  # whose import sets the level
    with log_levels(logging.ERROR, "absl"):
        yield


def _metadata(
    folder: Path,
    manifest: DatasetManifest,
    review: Mapping[str, Any] | None,
    options: CardOptions,
    sources: Sources | None,
    date: datetime.datetime,
) -> Any:
    mlc = the_library()
    said = responsible(manifest, review=review, sources=sources)
    features = read_features(folder, manifest)
    return mlc.Metadata(
        name=one_line(manifest.name),
        description=_description(manifest, said),
        conforms_to=_CONFORMS,
        version=manifest.version,
        license=license_addresses(options, sources),
        url=options.url,
        date_published=date,
        cite_as=citation(manifest, options, str(date.year)),
        creators=[mlc.Person(id=f"creator-{i}", name=name) for i, name in enumerate(options.authors)],
        keywords=["spurious features", "robustness", "image classification", *options.tags],
        distribution=_distribution(mlc, manifest),
        record_sets=[_record_set(mlc, manifest, config, found) for config, found in features.items()],
        **_rai(said, options),
    )


def _description(manifest: DatasetManifest, said: Responsible) -> str:
    counts = manifest.counts
    what = ", ".join(f"{counts[key]} {key}" for key in ("images", "concepts", "classes") if key in counts)
    return " ".join(part for part in (f"{what}." if what else "", said.collection) if part)


def _rai(said: Responsible, options: CardOptions) -> dict[str, Any]:
    fields = {
        "data_collection": said.collection,
        "data_collection_type": list(said.collection_types),
        "data_annotation_protocol": list(said.protocol),
        "data_annotation_analysis": list(said.analysis),
        "annotations_per_item": said.per_item,
        "annotator_demographics": list(said.annotators),
        "machine_annotation_tools": list(said.tools),
        "data_biases": list(said.biases),
        "data_limitations": list(said.limitations),
        "data_use_cases": list(said.uses),
        "personal_sensitive_information": list(said.personal),
        "data_release_maintenance_plan": said.maintenance
        + (f" Report errors at {options.reports}." if options.reports else ""),
    }
    return {name: value for name, value in fields.items() if value}


def _distribution(mlc: Any, manifest: DatasetManifest) -> list[Any]:
    objects = [
        mlc.FileObject(
            id=file.path,
            name=file.path.rsplit("/", 1)[-1],
            description=f"Config {file.config}, split {file.split}: {file.rows} rows.",
            content_url=file.path,
            content_size=f"{file.bytes} B",
            encoding_formats=[_PARQUET],
            sha256=file.sha256,
        )
        for file in manifest.files
    ]
    sets = [
        mlc.FileSet(
            id=_set_id(config),
            name=_set_id(config),
            description=f"All files of config {config}.",
            encoding_formats=[_PARQUET],
            includes=paths,
        )
        for config, paths in _paths(manifest).items()
        if len(paths) > 1
    ]
    return objects + sets


def _paths(manifest: DatasetManifest) -> dict[str, list[str]]:
    paths: dict[str, list[str]] = {}
    for file in manifest.files:
        paths.setdefault(file.config, []).append(file.path)
    return paths


def _set_id(config: str) -> str:
    return f"files-of-{config}"


def _record_set(mlc: Any, manifest: DatasetManifest, config: str, features: Features) -> Any:
    paths = _paths(manifest)[config]
    origin = {"file_object": paths[0]} if len(paths) == 1 else {"file_set": _set_id(config)}
    rows = sum(file.rows for file in manifest.files if file.config == config)
    return mlc.RecordSet(
        id=config,
        name=config,
        description=f"{rows} rows.",
        fields=[_field(mlc, config, name, feature, origin) for name, feature in features.items()],
    )


def _field(mlc: Any, config: str, name: str, feature: Any, origin: dict[str, str]) -> Any:
    """Describe a column; structs, and lists of them, become fields with sub-fields."""
    repeated = isinstance(feature, List)
    common = {"id": f"{config}/{name}", "name": name, "description": meaning(name, config, listed=repeated) or None}
    inner = feature.feature if isinstance(feature, List) else feature
    if isinstance(inner, dict):
        parts = [_part(mlc, config, name, key, value, origin) for key, value in inner.items()]
        return mlc.Field(**common, repeated=repeated or None, sub_fields=parts)
    transforms = [mlc.Transform(json_path="bytes")] if isinstance(inner, Image) else []
    source = mlc.Source(**origin, extract=mlc.Extract(column=name), transforms=transforms)
    return mlc.Field(**common, repeated=repeated or None, data_types=[_uri(mlc, config, name, inner)], source=source)


def _part(mlc: Any, config: str, column: str, key: str, feature: Any, origin: dict[str, str]) -> Any:
    repeated = isinstance(feature, List)
    inner = feature.feature if isinstance(feature, List) else feature
    return mlc.Field(
        id=f"{config}/{column}/{key}",
        name=key,
        description=meaning(key, config) or None,
        repeated=repeated or None,
        data_types=[_uri(mlc, config, f"{column}.{key}", inner)],
        source=mlc.Source(**origin, extract=mlc.Extract(column=column), transforms=[mlc.Transform(json_path=key)]),
    )


def _uri(mlc: Any, config: str, name: str, feature: Any) -> str:
    short = "sc:ImageObject" if isinstance(feature, Image) else None
    if isinstance(feature, Value):
        short = _TYPES.get(feature.dtype)
    if short is None:
        raise DataError(f"column {name!r} of config {config!r} is {feature}: Croissant has no type for it.")
    prefix, _, rest = short.partition(":")
    return f"{'https://schema.org/' if prefix == 'sc' else 'http://mlcommons.org/croissant/'}{rest}"
