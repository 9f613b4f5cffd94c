"""What a shard holds: one entry per sample with the byte ranges of its image, JSON and label, and every reject."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from dataclasses import dataclass, field, replace

from spurious_imagenet.shards._opening import LocalShard
from spurious_imagenet.shards._tar import Member, TarDamageError, walk_tar

__all__ = ["IMAGE_EXTENSIONS", "SampleEntry", "ShardIndex", "index_shard"]

#: File name extensions of images, lower case; upper case counts too.
IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})

_NOTES = ("json", "cls")
_MAX_NAME = 4096
_LINKS = {tarfile.SYMTYPE: "symbolic link", tarfile.LNKTYPE: "hard link"}


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """Where one sample's bytes lie in its tar. A size of 0 means that there is no such member.

    Attributes:
        key: Member name up to the first dot of its base name.
        member: Name of the image's member.
        offset: First byte of the image.
        size: Bytes of the image.
        meta_offset: First byte of the ``.json``.
        meta_size: Bytes of the ``.json``.
        cls_offset: First byte of the ``.cls``.
        cls_size: Bytes of the ``.cls``.
    """

    key: str
    member: str
    offset: int
    size: int
    meta_offset: int = 0
    meta_size: int = 0
    cls_offset: int = 0
    cls_size: int = 0


@dataclass(frozen=True)
class ShardIndex:
    """The index of one shard.

    Attributes:
        samples: In the order of their images in the tar; keys are unique.
        rejects: (name, reason) of everything that could have been a sample and is not: the name is a member's or, for
            ``no image``, a key.
        ignored: Members of other kinds (text, pickles, further metadata), counted by extension; never read.
        damage: What is wrong with the tar, where it was indexed with ``salvage``; also the last reject.
    """

    samples: tuple[SampleEntry, ...]
    rejects: tuple[tuple[str, str], ...]
    ignored: Counter[str] = field(default_factory=Counter)
    damage: str | None = None


def index_shard(shard: LocalShard, *, salvage: bool = False) -> ShardIndex:
    """Index a shard by the WebDataset convention, reading only the tar's headers.

    Members that follow each other and share a key form a sample. Its image is the first one with a plain image
    extension (``x.jpg``); only where there is none, the first with a compound one (``x.left.jpg``), so that a mask
    beside the image (``x.mask.png``) is never taken for it. A run of members without an image lends its JSON and
    label to the sample of its key, wherever that is. Hidden files and directories are skipped.

    Every image that competes for its sample, and every key without one, is in exactly one of ``samples`` and
    ``rejects``. The reasons are ``duplicate key``, ``no image``, ``empty file``, ``unsafe member name`` and
    ``not a regular file (...)``.

    Args:
        shard: The shard, from :func:`open_shard`.
        salvage: Return what lies before the damage of a damaged tar, with the damage as a reject, instead of
            raising. The last sample before it may lack its JSON and label.

    Raises:
        DataError: The tar is damaged (unless ``salvage``), empty or compressed.
    """
    grouping = _Grouping()
    damage: TarDamageError | None = None
    try:
        for member in walk_tar(shard.path, shard.url):
            grouping.add(member)
    except TarDamageError as error:
        if not salvage:
            raise
        damage = error
    rejects = grouping.finish()
    if damage is not None:
        rejects.append((f"byte {damage.position}", str(damage)))
    found = tuple(grouping.samples.values())
    return ShardIndex(found, tuple(rejects), grouping.ignored, str(damage) if damage else None)


class _Grouping:
    """Members in, samples and rejects out; holds the members of one run of equal keys at a time."""

    def __init__(self) -> None:
        self.samples: dict[str, SampleEntry] = {}
        self.ignored: Counter[str] = Counter()
        self._rejects: list[tuple[str, str]] = []
        self._key = ""
        self._run: list[tuple[str, Member]] = []
        self._lent: dict[str, dict[str, Member]] = {}
        self._only_empty: set[str] = set()

    def add(self, member: Member) -> None:
        if member.type == tarfile.DIRTYPE:
            return
        if reason := _refusal(member):
            self._rejects.append((member.name[:_MAX_NAME], reason))
            return
        key, extension = _split(member.name)
        if not key:
            self.ignored[extension] += 1
            return
        if key != self._key:
            self._end_run()
            self._key = key
        self._run.append((extension, member))

    def finish(self) -> list[tuple[str, str]]:
        self._end_run()
        for key, notes in self._lent.items():
            if (sample := self.samples.get(key)) is not None:
                self._lend(sample, notes)
            elif key not in self._only_empty:
                self._rejects.append((key, "no image"))
        return self._rejects

    def _end_run(self) -> None:
        run, self._run = self._run, []
        if not run:
            return
        images = [m for e, m in run if e in IMAGE_EXTENSIONS] or [m for e, m in run if _is_compound_image(e)]
        notes: dict[str, Member] = {}
        for extension, member in run:
            if extension in _NOTES and extension not in notes:
                notes[extension] = member
            elif member not in images:
                self.ignored[extension] += 1
        if images:
            self._choose(images, notes)
        else:
            self._keep_for_later(notes)

    def _choose(self, images: list[Member], notes: dict[str, Member]) -> None:
        """Make the first image a sample unless its key has one; reject the others."""
        key, chosen = self._key, None
        for image in images:
            if image.size == 0:
                self._rejects.append((image.name, "empty file"))
            elif key in self.samples:
                self._rejects.append((image.name, "duplicate key"))
            else:
                chosen = self.samples[key] = SampleEntry(key, image.name, image.offset, image.size, *_ranges(notes))
        if chosen is None:
            self._only_empty.add(key)
            self.ignored.update(notes.keys())

    def _keep_for_later(self, notes: dict[str, Member]) -> None:
        kept = self._lent.setdefault(self._key, {})
        self.ignored.update(e for e in notes if e in kept)
        kept.update({e: m for e, m in notes.items() if e not in kept})

    def _lend(self, sample: SampleEntry, notes: dict[str, Member]) -> None:
        meta_offset, meta_size, cls_offset, cls_size = _ranges(notes)
        if "json" in notes:
            if sample.meta_size == 0:
                sample = replace(sample, meta_offset=meta_offset, meta_size=meta_size)
            else:
                self.ignored["json"] += 1
        if "cls" in notes:
            if sample.cls_size == 0:
                sample = replace(sample, cls_offset=cls_offset, cls_size=cls_size)
            else:
                self.ignored["cls"] += 1
        self.samples[sample.key] = sample


def _ranges(notes: dict[str, Member]) -> tuple[int, int, int, int]:
    """Return offset and size of the JSON and of the label; zeros where there is none."""
    meta, label = notes.get("json"), notes.get("cls")
    return (
        meta.offset if meta and meta.size else 0,
        meta.size if meta else 0,
        label.offset if label and label.size else 0,
        label.size if label else 0,
    )


def _is_compound_image(extension: str) -> bool:
    stem, _, last = extension.rpartition(".")
    return bool(stem) and last in IMAGE_EXTENSIONS


def _split(name: str) -> tuple[str, str]:
    """Split a member name into key and lower-case extension; hidden files and names without a dot have no key."""
    directory, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (directory + slash + stem if stem and dot else ""), extension.lower()


def _refusal(member: Member) -> str | None:
    if member.type in _LINKS or member.type not in tarfile.REGULAR_TYPES:
        return f"not a regular file ({_LINKS.get(member.type, f'type {member.type!r}')})"
    name = member.name
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or "\0" in name or len(name) > _MAX_NAME:
        return "unsafe member name"
    return None
