"""An image folder as an ordered stream of files to pack, each with a key and a class."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spurious_imagenet.benchmark.shards import IMAGE_EXTENSIONS
from spurious_imagenet.errors import DataError

__all__ = ["ImageFile", "ImageFolder"]

_ODD = re.compile(r"[^A-Za-z0-9_-]")
_MAX_STEM = 80
_WORDNET_ID = re.compile(r"n\d{8}")

#: Called with a file (relative to the folder) that is not packed, and why.
OnSkip = Callable[[str, str], None]


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
    """A folder of images: flat, or one sub-folder a class.

    Keys are the relative path without its extension, ``class/stem`` with classes and ``stem`` without, so they are
    unique over all shards. Every part keeps to ASCII letters, digits, ``_`` and ``-`` (a dot would cut the key): other
    characters become ``_`` and parts end after 80; where that, or an equal stem beside it (``a.jpg``, ``a.png``), could
    make two keys equal, 12 hexadecimal digits of the part's SHA-256 follow.

    Raises:
        DataError: It is no folder, holds no image, or holds both images and folders with images.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder: expected one with images.")
        self.root = root
        self._real_root = root.resolve()
        entries = _listed(root)
        self._classes = tuple(e.name for e in entries if _is_folder(e) and _holds_images(root / e.name))
        loose = next((e.name for e in entries if not e.is_dir() and _is_image(e.name)), None)
        if self._classes and loose is not None:
            raise DataError(
                f"{root} holds both images ({_text(loose)}) and folders of images ({_text(self._classes[0])}): "
                "expected either images alone, or one folder a class."
            )
        if not self._classes and loose is None:
            raise DataError(
                f"{root} holds no images: expected files such as .jpg or .png, or one folder a class "
                "(links to folders are not followed)."
            )

    @cached_property
    def labels(self) -> tuple[str | None, dict[str, int], dict[str, str]]:
        """The label space, and index and name by class id.

        The indices are ImageNet-1k's where all folders are WordNet ids of it, else positions in sorted order.
        """
        ids = [_text(name) for name in self._classes]
        if not ids:
            return None, {}, {}
        if all(_WORDNET_ID.fullmatch(i) for i in ids):
            from spurious_imagenet.benchmark.models.labels import imagenet_label_space

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
        for entry in _listed(self.root):
            if entry.is_dir() and entry.name not in self._classes:
                on_skip(_text(entry.name), _folder_refusal(entry) or "folder without images")
            elif self._classes and not entry.is_dir():
                on_skip(_text(entry.name), "outside of the class folders")
        if not self._classes:
            yield from self._walk(Path(), None, on_skip, deeper=False)
        for name in self._classes:
            yield from self._walk(Path(name), _text(name), on_skip, deeper=True)

    def _walk(self, folder: Path, class_id: str | None, on_skip: OnSkip, *, deeper: bool) -> Iterator[ImageFile]:
        entries = _listed(self.root / folder)
        names = []
        for entry in entries:
            if entry.is_dir():
                continue
            if reason := self._refusal(entry):
                on_skip(_text((folder / entry.name).as_posix()), reason)
            else:
                names.append(entry.name)
        keys = _safe_parts([Path(name).stem for name in names], names)
        prefix = "".join(f"{_safe_parts([part], [part])[0]}/" for part in folder.parts)
        for name, key in zip(names, keys, strict=True):
            yield ImageFile(self.root / folder / name, _text((folder / name).as_posix()), prefix + key, class_id)
        for entry in entries if deeper else []:
            if entry.is_dir() and (reason := _folder_refusal(entry)):
                on_skip(_text((folder / entry.name).as_posix()), reason)
            elif entry.is_dir():
                yield from self._walk(folder / entry.name, class_id, on_skip, deeper=True)

    def _refusal(self, entry: os.DirEntry[str]) -> str | None:
        if not _is_image(entry.name):
            return "hidden file" if entry.name.startswith(".") else "not an image file name"
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(self._real_root):
            return "link that leads outside of the folder"
        if not entry.is_file():
            return "broken link or special file"
        return None if entry.stat().st_size else "empty file"


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror}.") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and _folder_refusal(entry) is None


def _folder_refusal(entry: os.DirEntry[str]) -> str | None:
    if entry.is_symlink():
        return "link to a folder"
    return "hidden folder" if entry.name.startswith(".") else None


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix[1:].lower() in IMAGE_EXTENSIONS


def _holds_images(folder: Path) -> bool:
    entries = _listed(folder)
    return any(not e.is_dir() and _is_image(e.name) for e in entries) or any(
        _holds_images(folder / e.name) for e in entries if _is_folder(e)
    )


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


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
