"""The α of ImageNet's training images that SFE published for its robust ResNet-50, found by the images' hashes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spurious_imagenet.benchmark.mitigation.spufix_alphas import ClassAlphas
from spurious_imagenet.concepts import ConceptVerdicts
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.labels import imagenet_label_space

#: Name of one of ImageNet's training images: its class and a number.
_NAME = re.compile(r"(?:.*/)?((n\d{8})_\d+)")


class _Image(NamedTuple):
    """A training image; ``sha256`` is None where it could not be read, but has its place in the order all the same."""

    name: str
    sha256: bytes | None


def read_sfe_alphas(folder: str | Path, store: FeatureStore, verdicts: ConceptVerdicts) -> list[ClassAlphas]:
    """Read ``spurious_alphas_train_<class index, 3 digits>.pt`` of the classes with spurious components.

    A file holds a matrix of one row a training image and one column a component, counted from 0. Its rows are in
    torchvision's order: the class's files sorted by name. That order is taken from the keys of a feature store of
    ImageNet's training images, which end in the files' names without extension; images that the store rejected keep
    their place.

    Args:
        folder: Your copy of the files.
        store: Features of ImageNet's training images by any model; only its rows are read.
        verdicts: The published components; see ``read_sfe_components``.

    Returns:
        α of the spurious components of each class, by class index.

    Raises:
        DataError: A file is missing, holds something else than such a matrix, or has another number of rows than the
            class has images; the store's keys are not names of ImageNet's files; or no verdict is ``spurious``.
    """
    components: dict[str, list[int]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.verdict == "spurious" and verdict.kind == "npca":
            components[verdict.class_id].append(verdict.component)
    if not components:
        raise DataError("the verdicts name no spurious component of kind 'npca': nothing to read α of.")
    labels = imagenet_label_space()
    order = sorted(components, key=labels.index)
    images = _images_in_order(store, set(order))
    return [
        _one_class(Path(folder) / f"spurious_alphas_train_{labels.index(k):03d}.pt", k, components[k], images[k], store)
        for k in order
    ]


def _images_in_order(store: FeatureStore, class_ids: set[str]) -> dict[str, list[_Image]]:
    """Return the images of each class as torchvision sorts them."""
    found: dict[str, list[_Image]] = defaultdict(list)
    for part in store.parts:
        rows = part.rows(["key", "class_id", "sha256"]).to_pydict()
        for key, class_id, digest in zip(rows["key"], rows["class_id"], rows["sha256"], strict=True):
            if class_id in class_ids:
                found[class_id].append(_Image(_file_name(key, class_id, store), digest))
        for reject in part.receipt.rejects:
            match = _NAME.fullmatch(reject.key)
            if match and match[2] in class_ids:
                found[match[2]].append(_Image(match[1], None))
    # torchvision sorts names with their extension, and a dot comes before any digit.
    return {class_id: sorted(found[class_id], key=lambda image: f"{image.name}.JPEG") for class_id in class_ids}


def _file_name(key: str, class_id: str, store: FeatureStore) -> str:
    match = _NAME.fullmatch(key)
    if match is None or match[2] != class_id:
        raise DataError(
            f"{store.path} has the key {key!r} in class {class_id!r}: expected names of ImageNet's training files, "
            f"such as {class_id}/{class_id}_10026, since the order of the published α is that of the names."
        )
    return match[1]


def _one_class(
    path: Path, class_id: str, components: Sequence[int], images: Sequence[_Image], store: FeatureStore
) -> ClassAlphas:
    matrix = _matrix(path)
    if len({image.name for image in images}) != len(images):
        raise DataError(f"{store.path} has an image of class {class_id!r} twice: expected each training image once.")
    if len(matrix) != len(images):
        raise DataError(
            f"{path} has {len(matrix)} rows, but {store.path} has {len(images)} images of class {class_id!r}: expected "
            "all training images of the class, since rows are matched by their order."
        )
    columns = sorted(components)
    if columns[-1] >= matrix.shape[1]:
        raise DataError(f"{path} has {matrix.shape[1]} columns: expected one of component {columns[-1]}.")
    # Equal files under two names have equal α.
    rows = {image.sha256: row for row, image in enumerate(images) if image.sha256 is not None}
    alpha = matrix[np.array(list(rows.values()), np.int64)[:, None], columns]
    if not np.isfinite(alpha).all():
        raise DataError(f"{path} holds an α that is NaN or infinite: expected finite numbers.")
    names = tuple(f"npca/{class_id}/{c}" for c in columns)
    return ClassAlphas(class_id, names, tuple(columns), tuple(rows), alpha)


def _matrix(path: Path) -> NDArray[np.float32]:
    if not path.is_file():
        raise DataError(f"there is no file {path}: expected one of each class with spurious components.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(
            f"{path} cannot be read without running code in it ({type(error).__name__}): expected one tensor."
        ) from error
    if not isinstance(content, torch.Tensor) or content.ndim != 2 or not content.is_floating_point():
        got = f"a {content.dtype} tensor of {content.ndim} axes" if isinstance(content, torch.Tensor) else "no tensor"
        raise DataError(f"{path} holds {got}: expected a matrix, one row per image and one column a component.")
    return content.detach().float().numpy()
