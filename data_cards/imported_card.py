"""Rendering the README of a dataset that others published in another form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spurious_imagenet.data_cards.card import front_matter, render_template

__all__ = ["render_imported_card"]


def render_imported_card(
    *, name: str, split: str, data_file: str, images: int, rejects: int, concepts: Sequence[dict[str, Any]]
) -> str:
    """Render the card of Spurious ImageNet's official images in this project's form.

    Args:
        name: Title.
        split: The one split.
        data_file: Path of its parquet file in the dataset folder.
        images: Number of images.
        rejects: Files of the archive that are not in the dataset.
        concepts: One mapping per concept: ``class_name``, ``class_id``, ``concept_id``, ``images``.

    Returns:
        Markdown with YAML front matter.
    """
    return render_template(
        "imported.md.j2",
        front=front_matter(name, split, data_file, images, "expert-generated"),
        name=name,
        split=split,
        images=images,
        rejects=rejects,
        concepts=concepts,
    )
