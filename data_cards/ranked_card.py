"""Rendering the card of published spuriosity rankings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from spurious_imagenet.data_cards._citation import citation
from spurious_imagenet.data_cards._columns import column_tables
from spurious_imagenet.data_cards._front_matter import dataset_front_matter, read_features
from spurious_imagenet.data_cards._responsible import responsible
from spurious_imagenet.data_cards.card import render_template
from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.datasets.manifest import DatasetManifest
from spurious_imagenet.datasets.rankings import RankingsInfo

__all__ = ["render_ranked_card"]

_CONFIG = "rankings"
_COUNTED = ("images", "classes", "controls", "unlabelled_images", "repeated_images", "constant_concepts")


def render_ranked_card(
    folder: str | Path, manifest: DatasetManifest, *, info: RankingsInfo, options: CardOptions | None = None
) -> str:
    """Render the card of published rankings; every number comes from the rankings themselves.

    Args:
        folder: The dataset with its parquet files already in place.
        manifest: What it is; the config ``rankings`` holds all ranked images.
        info: What the rankings were made from.
        options: What the publisher says. Its licence is that of the numbers; embedded pixels have their own.

    Returns:
        Markdown with YAML front matter.
    """
    options = options or CardOptions()
    image_license = info.config.get("image_license")
    if image_license is not None and options.license is None:
        options = options.model_copy(update={"license": "other", "license_name": "of-the-images"})
    names = _class_names(Path(folder), manifest)
    splits = {f.split: _counted(info, f.split) for f in manifest.files if f.config == _CONFIG}
    creators = "machine-generated" if info.judged is None else "expert-generated"
    return render_template(
        "ranked.md.j2",
        front=dataset_front_matter(folder, manifest, creators=creators, options=options, default=_CONFIG),
        manifest=manifest,
        model=info.model,
        judged=info.judged,
        verdict=None if info.judged is None else info.config.get("verdict") or "spurious",
        classes=[
            {"class_id": class_id, "class_name": names.get(class_id, class_id), "concepts": concepts}
            for class_id, concepts in sorted(info.concepts.items())
        ],
        concepts=sum(map(len, info.concepts.values())),
        splits=splits,
        config=_CONFIG,
        first="val" if "val" in splits else next(iter(splits)),
        ends=_ends(info),
        image_license=image_license,
        options=options,
        said=responsible(manifest, review=None, sources=None),
        cite=citation(manifest, options),
        columns=column_tables(read_features(folder, manifest)),
        parts=[c for c in dict.fromkeys(f.config for f in manifest.files) if c != _CONFIG],
    )


def _counted(info: RankingsInfo, split: str) -> dict[str, Any]:
    found: dict[str, Any] = {what: info.counts.get(f"{split}_{what}", 0) for what in _COUNTED}
    return found | {"left_out": sum(left.split == split for left in info.left_out)}


def _ends(info: RankingsInfo) -> str:
    share = info.config.get("share")
    return f"{share:.1%}" if isinstance(share, float) else f"the {info.config.get('k')} images"


def _class_names(folder: Path, manifest: DatasetManifest) -> Mapping[str, str]:
    names: dict[str, str] = {}
    for file in (f for f in manifest.files if f.config == _CONFIG):
        table = pq.read_table(folder / file.path, columns=["class_id", "class_name"])
        names |= dict(zip(*(table[column].to_pylist() for column in ("class_id", "class_name")), strict=True))
    return names
