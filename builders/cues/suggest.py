"""Core or spurious, suggested from where a concept's activation maps lie on given object masks (SR appendix G)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from spurious_imagenet.builders.visualise.align_masks import align
from spurious_imagenet.concepts.verdict import ConceptVerdict, VerdictValue, Vote
from spurious_imagenet.concepts.verdicts import ConceptVerdicts
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.images import Preprocess, View, read_picture

__all__ = ["Suggestion", "mass_on_object", "suggest"]

_WHOLE = View(0.0, 0.0, 1.0, 1.0)
_SOURCE = "activation-mass"


class Suggestion(NamedTuple):
    """Where a concept's maps lie.

    Attributes:
        concept_id: The concept.
        images: Images with a map that is not empty and an object mask.
        share: Mean share of a map's mass that lies on the object, in [0, 1].
        contrast: Median ratio of a map's density on the object to its density beside it; 1 is a map that does not care.
        verdict: ``core`` where the contrast is high, ``spurious`` where it is low.
    """

    concept_id: str
    images: int
    share: float
    contrast: float
    verdict: VerdictValue


def mass_on_object(map_: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Measure how much of an activation map lies on an object.

    Args:
        map_: (S, S) uint8 activation map, anything but 0 everywhere.
        mask: (S, S) whether a pixel is the object's; some are, some are not.

    Returns:
        The share of the map's mass on the object, in [0, 1]; and the ratio of the mean of the map on the object to its
        mean beside it, infinite where it is 0 there.

    Raises:
        DataError: The map is empty, the mask is or covers everything, or their shapes differ.
    """
    if map_.shape != mask.shape or not map_.any() or not mask.any() or mask.all():
        raise DataError(
            f"a map of shape {map_.shape} and mass {map_.sum()} met an object mask of shape {mask.shape} and "
            f"{mask.sum()} pixels: expected equal shapes, some mass, and some but not all pixels."
        )
    wide = map_.astype(np.float64)
    on, beside = float(wide[mask].mean()), float(wide[~mask].mean())
    return float(wide[mask].sum() / wide.sum()), on / beside if beside else np.inf


def suggest(
    masks: str | Path,
    objects: str | Path,
    *,
    object_value: int | None = None,
    spurious_below: float = 1.7,
    core_above: float = 2.0,
    on_coverage: Callable[[int, int], None] | None = None,
) -> tuple[ConceptVerdicts, list[Suggestion]]:
    """Suggest a verdict for each concept that has activation maps.

    Args:
        masks: A directory that ``spurious masks`` wrote.
        objects: Object masks as PNG, named by the image's key (``KEY.png``) or by the hexadecimal SHA-256 of its bytes.
        object_value: The pixel value that marks the object; any but 0 where left out.
        spurious_below: A contrast below it suggests ``spurious``.
        core_above: A contrast above it suggests ``core``; between the two a concept is ``unclear``.
        on_coverage: Told of how many images there are object masks, and how many images there are.

    Returns:
        Verdicts that ``spurious annotate`` takes, and the measures behind them. A concept without a usable image has
        neither.

    Raises:
        ConfigError: The thresholds are not in order.
        DataError: The directory holds no masks, no image has an object mask, or one is named by a key that two images
            have.
    """
    if not 0 <= spurious_below <= core_above:
        raise ConfigError(
            f"thresholds {spurious_below} and {core_above} are not in order: expected 0 <= first <= second."
        )
    root, folder = Path(masks), _Objects(Path(objects), Path(masks))
    preprocess, weights = _made_with(root)
    found: list[Suggestion] = []
    verdicts: list[ConceptVerdict] = []
    for concept, rows in _concepts(root):
        measured = [m for m in (_measure(root, row, preprocess, folder, object_value) for row in rows) if m is not None]
        if not measured:
            continue
        share = float(np.mean([m[0] for m in measured]))
        # A mean of logarithms would lose the maps that are 0 on one side: the median keeps them.
        contrast = float(np.median([m[1] for m in measured]))
        verdict: VerdictValue = (
            "spurious" if contrast < spurious_below else "core" if contrast > core_above else "unclear"
        )
        found.append(Suggestion(concept, len(measured), share, contrast, verdict))
        verdicts.append(_verdict(rows[0], found[-1], weights))
    if not found:
        raise DataError(f"{objects} has an object mask of no image of {root}: expected files such as KEY.png.")
    if on_coverage is not None:
        on_coverage(folder.used, folder.images)
    return ConceptVerdicts(tuple(verdicts)), found


