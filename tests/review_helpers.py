"""Small reviews that several tests build on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spurious_imagenet.builders.review.forms import load_form
from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.builders.review.review import Review

ACCEPT = {"cue": "yes", "object": "no"}
REJECT = {"cue": "no", "object": "no"}
UNCLEAR = {"cue": "unclear", "object": "no"}


def image_items(count: int, per_batch: int = 5) -> list[ReviewItem]:
    """Return items of images that nobody opens."""
    return [
        ReviewItem(
            item_id=f"npca/c{i // per_batch}/0/{i:04d}",
            kind="image",
            media=f"media/{i:04d}.jpg",
            class_id=f"c{i // per_batch}",
            class_name=f"class {i // per_batch}",
            concept_id=f"npca/c{i // per_batch}/0",
            batch=f"npca/c{i // per_batch}/0",
            info={"key": f"k{i}", "sha256": f"{i:064x}"},
        )
        for i in range(count)
    ]


def image_review(path: Path, count: int = 20, labelers: Sequence[str] = ("ann", "ben"), per_item: int = 2) -> Review:
    """Make a review of images that nobody opens."""
    return Review.create(path, "test", load_form("image"), image_items(count), labelers, per_item, seed=3)
