"""Folders of images as people have them, read in one way by every command.

What a file manager, a notebook or an archive leaves behind is not data: hidden files and folders, folders of the system
and links that lead elsewhere are skipped, each with its reason.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from spurious_imagenet.errors import DataError
from spurious_imagenet.shards.index import IMAGE_EXTENSIONS

__all__ = ["FolderGroup", "ImageTree", "OnSkip", "SkipCount", "image_files", "printable"]

#: Called with a file or folder (relative to the root) that is not read, and why.
OnSkip = Callable[[str, str], None]

#: What systems, archives and network disks put beside people's files; compared without case.
_SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "#recycle", "@tmp", "system volume information", "lost+found"}
)
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
#: The one folder of a set whose classes stand elsewhere, and the table in which Tiny-ImageNet's val/ has them.
_NO_CLASS = "images"
_ANNOTATIONS = "val_annotations.txt"
_MAX_ANNOTATIONS = 64 << 20


@dataclass(frozen=True)
class FolderGroup:
    """The images of one folder.

    Attributes:
        folder: Relative to the root.
        names: Their file names, sorted.
        class_ids: The class of each; None in a set without classes.
    """

    folder: PurePath
    names: list[str]
    class_ids: list[str | None]


@dataclass
class SkipCount:
    """What was not read.

    Attributes:
        counts: Reason -> how many files or folders.
        first: Reason -> the first of them.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        """Count a file or folder."""
        self.counts[reason] += 1
        self.first.setdefault(reason, name)

    def sentence(self, where: str) -> str | None:
        """Say what was skipped; None where nothing was."""
        if not self.counts:
            return None
        parts = (f"{count} x {reason} ({self.first[reason]})" for reason, count in self.counts.most_common())
        return f"{self.counts.total()} files or folders of {where} were skipped: {'; '.join(parts)}."


class ImageTree:
    """A folder of images: flat, or one sub-folder per class, or Tiny-ImageNet's own val/ with its table of classes.

    Below a class's folder images lie at any depth, as in ``CLASS/images/``. A single folder ``images`` is not a class.
    Links to folders are not followed, nor are links to files that lie outside of the root.

    Args:
        root: The folder.

    Raises:
        DataError: It is not a folder, holds no image, both images and folders with images, or the splits of a dataset.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder: expected one with images.")
        self.root = root
        self._real_root = root.resolve()
        self._entries = _listed(root)
        self.folders = tuple(e.name for e in self._entries if _is_folder(e) and _holds_images(root / e.name))
        self._check_layout(next((e.name for e in self._entries if not e.is_dir() and _is_image(e.name)), None))

    def _check_layout(self, loose: str | None) -> None:
        if self.folders and loose is not None:
            raise DataError(
                f"{self.root} holds both images ({printable(loose)}) and folders of images "
                f"({printable(self.folders[0])}): expected either images alone, or one folder per class."
            )
        if not self.folders and loose is None:
            skips = SkipCount()
            list(self.groups(skips.add))
            raise DataError(
                f"{self.root} holds no images: expected files such as .jpg or .png, or one folder per class "
                f"(links to folders are not followed). {skips.sentence(str(self.root)) or ''}".rstrip()
            )
        if self.folders and all(name.casefold() in _SPLITS for name in self.folders):
            raise DataError(
                f"{self.root} holds {', '.join(map(printable, self.folders))}, which are splits of a dataset and not "
                f"classes: expected one of them, such as {self.root / self.folders[0]}."
            )

    @cached_property
    def table(self) -> dict[str, str] | None:
        """File name -> class id where a table says the classes, as in Tiny-ImageNet's val/; else None."""
        if self.folders != (_NO_CLASS,) or not (self.root / _ANNOTATIONS).is_file():
            return None
        return _read_table(self.root / _ANNOTATIONS)

    @property
    def has_classes(self) -> bool:
        """Whether the images have classes."""
        return self.table is not None or self.folders not in ((), (_NO_CLASS,))

    @property
    def reading(self) -> str | None:
        """How an odd layout was read, in a sentence; None where there is nothing to say."""
        if self.folders != (_NO_CLASS,):
            return None
        if self.table is not None:
            return (
                f"{self.root}: the classes are those of {_ANNOTATIONS}, as in Tiny-ImageNet; {_NO_CLASS}/ is not one."
            )
        return f"{self.root}: {_NO_CLASS}/ is not a class, so its images have none."

    @cached_property
    def class_ids(self) -> tuple[str, ...]:
        """The classes that the folder's layout names, sorted."""
        if self.table is not None:
            return tuple(sorted(set(self.table.values())))
        return tuple(map(printable, self.folders)) if self.has_classes else ()

    def groups(self, on_skip: OnSkip) -> Iterator[FolderGroup]:
        """Yield the images by folder: classes sorted, in each the files of a folder sorted, then its sub-folders.

        Memory holds the names of one folder at a time.

        Args:
            on_skip: Told of every other file and of every folder that is not entered, with the reason.
        """
        for entry in self._entries:
            if entry.is_dir() and entry.name not in self.folders:
                on_skip(printable(entry.name), _folder_refusal(entry) or "folder without images")
            elif self.folders and not entry.is_dir() and not (self.table is not None and entry.name == _ANNOTATIONS):
                on_skip(printable(entry.name), _name_refusal(entry.name) or "outside of the class folders")
        if not self.folders:
            yield from self._walk(PurePath(), on_skip, deeper=False)
        for name in self.folders:
            yield from self._walk(PurePath(name), on_skip, deeper=True)

    def _walk(self, folder: PurePath, on_skip: OnSkip, *, deeper: bool) -> Iterator[FolderGroup]:
        entries = _listed(self.root / folder)
        names: list[str] = []
        class_ids: list[str | None] = []
        for entry in entries:
            if entry.is_dir():
                continue
            if reason := self._refusal(entry):
                on_skip(printable((folder / entry.name).as_posix()), reason)
            else:
                names.append(entry.name)
                class_ids.append(self._class_of(folder, entry.name))
        yield FolderGroup(folder, names, class_ids)
        for entry in entries if deeper else []:
            if entry.is_dir() and (reason := _folder_refusal(entry)):
                on_skip(printable((folder / entry.name).as_posix()), reason)
            elif entry.is_dir():
                yield from self._walk(folder / entry.name, on_skip, deeper=True)

    def _class_of(self, folder: PurePath, name: str) -> str | None:
        if self.table is not None:
            return self.table[name]
        return printable(folder.parts[0]) if self.has_classes else None

    def _refusal(self, entry: os.DirEntry[str]) -> str | None:
        reason = _file_refusal(entry, self._real_root)
        if reason is None and self.table is not None and entry.name not in self.table:
            return f"not in {_ANNOTATIONS}"
        return reason