def _made_with(root: Path) -> tuple[Preprocess, str]:
    try:
        config = json.loads((root / "config.json").read_text(encoding="utf-8"))
        known = {name: config["preprocess"][name] for name in Preprocess.model_fields if name in config["preprocess"]}
        return Preprocess.model_validate(known), str(config["weights_sha256"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{root} holds no masks that `spurious masks` wrote: {error}") from error


def _concepts(root: Path) -> Iterator[tuple[str, list[pd.Series]]]:
    """Yield each concept's mask rows, one class's listing in memory at a time."""
    for listing in sorted(root.glob("*/metadata.parquet")):
        table = _listing(listing)
        table["folder"] = listing.parent.name
        for concept, rows in table.groupby("concept_id", sort=False):
            yield str(concept), [row for _, row in rows.iterrows()]


def _listing(file: Path, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pq.read_table(file, columns=columns).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    return table


def _pixels(file: Path) -> NDArray[np.uint8]:
    """Read an image's values, of colours the largest; an alpha channel says nothing."""
    image = read_picture(file, "mask")
    values = np.asarray(image.convert({"RGBA": "RGB", "LA": "L", "PA": "P"}.get(image.mode, image.mode)))
    return np.asarray(values.max(axis=2) if values.ndim == 3 else values, dtype=np.uint8)


class _Objects:
    """Object masks, found by an image's hash, or by its key where no other image has that key."""

    def __init__(self, folder: Path, masks: Path) -> None:
        self._folder = folder
        self._images: dict[str, dict[str, str]] = defaultdict(dict)
        for listing in sorted(masks.glob("*/metadata.parquet")):
            table = _listing(listing, columns=["key", "sha256", "shard"])
            for row in table.itertuples(index=False):
                self._images[str(row.key)].setdefault(str(row.sha256), str(row.shard))
        self._used: set[str] = set()

    @property
    def images(self) -> int:
        """Images that have an activation map."""
        return len({sha256 for found in self._images.values() for sha256 in found})

    @property
    def used(self) -> int:
        """Those of which an object mask was found."""
        return len(self._used)

    def find(self, key: str, sha256: str) -> Path | None:
        """Return an image's object mask, None where there is none."""
        file = self._file(sha256)
        if file is None and (file := self._file(key)) is not None and len(self._images[key]) > 1:
            (one, place), (other, elsewhere), *_ = self._images[key].items()
            raise DataError(
                f"object mask {file} may be of image {one} in {place} or of {other} in {elsewhere}, since both have "
                f"the key {key!r}: name it by the SHA-256 of its image."
            )
        self._used |= {sha256} if file is not None else set()
        return file

    def _file(self, name: str) -> Path | None:
        """Find a file by its name; a key comes from inside a tar, so it may not lead out of the folder."""
        file = self._folder / f"{name}.png"
        return file if file.resolve().is_relative_to(self._folder.resolve()) and file.is_file() else None


def _measure(
    root: Path, row: pd.Series, preprocess: Preprocess, objects: _Objects, value: int | None
) -> tuple[float, float] | None:
    """Measure one image; None where it has no object mask, or either is empty in what the model sees."""
    file = objects.find(str(row.key), str(row.sha256))
    if file is None:
        return None
    map_, marked = _pixels(root / row.folder / row.file_name), _pixels(file)
    inside = marked == value if value is not None else marked > 0
    side = len(map_)
    # A square of the whole image, since a view is in parts of width and height.
    square = Image.fromarray(inside.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BOX)
    seen = preprocess.view(int(row.width), int(row.height))
    mask = align(np.asarray(square), _WHOLE, seen, side) > 127
    return mass_on_object(map_, mask) if map_.any() and mask.any() and not mask.all() else None


def _verdict(row: pd.Series, found: Suggestion, weights: str) -> ConceptVerdict:
    reason = f"{found.share:.2f} of the map's mass on the object, {found.contrast:.2f} times as dense as beside it"
    return ConceptVerdict(
        concept_id=found.concept_id,
        kind=str(row.kind),
        class_index=int(row.class_index),
        class_id=str(row.class_id),
        component=int(row.component),
        verdict=found.verdict,
        source=_SOURCE,
        votes=(Vote(labeler=_SOURCE, answer=found.verdict, reason=reason),),
        weights_sha256=weights,
    )
