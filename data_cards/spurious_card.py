"""Rendering the card of a published dataset of spurious images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spurious_imagenet.data_cards._citation import citation
from spurious_imagenet.data_cards._columns import column_tables
from spurious_imagenet.data_cards._front_matter import dataset_front_matter, read_features
from spurious_imagenet.data_cards._responsible import other_facts, responsible
from spurious_imagenet.data_cards._sources import read_sources
from spurious_imagenet.data_cards._steps import in_words
from spurious_imagenet.data_cards.card import render_template
from spurious_imagenet.data_cards.options import CardOptions, Sample
from spurious_imagenet.datasets.manifest import DatasetManifest

__all__ = ["render_spurious_card"]


def render_spurious_card(
    folder: str | Path,
    manifest: DatasetManifest,
    *,
    concepts: Sequence[Mapping[str, Any]],
    review: Mapping[str, Any] | None,
    samples: Sequence[Sample] = (),
    options: CardOptions | None = None,
) -> str:
    """Render the card of a dataset of spurious images; every number comes from the manifest or the parquet files.

    Args:
        folder: The dataset with its parquet files already in place, from which columns and attribution are read.
        manifest: What it is; ``counts`` may have any key of :data:`~spurious_imagenet.data_cards._steps.STEPS`.
        concepts: One mapping per concept: ``class_name``, ``class_id``, ``concept_id``, ``images``, and ``name`` (what
            people call it, or None).
        review: How people judged the candidates (``labelers``, ``per_item``, ``judged``, ``accepted``, ``disagreed``,
            ``adjudicated``, ``agreement``); None if nobody has.
        samples: Images to show.
        options: What the publisher says.

    Returns:
        Markdown with YAML front matter.
    """
    options = options or CardOptions()
    sources = read_sources(folder, manifest)
    creators = "machine-generated" if review is None else "expert-generated"
    return render_template(
        "spurious.md.j2",
        front=dataset_front_matter(folder, manifest, creators=creators, options=options, sources=sources),
        manifest=manifest,
        steps=in_words(manifest.counts),
        concepts=[{"name": None, **concept} for concept in concepts],
        classes=len({concept["class_id"] for concept in concepts}),
        review=review,
        facts=other_facts(manifest, review),
        samples=samples,
        options=options,
        sources=sources,
        said=responsible(manifest, review=review, sources=sources),
        cite=citation(manifest, options, (sources.last_verdict or "")[:4] or None),
        scorer=next((m for m in manifest.miners if m.role == "scorer"), None),
        split=next(file.split for file in manifest.files),
        columns=column_tables(read_features(folder, manifest)),
    )
