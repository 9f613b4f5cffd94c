"""Rendering the README of spuriosity rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from spurious_imagenet.data_cards.card import render_template, size_category

__all__ = ["render_rankings_card"]


def render_rankings_card(
    *,
    name: str,
    model: str,
    judged: str | None,
    verdict: str | None,
    classes: Sequence[dict[str, Any]],
    splits: Mapping[str, dict[str, Any]],
    ends: str,
    image_license: str | None,
) -> str:
    """Render the card of a dataset of ranked images.

    Args:
        name: Title.
        model: Spec of the model whose features rank the images.
        judged: Who judged the concepts; None if no verdicts chose them.
        verdict: The verdict that chose them.
        classes: One mapping per class with a concept: ``class_name``, ``class_id``, ``concepts`` (ids).
        splits: Split -> ``data_file`` and its counts (``images``, ``classes``, ``controls``, ``unlabelled_images``,
            ``repeated_images``, ``constant_concepts``, ``left_out``).
        ends: How many images each ranked split of a class has, in words.
        image_license: The licence of the pixels; None where there are none in the dataset.

    Returns:
        Markdown with YAML front matter.
    """
    return render_template(
        "rankings.md.j2",
        front=_front(name, splits, judged, image_license),
        name=name,
        model=model,
        judged=judged,
        verdict=verdict,
        classes=classes,
        concepts=sum(len(c["concepts"]) for c in classes),
        splits=splits,
        first=next(iter(splits)),
        ends=ends,
        image_license=image_license,
    )


def _front(name: str, splits: Mapping[str, dict[str, Any]], judged: str | None, image_license: str | None) -> str:
    data_files = [{"split": split, "path": about["data_file"]} for split, about in splits.items()]
    front: dict[str, Any] = {"pretty_name": name}
    if image_license is not None:
        front |= {"license": "other", "license_name": " ".join(image_license.split())[:100]}
    front |= {
        "task_categories": ["image-classification"],
        "tags": ["spurious-features", "robustness", "spuriosity-rankings"],
        "size_categories": [size_category(sum(about["images"] for about in splits.values()))],
        "annotations_creators": ["machine-generated" if judged is None else "expert-generated"],
        "configs": [{"config_name": "rankings", "default": True, "data_files": data_files}],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip()
