"""An image folder as an ordered stream of files to pack, each with a key and a class."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spurious_imagenet.images.folder import ImageTree, OnSkip, printable

__all__ = ["ImageFile", "ImageFolder"]

_ODD = re.compile(r"[^A-Za-z0-9_-]")
_MAX_STEM = 80
_WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ImageFile:
    """One image to pack.

    Attributes:
        path: Where it is.
        name: Its path relative to the folder; bytes that are not UTF-8 are written out.
        key: Its key in the shards, see :class:`ImageFolder`.
        class_id: Name of its class folder; None in a folder without classes.
    """

    path: Path
    name: str
    key: str
    class_id: str | None

    @property
    def extension(self) -> str:
        """The lower-case extension without the dot."""
        return self.path.suffix[1:].lower()


class ImageFolder:
    """A folder of images to pack, laid out as :class:`~spurious_imagenet.images.folder.ImageTree` takes it.

    Keys are the relative path without its extension, ``class/stem`` with classes and ``stem`` without, so they are
    unique over all shards. Every part keeps to ASCII letters, digits, ``_`` and ``-`` (a dot would cut the key): other
    characters become ``_`` and parts end after 80; where that, or an equal stem beside it (``a.jpg``, ``a.png``), could
    make two keys equal, 12 hexadecimal digits of the part's SHA-256 follow.

    Raises:
        DataError: It is not a folder of images.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tree = ImageTree(root)

    @property
    def reading(self) -> str | None:
        """How an odd layout was read, in a sentence; None where there is nothing to say."""
        return self._tree.reading

    @cached_property
    def labels(self) -> tuple[str | None, dict[str, int], dict[str, str]]:
        """The label space, and index and name by class id.

        The indices are ImageNet-1k's where all folders are WordNet ids of it, else positions in sorted order.
        """
        ids = list(self._tree.class_ids)
        if not ids:
            return None, {}, {}
        if all(_WORDNET_ID.fullmatch(i) for i in ids):
            from spurious_imagenet.models.labels import imagenet_label_space

            space = imagenet_label_space("imagenet-1k")
            if all(i in space for i in ids):
                return space.name, {i: space.index(i) for i in ids}, {i: space.class_names[space.index(i)] for i in ids}
        return "folders", {i: n for n, i in enumerate(ids)}, {i: i for i in ids}

    def files(self, on_skip: OnSkip) -> Iterator[ImageFile]:
        """Yield the images in order: classes sorted, in each the files of a folder sorted, then its sub-folders.

        Memory holds the names of one folder at a time. Links that lead outside the folder are not followed.

        Args:
            on_skip: Told of every other file, with the reason.
        """
        for group in self._tree.groups(on_skip):
            keys = _safe_parts([Path(name).stem for name in group.names], group.names)
            prefix = "".join(f"{_safe_parts([part], [part])[0]}/" for part in group.folder.parts)
            for name, key, class_id in zip(group.names, keys, group.class_ids, strict=True):
                path = group.folder / name
                yield ImageFile(self.root / path, printable(path.as_posix()), prefix + key, class_id)


def _safe_parts(stems: list[str], names: list[str]) -> list[str]:
    """Return one part of a key for each stem; ``names`` tell equal stems apart."""
    safe = [_ODD.sub("_", stem)[:_MAX_STEM] for stem in stems]
    count = Counter(stems)
    return [
        part if part == stem and count[stem] == 1 and not _is_reserved(part) else f"{part}-{_digest(name)}"
        for part, stem, name in zip(safe, stems, names, strict=True)
    ]


def _is_reserved(part: str) -> bool:
    return part.startswith("__") and part.endswith("__")  # webdataset skips such folders as its own metadata


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