def image_files(root: Path, on_skip: OnSkip) -> Iterator[Path]:
    """Yield all images below a folder, whatever its layout; skipped is what :class:`ImageTree` skips.

    Args:
        root: The folder.
        on_skip: Told of every other file and of every folder that is not entered, with the reason.
    """
    waiting, real_root = [PurePath()], root.resolve()
    while waiting:
        folder, inside = waiting.pop(), []
        for entry in _listed(root / folder):
            here = folder / entry.name
            reason = _folder_refusal(entry) if entry.is_dir() else _file_refusal(entry, real_root)
            if reason is not None:
                on_skip(printable(here.as_posix()), reason)
            elif entry.is_dir():
                inside.append(here)
            else:
                yield root / here
        waiting += reversed(inside)


def printable(name: str) -> str:
    """Return a file's name as text; bytes that are not UTF-8 are written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _read_table(path: Path) -> dict[str, str]:
    """Read file name and class id from the first two columns of a table that tabs divide."""
    try:
        if path.stat().st_size > _MAX_ANNOTATIONS:
            raise DataError(f"{path} is larger than {_MAX_ANNOTATIONS >> 20} MiB: expected one line per image.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, rest = line.partition("\t")
        class_id = rest.partition("\t")[0].strip()
        if not class_id or found.setdefault(name.strip(), class_id) != class_id:
            raise DataError(f"{path}, line {number}: {line[:80]!r}: expected a new file name, a tab and its class id.")
    return found


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
    if entry.name.startswith("."):
        return "hidden folder"
    return "folder of the system" if entry.name.casefold() in _SYSTEM_FOLDERS else None


def _file_refusal(entry: os.DirEntry[str], real_root: Path) -> str | None:
    if reason := _name_refusal(entry.name):
        return reason
    if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(real_root):
        return "link that leads outside of the folder"
    if not entry.is_file():
        return "broken link or special file"
    return None if entry.stat().st_size else "empty file"


def _name_refusal(name: str) -> str | None:
    if name.startswith("."):
        return "hidden file"
    if name.casefold() in _SYSTEM_FILES:
        return "file of the system"
    return None if _is_image(name) else "not an image file name"


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix[1:].lower() in IMAGE_EXTENSIONS


def _holds_images(folder: Path) -> bool:
    entries = _listed(folder)
    return any(not e.is_dir() and _is_image(e.name) for e in entries) or any(
        _holds_images(folder / e.name) for e in entries if _is_folder(e)
    )
