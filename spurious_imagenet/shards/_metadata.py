"""What a sample's JSON and ``.cls`` say about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from spurious_imagenet.errors import DataError
from spurious_imagenet.shards._tar import read_at
from spurious_imagenet.shards.index import SampleEntry

#: A larger JSON is not a description of one image, and is ignored.
MAX_METADATA_BYTES = 1 << 20

_CLASS_FIELDS = ("wnid", "class_id")
_MAX_LABEL_BYTES = 32
_MAX_LABEL = 2**31 - 1


class SampleMetadata(NamedTuple):
    """The label and the description of one sample.

    Attributes:
        class_id: The JSON's ``wnid``, else its ``class_id``; it wins over ``cls``.
        cls: The integer in ``.cls``: a class index in the shards' own label space.
        meta: The JSON object; empty where there is none or it cannot be used.
        problem: Why something that is there was ignored; None where nothing was.
    """

    class_id: str | None
    cls: int | None
    meta: dict[str, Any]
    problem: str | None = None


def read_metadata(source: Path | BinaryIO, entry: SampleEntry) -> SampleMetadata:
    """Read and parse the JSON and ``.cls`` of one sample.

    Args:
        source: The shard's local file, or that file opened for binary reading (faster for many samples; its
            position does not move).
        entry: The sample.

    Raises:
        DataError: The file is shorter than when it was indexed, or cannot be read.
    """
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return read_metadata(file, entry)
        except OSError as error:
            raise DataError(f"shard {source} cannot be read: {error.strerror}.") from error
    meta = _member(source, entry, entry.meta_offset, min(entry.meta_size, MAX_METADATA_BYTES + 1))
    cls = _member(source, entry, entry.cls_offset, min(entry.cls_size, _MAX_LABEL_BYTES + 1))
    return parse_metadata(meta, cls)


def _member(file: BinaryIO, entry: SampleEntry, offset: int, size: int) -> bytes:
    data = read_at(file, offset, size)
    if len(data) != size:
        raise DataError(f"sample {entry.key!r}: got {len(data)} of {size} bytes at {offset}; the shard was cut.")
    return data


def parse_metadata(meta: bytes, cls: bytes) -> SampleMetadata:
    """Parse the bytes of a sample's JSON and ``.cls``; empty bytes mean that there is none.

    What cannot be used is left out, and ``problem`` says why. NaN and infinities become null.
    """
    content, problem = _parse_object(meta) if meta else ({}, None)
    problems = [problem] if problem else []
    class_id = next((content[name] for name in _CLASS_FIELDS if content.get(name) not in (None, "")), None)
    if class_id is not None and not (isinstance(class_id, str) and class_id.strip()):
        problems.append(f"the JSON's class id is not a text: {class_id!r:.60}")
        class_id = None
    text = cls.strip()
    index = int(text) if text.isdigit() and len(cls) <= _MAX_LABEL_BYTES and int(text) <= _MAX_LABEL else None
    if cls and index is None:
        problems.append(f".cls is not a class index: {cls[:_MAX_LABEL_BYTES].decode('utf-8', 'replace')!r}")
    return SampleMetadata(class_id, index, content, "; ".join(problems) or None)


def _parse_object(data: bytes) -> tuple[dict[str, Any], str | None]:
    if len(data) > MAX_METADATA_BYTES:
        return {}, f"JSON is longer than {MAX_METADATA_BYTES} bytes"
    try:
        content = json.loads(data.decode("utf-8-sig"), parse_constant=lambda _: None)
        if b"\\u" in data:
            json.dumps(content, ensure_ascii=False).encode()  # half of a surrogate pair is not text
    except (ValueError, RecursionError) as error:
        return {}, f"JSON cannot be parsed ({type(error).__name__})"
    if not isinstance(content, dict):
        return {}, f"JSON holds a {type(content).__name__}, not an object"
    return content, None
