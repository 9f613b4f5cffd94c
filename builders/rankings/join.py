"""Tables without pixels, joined with the user's own copy of the images: by the hash of each file's bytes."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa

from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, Rankings
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.images.folder import SkipCount, image_files
from spurious_imagenet.shards import expand_shards, index_shard, open_shard, read_ranges
from spurious_imagenet.shards.remote import local_path

if TYPE_CHECKING:
    from datasets import Dataset

_log = logging.getLogger(__name__)

__all__ = ["FoundImage", "OwnImages", "join_images"]

_BATCH = 100
_NAMED = 3


class FoundImage(NamedTuple):
    """Where an image lies.

    Attributes:
        key: Its path in the folder, or its member's name in the shard, up to the first dot of the file name.
        file: The image file, or the shard.
        member: Name of the member in the shard; empty for an image file.
        offset: First byte in the shard.
        size: Bytes in the shard.
    """

    key: str
    file: str
    member: str = ""
    offset: int = 0
    size: int = 0

    @property
    def file_name(self) -> str:
        """The name of the image file, without folders; bytes that are not text are written out."""
        name = (self.member or self.file).replace("\\", "/").rsplit("/", 1)[-1]
        return os.fsencode(name).decode("utf-8", "backslashreplace")


class OwnImages:
    """Images in folders or shards, found by the hash of their bytes.

    Names only say where to look first: an image is taken where its hash is right, wherever it is and whatever its name.
    Nothing is unpacked, and names in a tar are never used as paths. Links to folders are not followed.

    Args:
        places: Folders of images, or shards as :func:`expand_shards` takes them.
        allow_pipe: Allow ``pipe:`` addresses, which run a shell command.

    Raises:
        DataError: A place is not there, or holds no images; or a shard is damaged.
    """

    def __init__(self, places: Sequence[str | Path] | str | Path, *, allow_pipe: bool = False) -> None:
        given = [str(p) for p in ([places] if isinstance(places, str | Path) else places)]
        self.name = ", ".join(given)
        self._allow_pipe = allow_pipe
        self._items = [item for place in given for item in _listed(place, allow_pipe)]
        if not self._items:
            raise DataError(f"{self.name or 'no place'} holds no images: expected a folder of images, or shards.")
        self._by_key: dict[str, list[int]] = defaultdict(list)
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(self._items):
            self._by_key[item.key].append(number)
            self._by_stem[_stem(item.key)].append(number)
        self._unread = set(range(len(self._items)))
        self._by_hash: dict[str, FoundImage] = {}

    def __len__(self) -> int:
        return len(self._items)

    def find(self, hashes: Sequence[str], names: Sequence[str]) -> list[FoundImage | None]:
        """Find images by hash, looking first where their names say.

        Files are read only until all are found: images of the right name first, then those of the same file name in
        any folder, then all others.

        Args:
            hashes: Hexadecimal SHA-256 of each image's bytes.
            names: The name under which each was known; equally many.

        Returns:
            Where each one is; None for those that are nowhere.
        """
        missing = {h: _key(n) for h, n in zip(hashes, names, strict=True) if h not in self._by_hash}
        self._read((i for key in missing.values() for i in self._by_key.get(key, ())), missing)
        self._read((i for key in list(missing.values()) for i in self._by_stem.get(_stem(key), ())), missing)
        self._read(range(len(self._items)), missing)
        return [self._by_hash.get(h) for h in hashes]

    def read(self, hashes: Sequence[str], found: Sequence[FoundImage]) -> list[bytes]:
        """Return the bytes of images, in the order given.

        Raises:
            DataError: An image is not there any more, or its bytes have changed.
        """
        content: dict[int, bytes] = dict(self._bytes_of(dict(enumerate(found))))
        for number, digest in enumerate(hashes):
            if hashlib.sha256(content[number]).hexdigest() != digest:
                where = found[number]
                raise DataError(f"image {where.member or where.file} of {self.name} has changed while it was joined.")
        return [content[number] for number in range(len(found))]

    def _read(self, numbers: Iterable[int], missing: dict[str, str]) -> None:
        """Hash images that have not been read yet until none is missing; forget those that are found."""
        if not missing:
            return
        wanted = sorted(self._unread.intersection(numbers))
        for number, data in self._bytes_of({i: self._items[i] for i in wanted}):
            digest = hashlib.sha256(data).hexdigest()
            self._unread.discard(number)
            self._by_hash.setdefault(digest, self._items[number])
            missing.pop(digest, None)
            if not missing:
                return

    def _bytes_of(self, images: dict[int, FoundImage]) -> Iterator[tuple[int, bytes]]:
        """Read images, those of one shard together."""
        shards: dict[str, list[int]] = defaultdict(list)
        for number, image in images.items():
            if image.member:
                shards[image.file].append(number)
            else:
                yield number, _file_bytes(image.file)
        for shard, numbers in shards.items():
            ranges = [(images[n].offset, images[n].size) for n in numbers]
            yield from zip(numbers, read_ranges(shard, ranges, allow_pipe=self._allow_pipe), strict=True)


def join_images(
    table: Dataset | Rankings,
    images: Sequence[str | Path] | str | Path,
    *,
    missing: Literal["error", "drop"] = "error",
    allow_pipe: bool = False,
) -> Dataset:
    """Give a table of images that are known by hash the pixels of the user's own copy of them.

    Args:
        table: Rankings, or a loaded dataset with a column ``sha256`` (hexadecimal, of the image files' bytes) and,
            so that few files need be read, ``name`` or ``key``.
        images: A folder of images, searched to any depth; or shards as :func:`expand_shards` takes them.
        missing: What to do about images that are not there: ``error``, or ``drop`` their rows.
        allow_pipe: Allow ``pipe:`` addresses, which run a shell command.

    Returns:
        The table's rows with a column ``image``: by path for a folder (decoded when asked for), with their bytes for
        shards (kept in the cache folder of ``datasets``, not in memory).

    Raises:
        DataError: Images are missing, the table has no hashes or has images already, or the places cannot be read.
        ConfigError: ``missing`` is neither word.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from datasets import Dataset
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("RGB", (40, 30)).save(f"{folder}/koala.png")
        ...     digest = hashlib.sha256(Path(folder, "koala.png").read_bytes()).hexdigest()
        ...     ranked = Dataset.from_dict({"sha256": [digest], "name": ["n1/koala.jpg"], "spuriosity": [0.5]})
        ...     joined = join_images(ranked, folder)
        ...     joined["spuriosity"][0], joined["image"][0].size
        (0.5, (40, 30))
    """
    from datasets import Image

    if missing not in ("error", "drop"):
        raise ConfigError(f"missing={missing!r}: expected 'error' or 'drop'.")
    rows = _dataset(table)
    hashes = rows["sha256"][:]
    named = next((c for c in ("name", "key") if c in rows.column_names), "sha256")
    names = [name or "" for name in rows[named][:]]
    own = OwnImages(images, allow_pipe=allow_pipe)
    places = own.find(hashes, names)
    there = [number for number, place in enumerate(places) if place is not None]
    if len(there) < len(places) and (missing == "error" or not there):
        raise DataError(_missing(names, places, own.name))
    rows = rows if len(there) == len(places) else rows.select(there)
    found = [place for place in places if place is not None]
    if not any(place.member for place in found) and all(_is_text(place.file) for place in found):
        return rows.add_column("image", [place.file for place in found]).cast_column("image", Image())
    return _with_bytes(rows, own, found)


def _dataset(table: Dataset | Rankings) -> Dataset:
    from datasets import Dataset

    if isinstance(table, Rankings):
        rows = table.table[RANKINGS_SCHEMA.names]
        table = Dataset(pa.Table.from_pandas(rows, RANKINGS_SCHEMA, preserve_index=False))
    if not isinstance(table, Dataset):
        raise DataError(f"images cannot be joined with a {type(table).__name__}: expected one split of a dataset.")
    if "image" in table.column_names:
        raise DataError("the dataset has a column 'image' already: there is nothing to join.")
    if "sha256" not in table.column_names:
        raise DataError(f"the dataset has the columns {table.column_names}: expected 'sha256' among them.")
    return table


def _with_bytes(rows: Dataset, own: OwnImages, found: list[FoundImage]) -> Dataset:
    from datasets import Features, Image, config

    def read(batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        here = [found[n] for n in numbers]
        data = own.read(batch["sha256"], here)
        return {"image": [{"bytes": d, "path": f.file_name} for d, f in zip(data, here, strict=True)]}

    # The hashes say what the bytes are, wherever they come from: nothing of the place need tell cached rows apart.
    names = [f.file_name for f in found]
    content = "\n".join([rows._fingerprint, *rows["sha256"][:], *names])
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    folder = Path(config.HF_DATASETS_CACHE) / "joined-images"
    folder.mkdir(parents=True, exist_ok=True)
    return rows.map(
        read,
        with_indices=True,
        batched=True,
        batch_size=_BATCH,
        writer_batch_size=_BATCH,
        features=Features({**rows.features, "image": Image()}),
        cache_file_name=str(folder / f"{digest}.arrow"),
        new_fingerprint=digest,
        desc="joining images",
    )


def _missing(names: list[str], places: list[FoundImage | None], where: str) -> str:
    lost = [name for name, place in zip(names, places, strict=True) if place is None]
    shown = ", ".join(repr(name) for name in lost[:_NAMED]) + (" and so on" if len(lost) > _NAMED else "")
    return (
        f"{len(lost)} of {len(names)} images are not in {where} ({shown}): expected files of the same bytes; "
        "missing='drop' leaves out those that are not there."
    )


def _listed(place: str, allow_pipe: bool) -> Iterator[FoundImage]:
    local = local_path(place)
    root = None if local is None else Path(os.path.abspath(local.expanduser()))  # noqa: PTH100 - resolve() would follow links
    if root is not None and root.is_dir() and not any(root.glob("*.tar")):
        yield from _in_folder(root)
        return
    for shard in expand_shards([place], allow_pipe=allow_pipe):
        with open_shard(shard, allow_pipe=allow_pipe) as opened:
            entries = index_shard(opened).samples
        yield from (FoundImage(e.key, shard, e.member, e.offset, e.size) for e in entries)


def _in_folder(root: Path) -> Iterator[FoundImage]:
    skips = SkipCount()
    for path in image_files(root, skips.add):
        yield FoundImage(_key(path.relative_to(root).as_posix()), str(path))
    if (sentence := skips.sentence(str(root))) is not None:
        _log.info(sentence)


def _key(name: str) -> str:
    """Cut a name at the first dot of its last part, as keys in shards are."""
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0])) if path.name.partition(".")[0] else name


def _stem(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _file_bytes(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise DataError(f"image {file} cannot be read: {error.strerror}.") from error


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
