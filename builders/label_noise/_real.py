"""ReaL labels ("Are we done with ImageNet?"): every class that people see in an ImageNet validation image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from spurious_imagenet.errors import DataError
from spurious_imagenet.models.labels import imagenet_label_space
from spurious_imagenet.records import Record
from spurious_imagenet.texts import read_json

_IMAGES = 50_000
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})")
_TENTH = 0.1
_SEVERE, _WORST = -0.2, 5
"""SR section 5 looks at the 5 classes of most negative gap, and at those below -20 %."""


class MultiLabel(Record):
    """How many images of a group show several classes."""

    group: str
    images: int
    several: int
    """Images with ReaL labels of two classes or more."""
    none: int
    """Images that people could give no label."""

    @property
    def share(self) -> float | None:
        """``several / images``; None for an empty group."""
        return self.several / self.images if self.images else None


class RealReport(Record):
    """ReaL labels of the ranked and of the flagged images."""

    groups: tuple[MultiLabel, ...]
    """All ranked images; then the tenths of highest and lowest spuriosity of groups of classes."""
    classes: dict[str, tuple[MultiLabel, MultiLabel]]
    """Class id -> its tenth of highest and its tenth of lowest spuriosity."""
    flagged: int
    flagged_without_label: int
    """Flagged images whose ReaL labels, at least one, do not hold the image's label: it is wrong."""
    flagged_with_suggestion: int
    """Flagged images whose ReaL labels hold the suggested class."""
    flagged_unlabelled: int
    """Flagged images that people could give no label."""


class RealLabels:
    """Every class that each image shows.

    Args:
        path: A JSON list of 50,000 lists of ImageNet class indices, one an ImageNet validation image in the order of
            file names; or an object from image name to such a list, which may hold class ids in place of indices.

    Raises:
        DataError: The file is missing, no JSON, or of another form; the sentence names the entry.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        content = read_json(path, "ReaL labels")
        if isinstance(content, list) and len(content) != _IMAGES:
            raise DataError(
                f"{path} lists {len(content)} images: expected {_IMAGES}, one an ImageNet validation image."
            )
        if not isinstance(content, list | dict):
            raise DataError(f"{path} holds {type(content).__name__}: expected a list, or an object from image to list.")
        self._imagenet = imagenet_label_space("imagenet-1k").class_ids
        pairs = content.items() if isinstance(content, dict) else enumerate(content, start=1)
        self._labels: dict[str, frozenset[str]] = {}
        for key, values in pairs:
            name = f"ILSVRC2012_val_{key:08d}" if isinstance(key, int) else _name(key)
            if name in self._labels:
                raise DataError(f"{path} names image {name} twice, the second time as {key!r}: expected each once.")
            self._labels[name] = self._classes(values, f"{path}, image {name}")
        self._bare = _by_bare_name(self._labels)

    def _classes(self, values: Any, where: str) -> frozenset[str]:
        if not isinstance(values, list):
            raise DataError(f"{where} has {values!r}: expected a list of classes.")
        return frozenset(self._class_of(value, where) for value in values)

    def _class_of(self, value: Any, where: str) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(self._imagenet):
            raise DataError(f"{where} has the class {value!r}: expected an index from 0 to {len(self._imagenet) - 1}.")
        return self._imagenet[value]

    def of(self, names: pd.Series) -> list[frozenset[str]]:
        """Return the classes that each image shows.

        Args:
            names: Names of images; extensions do not count, and folders only where two images have one name.

        Raises:
            DataError: An image is not among them, or they do not say of which of two images they speak.
        """
        wanted = {name: _name(name) for name in names}
        alike = _by_bare_name(wanted.values())
        found = [self._find(wanted[name], alike) for name in names]
        missing = [name for name, labels in zip(names, found, strict=True) if labels is None]
        if missing:
            raise DataError(
                f"{self.path} has no labels of {len(missing)} of {len(found)} ranked images, such as {missing[0]!r}."
            )
        return [labels for labels in found if labels is not None]

    def _find(self, name: str, alike: Mapping[str, Sequence[str]]) -> frozenset[str] | None:
        if name in self._labels:
            return self._labels[name]
        bare = PurePosixPath(name).name
        labelled, ranked = self._bare.get(bare, []), alike[bare]
        if labelled and (len(labelled) > 1 or len(ranked) > 1):
            raise DataError(
                f"{self.path} has labels of {' and '.join(map(repr, labelled[:2]))}, which may be those of "
                f"{' or '.join(map(repr, ranked[:2]))}: expected the names with their folders."
            )
        return self._labels[labelled[0]] if labelled else None


def _by_bare_name(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        found[PurePosixPath(name).name].append(name)
    return found


def _name(text: str) -> str:
    numbered = _NUMBERED.search(text)
    path = PurePosixPath(text)
    return numbered.group() if numbered else str(path.parent / path.stem)


def real_report(images: pd.DataFrame, flagged: pd.DataFrame, gaps: Mapping[str, float], real: RealLabels) -> RealReport:
    """Count images of several classes where spuriosity is highest and lowest (SR section 5), and check the flags.

    Args:
        images: Rows of rankings.
        flagged: Flagged images among them.
        gaps: Class id -> mean spurious gap.
        real: What people see.

    Raises:
        DataError: An image has no ReaL labels.
    """
    count = np.array([len(labels) for labels in real.of(images["name"])])
    worst = sorted(gaps, key=lambda c: (gaps[c], c))[:_WORST]
    chosen = {
        "all classes": set(images["class_id"]),
        f"the {len(worst)} classes of most negative gap": set(worst),
        f"classes with a gap below {_SEVERE:.0%}": {c for c, gap in gaps.items() if gap < _SEVERE},
    }
    groups = [_count("all ranked images", count)]
    for group, classes in chosen.items():
        groups += _ends(images, count, classes, group)
    shown = real.of(flagged["name"])
    labels, suggested = flagged["class_id"].tolist(), flagged["suggested_id"].tolist()
    return RealReport(
        groups=tuple(groups),
        classes={c: _ends(images, count, {c}, c) for c in sorted(set(images["class_id"]))},
        flagged=len(flagged),
        flagged_without_label=sum(bool(s) and c not in s for c, s in zip(labels, shown, strict=True)),
        flagged_with_suggestion=sum(c in s for c, s in zip(suggested, shown, strict=True)),
        flagged_unlabelled=sum(not s for s in shown),
    )


def _ends(images: pd.DataFrame, count: Any, classes: set[str], group: str) -> tuple[MultiLabel, MultiLabel]:
    inside = images["class_id"].isin(classes).to_numpy()
    percentile = images["percentile"].to_numpy(dtype=np.float64)
    return (
        _count(f"{group}, highest tenth", count[inside & (percentile > 1 - _TENTH)]),
        _count(f"{group}, lowest tenth", count[inside & (percentile < _TENTH)]),
    )


def _count(group: str, count: Any) -> MultiLabel:
    return MultiLabel(group=group, images=len(count), several=int((count > 1).sum()), none=int((count == 0).sum()))
