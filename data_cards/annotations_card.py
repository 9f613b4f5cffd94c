"""Rendering the card of published verdicts on concepts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from spurious_imagenet.data_cards._citation import citation
from spurious_imagenet.data_cards._columns import column_tables
from spurious_imagenet.data_cards._front_matter import dataset_front_matter, read_features
from spurious_imagenet.data_cards._responsible import other_facts, responsible
from spurious_imagenet.data_cards.card import render_template
from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.datasets.manifest import DatasetManifest

__all__ = ["render_annotations_card"]


def render_annotations_card(
    folder: str | Path,
    manifest: DatasetManifest,
    *,
    licences: Mapping[str, str] | None = None,
    options: CardOptions | None = None,
) -> str:
    """Render the card of published verdicts; every number is counted in the parquet files.

    Args:
        folder: The dataset with its parquet files already in place. Rows have ``class_id``, ``verdict``, ``source`` and
            ``votes``, a list with ``labeler`` and ``answer``.
        manifest: What it is.
        licences: Source of verdicts that are not the publisher's own -> its licence, in words.
        options: What the publisher says.

    Returns:
        Markdown with YAML front matter.
    """
    options = options or CardOptions()
    return render_template(
        "annotations.md.j2",
        front=dataset_front_matter(folder, manifest, creators="expert-generated", options=options),
        manifest=manifest,
        found=_counted(Path(folder), manifest),
        licences=licences or {},
        facts=other_facts(manifest, None),
        config=manifest.files[0].config,
        first=manifest.files[0].split,
        options=options,
        said=responsible(manifest, review=None, sources=None),
        cite=citation(manifest, options),
        columns=column_tables(read_features(folder, manifest)),
    )


def _counted(folder: Path, manifest: DatasetManifest) -> dict[str, Any]:
    columns = ["class_id", "verdict", "source", "votes"]
    config = manifest.files[0].config
    rows = [
        row
        for file in manifest.files
        if file.config == config
        for row in pq.read_table(folder / file.path, columns=columns).to_pylist()
    ]
    votes = [row["votes"] for row in rows if row["votes"]]
    return {
        "concepts": len(rows),
        "classes": len({row["class_id"] for row in rows}),
        "verdicts": dict(sorted(Counter(row["verdict"] for row in rows).items())),
        "sources": dict(sorted(Counter(row["source"] for row in rows).items())),
        "votes": sum(map(len, votes)),
        "voted": len(votes),
        "voters": len({vote["labeler"] for own in votes for vote in own} - {"adjudicator"}),
        "split": sum(len({vote["answer"] for vote in own}) > 1 for own in votes),
    }
