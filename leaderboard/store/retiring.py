"""A new version of the benchmark without some of its images."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from spurious_imagenet.datasets.manifest import Change, RetiredImage, VersionName, images_sha256
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.store.versions import version_order
from spurious_imagenet.leaderboard.version import BenchmarkVersion

__all__ = ["RetiredKey", "retire", "retired_version"]

#: The SHA-256 of an image, which is retired of every class; or a class id and a SHA-256.
RetiredKey = str | tuple[str, str]


def retire(store: Store, images: Iterable[RetiredKey], reason: str, version: VersionName) -> BenchmarkVersion:
    """Add a version without some spurious images of the latest one; scores under older versions stay.

    Entries get their scores under the new version by :func:`~spurious_imagenet.leaderboard.store.rescore.rescore`,
    from the predictions that they came with.

    Args:
        store: The leaderboard.
        images: Which images.
        reason: Why, in one sentence that everyone can read.
        version: The new version's name.

    Raises:
        ConfigError: See :func:`retired_version`.
        StoreError: The store has another version of this name.
    """
    made = retired_version(store.version(), images, reason, version)
    store.add_version(made)  # pictures are known by the images' hashes: those of older versions serve
    return made


def retired_version(
    version: BenchmarkVersion, images: Iterable[RetiredKey], reason: str, name: VersionName
) -> BenchmarkVersion:
    """Return the version that follows when some spurious images are retired.

    Classes and concepts that keep no image leave with them. Validation images and rankings stay.

    Raises:
        ConfigError: No image is given, one is not in the version, none would be left, the reason is empty, or the new
            name does not come after the old one.
    """
    if not re.fullmatch(r"\d{1,6}\.\d{1,6}\.\d{1,6}", name):
        raise ConfigError(f"version {name!r}: expected three numbers such as 1.0.1.")
    if version_order(name) <= version_order(version.info.version):
        raise ConfigError(f"version {name} does not come after {version.info.version}: expected a higher name.")
    if not reason.strip():
        raise ConfigError("the reason is empty: expected one sentence on why the images are retired.")
    gone = _gone(version, list(dict.fromkeys(images)))
    kept = version.images[~gone].reset_index(drop=True)
    spurious = kept[kept["side"] == "spurious"]
    if spurious.empty:
        raise ConfigError("retiring these images would leave no spurious image: expected some to be left.")
    retired = tuple(
        RetiredImage(class_id=row.class_id, concept_id=row.concept_id, sha256=row.sha256, reason=reason, since=name)
        for row in version.images[gone].sort_values(["class_id", "concept_id", "sha256"]).itertuples()
    )
    number = f"{len(retired)} images" if len(retired) > 1 else "1 image"
    classes, concepts = set(spurious["class_id"]), set(spurious["concept_id"])
    info = version.info.model_copy(
        update={
            "version": name,
            "dataset_sha256": images_sha256(spurious, ["class_id", "concept_id", "sha256"]),
            "class_names": {c: n for c, n in version.info.class_names.items() if c in classes},
            "concept_names": {c: n for c, n in version.info.concept_names.items() if c in concepts},
            "retired": (*version.info.retired, *retired),
            "changes": (Change(version=name, text=f"Retired {number}: {reason}"), *version.info.changes),
        }
    )
    return BenchmarkVersion(info, kept, version.rankings)


def _gone(version: BenchmarkVersion, keys: list[RetiredKey]) -> pd.Series[bool]:
    if not keys:
        raise ConfigError("no image to retire: expected the SHA-256 of at least one.")
    everywhere = {key for key in keys if isinstance(key, str)}
    of_class = {key for key in keys if not isinstance(key, str)}
    images, spurious = version.images, version.images["side"] == "spurious"
    pairs = pd.Series(list(zip(images["class_id"], images["sha256"], strict=True)), index=images.index, dtype=object)
    gone = spurious & (images["sha256"].isin(list(everywhere)) | pairs.isin(list(of_class)))
    found: set[RetiredKey] = {*images.loc[gone, "sha256"], *pairs[gone]}
    missing = [key for key in keys if key not in found]
    if missing:
        first = missing[0] if isinstance(missing[0], str) else " ".join(missing[0])
        raise ConfigError(
            f"{len(missing)} of {len(keys)} images are not spurious images of version {version.info.version}, the "
            f"first is {first[:80]!r}: expected SHA-256 hashes of its images."
        )
    return gone
