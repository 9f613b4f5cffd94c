"""α of training images by the scoring model, found by the images' hashes: what SpuFix is transferred with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.features.labelled import Indices, LabelledFeatures
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.io import atomic_path

__all__ = ["ALPHAS_SCHEMA", "ClassAlphas", "alphas_of_store", "read_alphas", "write_alphas"]

#: α of one image on one component, one a row.
ALPHAS_SCHEMA = pa.schema(
    [("sha256", pa.string()), ("class_id", pa.string()), ("component", pa.int32()), ("alpha", pa.float32())]
)


@dataclass(frozen=True, eq=False)
class ClassAlphas:
    """α of the training images of one class.

    Attributes:
        class_id: The class.
        concept_ids: L concepts of the class.
        components: Their components.
        sha256: n digests of image files, 32 bytes each; none twice.
        alpha: (n, L) α, or any other score that is higher where there is more of the concept.
    """

    class_id: str
    concept_ids: tuple[str, ...]
    components: tuple[int, ...]
    sha256: tuple[bytes, ...]
    alpha: NDArray[np.float32]


class ImagesByClassId(LabelledFeatures):
    """The images of some classes of a store, with the hashes of their files.

    Args:
        store: The store; its rows' class ids decide, whatever label space its model has.
        class_ids: The classes.
    """

    def __init__(self, store: FeatureStore, class_ids: Sequence[str]) -> None:
        super().__init__(store, class_ids=class_ids)
        used = np.flatnonzero(self.label >= 0)
        # Each part's rows are read once, here: a class is spread over all parts.
        self._digests: dict[int, bytes] = {}
        for part, place, rows in self.by_part(used):
            digests = part.rows(["sha256"]).column("sha256").take(rows).to_pylist()
            if None in digests:
                raise DataError(f"part {part.path.name} has an image without its SHA-256: images are matched by it.")
            self._digests.update(zip(used[place].tolist(), digests, strict=True))

    def digests(self, images: Indices) -> list[bytes]:
        """Return the hashes of the image files of some of the classes' images."""
        return [self._digests[i] for i in images.tolist()]


def alphas_of_store(bank: ConceptBank, store: FeatureStore) -> Iterator[ClassAlphas]:
    """Score the training images of each class of a bank on the class's concepts.

    Args:
        bank: The concepts to take out.
        store: Features of the training images by the bank's model.

    Yields:
        Each class of the bank, in the order in which they first come.

    Raises:
        StoreError: Another model, or other preprocessing, made the features.
        DataError: The store has no images of a class, or a feature is NaN or infinite.
    """
    bank.check_features(store.config.weights_sha256, store.config.sha256, str(store.path))
    class_ids = bank.table["class_id"].drop_duplicates().tolist()
    index = ImagesByClassId(store, class_ids)
    for class_id in class_ids:
        rows = bank.choose(class_ids=[class_id])
        images = index.images(class_id)
        if not len(images):
            raise DataError(f"{store.path} has no images of class {class_id!r}: expected its training images.")
        alpha = rows.score(index.features(images))
        digests = index.digests(images)
        # The same file may be there twice; its α is the same.
        first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
        kept = sorted(first.values())
        yield ClassAlphas(
            class_id,
            tuple(rows.table["concept_id"]),
            tuple(int(c) for c in rows.table["component"]),
            tuple(digests[i] for i in kept),
            alpha[kept],
        )


def write_alphas(path: str | Path, classes: Sequence[ClassAlphas]) -> None:
    """Write α as parquet (:data:`ALPHAS_SCHEMA`), whole or not at all."""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, ALPHAS_SCHEMA, compression="zstd") as writer:
        for one in classes:
            count, width = one.alpha.shape
            columns = {
                "sha256": np.repeat([digest.hex() for digest in one.sha256], width),
                "class_id": [one.class_id] * (count * width),
                "component": np.tile(np.array(one.components, np.int32), count),
                "alpha": one.alpha.ravel(),
            }
            writer.write_table(pa.table(columns, schema=ALPHAS_SCHEMA))


def read_alphas(path: str | Path) -> list[ClassAlphas]:
    """Read α that :func:`write_alphas` wrote; concepts are named ``npca/<class id>/<component>``.

    Raises:
        DataError: The file is missing or of another form; a hash is invalid; an image lacks a component of its class or
            has it twice; or an α is NaN or infinite.
    """
    try:
        table = pq.read_table(path).select(ALPHAS_SCHEMA.names).cast(ALPHAS_SCHEMA)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        reason = one_line(error)
        raise DataError(f"{path} holds no α: expected parquet with {ALPHAS_SCHEMA.names} ({reason}).") from error
    if any(column.null_count for column in table.columns) or not len(table):
        raise DataError(f"{path} holds no rows, or empty cells: expected α of images.")
    frame = table.to_pandas()
    if not np.isfinite(frame["alpha"]).all():
        raise DataError(f"{path} holds an α that is NaN or infinite: expected finite numbers.")
    return [_one_class(path, str(class_id), rows) for class_id, rows in frame.groupby("class_id", sort=True)]


def _one_class(path: str | Path, class_id: str, rows: pd.DataFrame) -> ClassAlphas:
    if rows.duplicated(["sha256", "component"]).any():
        raise DataError(f"{path} gives an image of class {class_id!r} two α of one component: expected one.")
    wide = rows.pivot(index="sha256", columns="component", values="alpha")
    if wide.isna().to_numpy().any():
        raise DataError(f"{path} lacks components of some images of class {class_id!r}: expected the same for all.")
    try:
        digests = tuple(bytes.fromhex(text) for text in wide.index)
    except ValueError:
        digests = ()
    if any(len(digest) != 32 for digest in digests) or len(digests) != len(wide):
        raise DataError(f"{path} has a sha256 of class {class_id!r} that is invalid: expected 64 hexadecimal digits.")
    components = tuple(int(c) for c in wide.columns)
    names = tuple(f"npca/{class_id}/{c}" for c in components)
    return ClassAlphas(class_id, names, components, digests, wide.to_numpy(np.float32))
