"""Rendering the README of a dataset that others published in another form."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from spurious_imagenet.data_cards.card import _code_span, _escape_markdown, _size_category

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
        concepts: One mapping a concept: ``class_name``, ``class_id``, ``concept_id``, ``images``.

    Returns:
        Markdown with YAML front matter.
    """
    front = {
        "pretty_name": name,
        "task_categories": ["image-classification"],
        "tags": ["spurious-features", "robustness", "spurious-imagenet"],
        "size_categories": [_size_category(images)],
        "annotations_creators": ["expert-generated"],
        "configs": [{"config_name": "spurious", "default": True, "data_files": [{"split": split, "path": data_file}]}],
    }
    environment = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - Markdown; the filter below escapes
    environment.filters |= {"md": _escape_markdown, "code": _code_span}
    template = environment.from_string((files(__package__) / "templates" / "imported.md.j2").read_text("utf-8"))
    return template.render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(),
        name=name,
        split=split,
        images=images,
        rejects=rejects,
        concepts=concepts,
    )
