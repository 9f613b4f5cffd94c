"""The images behind a list of hashes, and the items of a review of suspicious labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from spurious_imagenet.builders.rankings.join import OwnImages
from spurious_imagenet.builders.review.items import ReviewItem, write_items
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.features.store import FeaturePart, FeatureStore
from spurious_imagenet.shards import ShardImages, StoredImage

#: Images of the class, without its cues and named right by all models, beside each image to judge.
REFERENCES = 4
#: First bytes of what the decoder takes -> extension that viewers know it by.
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"GI": ".gif", b"BM": ".bmp"}


def image_sources(images: str | None, features: tuple[str, ...]) -> tuple[str, ...]:
    """Return where the ranked images are: what is given, or else the shards of the first feature store.

    Raises:
        ConfigError: Neither is there.
    """
    if images is not None:
        return (images,)
    if not features:
        raise ConfigError("the images to review and crop are needed: expected `--images` (or `--review 0`).")
    return tuple(map(_shard_of, FeatureStore.open(features[0]).parts))


def _shard_of(part: FeaturePart) -> str:
    """Return where a part's shard is now."""
    first = part.rows(("key", "offset", "size", "sha256")).slice(0, 1).to_pylist()
    if not first:
        return part.shard
    image = StoredImage(**first[0] | {"sha256": first[0]["sha256"].hex()})
    return ShardImages(part.path).place(part.shard, image)


def read_images(sources: Iterable[str], wanted: Collection[str]) -> dict[str, bytes]:
    """Read images by the hash of their bytes, whatever their labels and names.

    Args:
        sources: Image folders, or shards.
        wanted: Hexadecimal SHA-256 of each.

    Raises:
        DataError: An image is in none of the sources.
    """
    named, hashes = list(sources), sorted(wanted)
    own = OwnImages(named)
    found = own.find(hashes, hashes)
    missing = [sha256 for sha256, place in zip(hashes, found, strict=True) if place is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(hashes)} ranked images are not in {', '.join(named)}, such as that with SHA-256 "
            f"{missing[0][:12]}: expected the images that were ranked."
        )
    return dict(zip(hashes, own.read(hashes, [place for place in found if place is not None]), strict=True))


def references_of(images: pd.DataFrame, right: pd.Series, class_ids: Collection[str]) -> dict[str, list[str]]:
    """Choose images of each class that show it plainly: of lowest spuriosity among those that all models name right.

    Args:
        images: Rows of rankings.
        right: Whether all models predict the label of each.
        class_ids: Classes wanted.

    Returns:
        Class id -> hashes, fewer than :data:`REFERENCES` where a class has fewer.
    """
    plain = images[right.to_numpy() & images["class_id"].isin(class_ids).to_numpy()].sort_values(["class_id", "rank"])
    return {str(c): rows["sha256"].head(REFERENCES).tolist() for c, rows in plain.groupby("class_id")}


def write_review(
    folder: Path, flagged: pd.DataFrame, references: dict[str, list[str]], images: dict[str, bytes]
) -> None:
    """Write ``items.jsonl``, its images and the form, for ``spurious review create --items``.

    Args:
        folder: Where to.
        flagged: Images to judge, the most suspicious first.
        references: Class id -> hashes of images of the class.
        images: Hash -> bytes of all of them.
    """
    (folder / "images").mkdir(exist_ok=True)
    named = {sha256: f"images/{sha256}{_SUFFIXES.get(data[:2], '.tif')}" for sha256, data in images.items()}
    for sha256, data in images.items():
        (folder / named[sha256]).write_bytes(data)
    rows: list[dict[str, Any]] = [
        {str(k): v for k, v in row.items()}
        for row in flagged.drop_duplicates(["class_id", "sha256"]).to_dict("records")
    ]
    items = (
        ReviewItem(
            item_id=f"{row['class_id']}/{row['sha256'][:16]}",
            kind="label",
            media=named[row["sha256"]],
            class_id=row["class_id"],
            class_name=row["class_name"] or row["class_id"],
            references=tuple(named[sha256] for sha256 in references.get(row["class_id"], ())),
            batch=row["class_id"],
            info={k: row[k] for k in ("name", "sha256", "suggested_id")} | {"score": round(row["score"], 6)},
        )
        for row in rows
    )
    write_items(folder / "items.jsonl", items)
