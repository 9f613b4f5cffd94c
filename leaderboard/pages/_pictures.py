"""Where the pictures of a board are: in its store by key, on its pages by address."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.errors import StoreError
from spurious_imagenet.leaderboard.pages.rendering import slug
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.store.versions import read_stored_version, version_order


def image_key(sha256: str) -> str:
    """Key of an image in the store."""
    return f"image:{sha256}"


def board_key(concept_id: str) -> str:
    """Key of a concept's board in the store."""
    return f"board:{concept_id}"


def image_picture(sha256: str) -> str:
    """Address of an image, from the root of the pages."""
    return f"pictures/images/{sha256}.jpg"


def board_picture(concept_id: str) -> str:
    """Address of a concept's board, from the root of the pages."""
    return f"pictures/boards/{slug(concept_id)}.jpg"


def picture_keys(store: Store, version: str) -> frozenset[str]:
    """Return the keys of all pictures that the store has for a version, without reading a picture.

    Raises:
        StoreError: A file of the version is missing or torn.
    """
    found: set[str] = set()
    for name in store.versions():
        stored = read_stored_version(store.place, name)
        if version_order(name) > version_order(version) or "pictures" not in stored.files:
            continue
        path = f"versions/{name}/{stored.files['pictures']}"
        try:
            with store.place.open(path) as file:
                found.update(pq.read_table(file, columns=["key"])["key"].to_pylist())
        except (FileNotFoundError, pa.ArrowException) as error:
            raise StoreError(f"the pictures of version {name} cannot be read.") from error
    return frozenset(found)
