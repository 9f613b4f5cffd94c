"""Images out of the shards that a file names, wherever these shards are now, each known by the hash of its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from spurious_imagenet.errors import DataError
from spurious_imagenet.io import moved_along
from spurious_imagenet.shards._addresses import expand_shards
from spurious_imagenet.shards._ranges import read_ranges
from spurious_imagenet.shards.remote import local_path

if TYPE_CHECKING:
    import pandas as pd


class StoredImage(NamedTuple):
    """An image in a shard.

    Attributes:
        key: What it is called.
        offset: Its first byte.
        size: Its bytes.
        sha256: Hexadecimal hash of them.
    """

    key: str
    offset: int
    size: int
    sha256: str

    def has(self, data: bytes) -> bool:
        """Tell whether these are the image's bytes."""
        return hashlib.sha256(data).hexdigest() == self.sha256


@dataclass(frozen=True)
class ShardImages:
    """Reads images of the shards that a file names by their addresses.

    A local shard that is not where the file says is looked for where it lies if the file and the shard were moved
    together: the end of its address below any folder that the file is in. A place counts only if the image that is
    wanted from it has the right bytes there.

    Attributes:
        beside: The file, or its folder.
        shards: Where the shards are, anything that :func:`expand_shards` takes, in place of where the file says.
        since: What was made of the images when they were read first, for errors: "its features were made".
        allow_pipe: Run the command of a ``pipe:`` address.
    """

    beside: Path
    shards: tuple[str, ...] = ()
    since: str = "its features were made"
    allow_pipe: bool = False
    _found: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def read(self, shard: str, images: Sequence[StoredImage]) -> Iterator[bytes]:
        """Yield the bytes of some images of a shard, in the order asked for.

        Raises:
            DataError: The shard is nowhere, or an image has other bytes than it had.
            ConfigError: ``pipe:`` without ``allow_pipe``.
        """
        if not images:
            return
        place = self.place(shard, images[0])
        pieces = read_ranges(place, [(image.offset, image.size) for image in images], allow_pipe=self.allow_pipe)
        for image, data in zip(images, pieces, strict=True):
            if not image.has(data):
                raise DataError(f"image {image.key} of {place} has changed since {self.since}.")
            yield data

    def read_rows(self, rows: pd.DataFrame) -> Iterator[bytes]:
        """Yield the bytes of a table's images, in the order of its rows; neighbours of one shard are read together.

        Args:
            rows: With ``shard``, ``key``, ``offset``, ``size`` and hexadecimal ``sha256``.

        Raises:
            DataError: A shard is nowhere, or an image has other bytes than it had.
            ConfigError: ``pipe:`` without ``allow_pipe``.
        """
        places = zip(rows["key"], rows["offset"].map(int), rows["size"].map(int), rows["sha256"], strict=True)
        images = zip(rows["shard"], map(StoredImage._make, places), strict=True)
        for shard, run in groupby(images, key=itemgetter(0)):
            yield from self.read(shard, [image for _, image in run])

    def place(self, shard: str, image: StoredImage) -> str:
        """Return where a shard is now, known by one of its images.

        Raises:
            DataError: It is nowhere.
        """
        if shard not in self._found:
            self._found[shard] = self._search(shard, image)
        return self._found[shard]

    def _search(self, shard: str, image: StoredImage) -> str:
        if not self.shards and local_path(shard) is None:
            return shard
        if self.shards:
            places = self._given(shard)
        else:
            candidates = (local_path(shard) or Path(shard), *moved_along(local_path(shard) or shard, self.beside))
            places = [str(place) for place in candidates if place.is_file()]
        for place in places:
            if self._holds(place, image):
                return place
        if self.shards:
            raise DataError(
                f"none of the {len(places)} shards given by --shards has the bytes of image {image.key} of {shard}: "
                "expected the shards that it was read from, or copies of them."
            )
        if places:
            raise DataError(f"image {image.key} of {shard} has changed since {self.since}.")
        raise DataError(
            f"shard {shard} is no longer there, nor has it moved together with {self.beside}: say with --shards where "
            "the shards are now."
        )

    def _given(self, shard: str) -> list[str]:
        """Return the given shards, those of the same file name first."""
        name, given = _name(shard), expand_shards(self.shards, allow_pipe=self.allow_pipe)
        return sorted(given, key=lambda place: _name(place) != name)

    def _holds(self, place: str, image: StoredImage) -> bool:
        try:
            data = next(read_ranges(place, [(image.offset, image.size)], allow_pipe=self.allow_pipe))
        except DataError:
            if local_path(place) is None:  # a server that does not answer says nothing of the bytes
                raise
            return False
        return image.has(data)


def _name(shard: str) -> str:
    return shard.split("?", maxsplit=1)[0].rsplit("/", 1)[-1]
