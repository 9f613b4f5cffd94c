"""Making a version of the benchmark from a published dataset and validation images."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from PIL import Image

from spurious_imagenet.datasets.labelled import LabelledImage, read_ahead
from spurious_imagenet.datasets.manifest import VersionName, images_sha256
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.datasets.validation import SeenImages, once_each, validation_images
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS
from spurious_imagenet.images import DecodeLimits, UndecodableImageError, decode_image
from spurious_imagenet.leaderboard.store._published import PublishedDataset
from spurious_imagenet.leaderboard.store.versions import Pictures
from spurious_imagenet.leaderboard.version import IMAGES_SCHEMA, BenchmarkVersion, VersionInfo
from spurious_imagenet.models import LabelSpace, imagenet_label_space
from spurious_imagenet.threads import ordered_map

__all__ = ["make_version"]

_log = logging.getLogger(__name__)

#: Longer sides of stored pictures, px.
_THUMBNAIL, _BOARD = 256, 1024
_QUALITY = 85


def make_version(
    dataset: str | Path,
    val: str | Path,
    *,
    rankings: str | Path | None = None,
    boards: str | Path | None = None,
    version: VersionName | None = None,
    name: str | None = None,
    labels: LabelSpace | None = None,
    max_label_problems: float = MAX_LABEL_PROBLEMS,
    gap_k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[BenchmarkVersion, Pictures]:
    """Make a version whose hashes are those of evaluation records on the same dataset and validation images.

    Args:
        dataset: A published dataset: its folder or Hub id.
        val: Validation images, as ``evaluate`` takes them.
        rankings: Folder of ``spurious rank`` with a split ``val`` of these images: entries get spurious gaps.
        boards: Folder of ``spurious boards``; the dataset's own boards if left out.
        version: The version's name, for datasets that do not say theirs.
        name: Title, for datasets that do not say theirs; the dataset's folder or id if left out.
        labels: Classes whose validation images count. If left out: ImageNet-1k where it has all classes of the
            dataset, and every class that the validation images name otherwise.
        max_label_problems: Largest share of the validation images whose label may be of no use, in [0, 1].
        gap_k: Images on either side of each class's gap.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        The version, and its pictures for :meth:`~spurious_imagenet.leaderboard.store.store.Store.add_version`, made
        while they are read: spurious images of at most 256 px a side, boards of at most 1024 px.

    Raises:
        ConfigError: The dataset says its version and another is given, or it does not and none is given.
        DataError: The dataset cannot be used, or a class of it has no validation image, or an image is ranked that is
            no validation image.
    """
    data = PublishedDataset.open(dataset)
    about = _about(data, version, name)
    spurious = data.rows()
    ids = spurious["class_id"].to_pylist()
    names = dict(sorted(zip(ids, spurious["class_name"].to_pylist(), strict=True)))
    validation = _validation_rows(str(val), names, labels, max_label_problems)
    tables = [pa.Table.from_pylist(validation, schema=IMAGES_SCHEMA), spurious]
    images = pa.concat_tables(tables).to_pandas()
    sides = {side: images[images["side"] == side] for side in ("spurious", "validation")}
    info = VersionInfo(
        **about,
        dataset_sha256=images_sha256(sides["spurious"], ["class_id", "concept_id", "sha256"]),
        validation_sha256=images_sha256(sides["validation"], ["class_id", "sha256"]),
        class_names=names,
        concept_names=data.concept_names(),
        miners=data.miners,
        gap_k=gap_k,
        resamples=resamples,
        seed=seed,
    )
    _check_hash(data, info)
    ranked = None if rankings is None else _ranked(rankings, sides["validation"])
    return BenchmarkVersion(info, images, ranked), _pictures(data, sides["spurious"], boards)


def _about(data: PublishedDataset, version: VersionName | None, name: str | None) -> dict[str, Any]:
    manifest = data.manifest
    if manifest is None:
        if version is None:
            raise ConfigError(f"dataset {data.source} does not say its version: expected --version, such as 1.0.0.")
        if not re.fullmatch(r"\d{1,6}\.\d{1,6}\.\d{1,6}", version):
            raise ConfigError(f"--version {version!r}: expected three numbers such as 1.0.0.")
        return {"name": name or Path(data.source).name, "version": version}
    if version not in {None, manifest.version}:
        raise ConfigError(f"dataset {data.source} is version {manifest.version}: got --version {version}.")
    return {
        "name": name or manifest.name,
        "version": manifest.version,
        "min_agree": manifest.min_agree,
        "retired": manifest.retired,
        "changes": manifest.changes,
    }


def _check_hash(data: PublishedDataset, info: VersionInfo) -> None:
    said = data.manifest.dataset_sha256 if data.manifest is not None else None
    if said is not None and said != info.dataset_sha256:
        raise DataError(
            f"dataset {data.source} says that its images have hash {said[:12]}: they have {info.dataset_sha256[:12]}."
        )


class _Every(Collection[str]):
    """Classes whose names nobody has given: whatever the images name."""

    def __contains__(self, class_id: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _validation_rows(
    val: str, names: dict[str, str], labels: LabelSpace | None, max_label_problems: float
) -> list[dict[str, Any]]:
    """Return one row per image that can be decoded: evaluation leaves the others out."""
    imagenet = imagenet_label_space()
    if labels is None and all(class_id in imagenet for class_id in names):
        labels = imagenet
    classes: Collection[str] = _Every() if labels is None else set(labels.class_ids)
    known = names if labels is None else dict(zip(labels.class_ids, labels.class_names, strict=True)) | names
    seen = SeenImages(max_label_problems)
    unreadable: list[tuple[str, str]] = []
    images = (
        LabelledImage("validation", i.class_id, None, i.name, i.read)
        for i in validation_images(val, classes, labels or imagenet, seen)
    )
    rows = []
    for image, digest, reason in ordered_map(_checked, read_ahead(images), threads=os.cpu_count() or 1):
        if reason is not None:
            unreadable.append((image.name, reason))
            continue
        row = {
            "side": "validation",
            "class_id": image.class_id,
            "class_name": known.get(image.class_id, image.class_id),
        }
        rows.append(row | {"name": _public_name(image.name, val), "sha256": digest})
    rows, copies = _once_each(rows)
    if rejects := [*unreadable, *seen.rejects]:
        _log.warning("%d validation images cannot be used and do not count, such as %s: %s", len(rejects), *rejects[0])
    for remark in (*seen.remarks(), *copies):
        _log.warning("%s", remark)
    missing = sorted(set(names) - {row["class_id"] for row in rows})
    if missing:
        remarks = " ".join(("", *seen.remarks()))
        raise DataError(
            f"{val} has no readable validation image of {len(missing)} classes, such as {missing[0]!r}.{remarks}"
        )
    return rows


def _once_each(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    table, said = once_each(pd.DataFrame(rows, columns=["side", "class_id", "class_name", "name", "sha256"]))
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")], said


def _checked(item: tuple[LabelledImage, bytes, str]) -> tuple[LabelledImage, str, str | None]:
    image, data, digest = item
    try:
        decode_image(data, DecodeLimits())
    except UndecodableImageError as error:
        return image, digest, str(error)
    return image, digest, None


def _public_name(name: str, val: str) -> str:
    """Return an image's name without the folders that lead to it: where a host keeps them is nobody's business."""
    inside = name.removeprefix(val.rstrip("/") + "/")
    return inside if inside != name else re.sub(r"^.*/(?=[^/]*\.tar/)", "", name)


def _ranked(rankings: str | Path, validation: pd.DataFrame) -> Rankings:
    found = Rankings.load(rankings)
    have = set(zip(validation["class_id"], validation["sha256"], strict=True))
    missing = [k for k in zip(found.table["class_id"], found.table["sha256"], strict=True) if k not in have]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(found.table)} images ranked in {rankings} are not validation images, the first of "
            f"class {missing[0][0]} with SHA-256 {missing[0][1][:12]}: expected rankings of the same images."
        )
    return found


def _pictures(data: PublishedDataset, spurious: pd.DataFrame, boards: str | Path | None) -> Iterator[tuple[str, bytes]]:
    threads = os.cpu_count() or 1
    of_boards = ((f"board:{concept}", lambda d=file: d) for concept, file in sorted(data.boards(boards)))
    yield from ordered_map(partial(_small, side=_BOARD), of_boards, threads=threads)
    first = {sha256: row for row, sha256 in reversed(list(enumerate(spurious["sha256"])))}
    of_images = ((f"image:{sha256}", partial(data.image, row)) for sha256, row in sorted(first.items()))
    yield from ordered_map(partial(_small, side=_THUMBNAIL), of_images, threads=threads)


def _small(item: tuple[str, Callable[[], bytes]], side: int) -> tuple[str, bytes]:
    key, read = item
    try:
        picture = Image.fromarray(decode_image(read(), DecodeLimits()))
    except UndecodableImageError as error:
        raise DataError(f"the picture {key} cannot be decoded: {error}") from error
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return key, buffer.getvalue()
