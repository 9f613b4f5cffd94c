"""Rows that no submission may have, and parquet files that harm their readers; adds kinds to hostile_maker."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hostile_maker import REFUSED, Maker, refused
from leaderboard_helpers import digest

from spurious_imagenet.leaderboard.submission.table import SUBMISSION_SCHEMA

_ROW_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "NaN": ("probability", lambda p: np.nan),
    "null probability": ("probability", lambda p: None),
    "infinite": ("probability", lambda p: np.inf),
    "minus infinite": ("probability", lambda p: -np.inf),
    "negative": ("probability", lambda p: -p),
    "barely above 1": ("probability", lambda p: np.nextafter(1, 2)),
    "far above 1": ("probability", lambda p: 1e300),
    "other probability than its top-5": ("probability", lambda p: p * 0.3),
    "top-5 rising": ("top5_probability", lambda v: v[::-1]),
    "top-5 above 1 in all": ("top5_probability", lambda v: np.full(5, 0.9, np.float32)),
    "top-5 NaN": ("top5_probability", lambda v: np.array([np.nan] * 5, np.float32)),
    "top-5 infinite": ("top5_probability", lambda v: np.array([np.inf, 0, 0, 0, 0], np.float32)),
    "top-5 of other length": ("top5_probability", lambda v: v[:3]),
    "top-5 empty": ("top5_id", lambda v: []),
    "top-5 null": ("top5_id", lambda v: None),
    "top-5 null inside": ("top5_id", lambda v: [*v[:4], None]),
    "top-5 of six": ("top5_id", lambda v: [*v, "n01440764"]),
    "top-5 twice the same": ("top5_id", lambda v: [v[0], v[0], *v[2:]]),
    "top-5 of an unknown class": ("top5_id", lambda v: [*v[:4], "<script>window.pwned=1</script>"]),
    "unknown side": ("side", lambda s: "Spurious"),
    "null side": ("side", lambda s: None),
    "upper-case hash": ("sha256", str.upper),
    "short hash": ("sha256", lambda s: s[:63]),
    "hash of nothing here": ("sha256", digest),
    "another class's image": ("class_id", lambda c: "n00000002" if c != "n00000002" else "n00000001"),
    "unknown class": ("class_id", lambda c: "n12345678"),
    "1 MB class": ("class_id", lambda c: c * 110_000),
    "1 MB top-5 class": ("top5_id", lambda v: ["x" * 1_000_000, *v[1:]]),
    "control characters in a class": ("class_id", lambda c: "\x1b[2J\r\n\x00" + c),
    "right-to-left in a class": ("class_id", lambda c: "\u202e" + c),
}
for _name, (_column, _value) in _ROW_KINDS.items():
    REFUSED[_name] = lambda make, column=_column, value=_value: make.changed(column, value)  # type: ignore[misc]


@refused("missing images")
def _(make: Maker) -> Path:
    table = make.table()
    return make.write(predictions=make.parquet(table.drop(index=make.some(table))))


@refused("duplicate images")
def _(make: Maker) -> Path:
    table = make.table()
    return make.write(predictions=make.parquet(pd.concat([table, table.iloc[make.some(table)]])))


@refused("extra images")
def _(make: Maker) -> Path:
    table = make.table()
    extra = table.iloc[make.some(table)].assign(sha256=lambda t: t["sha256"].map(digest))
    return make.write(predictions=make.parquet(pd.concat([table, extra])))


@refused("no rows")
def _(make: Maker) -> Path:
    return make.write(predictions=make.parquet(make.table().iloc[:0]))


@refused("validation images as spurious ones")
def _(make: Maker) -> Path:
    return make.write(predictions=make.parquet(make.table().assign(side="spurious")))


@refused("missing columns")
def _(make: Maker) -> Path:
    table = make.arrow()
    return make.write(predictions=make.parquet(table.drop_columns([str(make.rng.choice(table.column_names))])))


@refused("extra columns")
def _(make: Maker) -> Path:
    table = make.arrow()
    name = str(make.rng.choice(["<img src=x onerror=window.pwned=1>", "label", "\x1b]0;x\x07", "a" * 100_000]))
    return make.write(predictions=make.parquet(table.append_column(name, pa.array([1] * len(table)))))


@refused("renamed columns")
def _(make: Maker) -> Path:
    table = make.arrow()
    return make.write(predictions=make.parquet(table.rename_columns([n.title() for n in table.column_names])))


@refused("columns of other types")
def _(make: Maker) -> Path:
    table = make.arrow()
    column, dtype = [
        ("probability", pa.string()),
        ("probability", pa.float16()),
        ("sha256", pa.binary()),
        ("probability", pa.decimal128(30, 20)),
    ][int(make.rng.integers(4))]
    place = table.column_names.index(column)
    values = table[column]
    if pa.types.is_decimal(dtype):
        values = pa.chunked_array([pa.array([None] * len(table), dtype)])
    return make.write(predictions=make.parquet(table.set_column(place, column, values.cast(dtype))))


# Files.


@refused("truncated parquet")
def _(make: Maker) -> Path:
    data = make.parquet()
    return make.write(predictions=data[: int(make.rng.integers(1, len(data)))])


@refused("parquet with its middle cut out")
def _(make: Maker) -> Path:
    data = make.parquet()
    at = int(make.rng.integers(4, len(data) // 2))
    return make.write(predictions=data[:at] + data[at + 200 :])


@refused("parquet with a boundless footer")
def _(make: Maker) -> Path:
    return make.write(predictions=make.parquet()[:-8] + struct.pack("<L", 0xFFFFFFF0) + b"PAR1")


@refused("parquet that inflates in its pages")
def _(make: Maker) -> Path:
    table = make.arrow()
    values = pa.array([f"{i % 2}" * 100_000 for i in range(len(table))])
    return make.write(
        predictions=make.parquet(table.set_column(1, "class_id", values), compression="zstd", use_dictionary=False)
    )


@refused("parquet that inflates in its dictionary")
def _(make: Maker) -> Path:
    table = make.arrow()
    values = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), ["x" * 1_000_000])
    data = make.parquet(table.set_column(1, "class_id", values), compression="zstd")
    return make.write(predictions=data)


@refused("parquet of prefixes")
def _(make: Maker) -> Path:
    encodings = {"class_id": "DELTA_BYTE_ARRAY"}
    return make.write(predictions=make.parquet(use_dictionary=False, column_encoding=encodings))


@refused("parquet of millions of rows")
def _(make: Maker) -> Path:
    table = pa.table({name: np.zeros(2_000_000, np.float32) for name in SUBMISSION_SCHEMA.names})
    return make.write(predictions=make.parquet(table, compression="zstd"))


@refused("parquet that lies about its size")
def _(make: Maker) -> Path:
    """Its pages inflate to 100 KB per row, which its footer does not say."""
    table = make.arrow()
    values = pa.array(["x" * 100_000] * len(table))
    data = make.parquet(table.set_column(1, "class_id", values), compression="zstd", use_dictionary=False)
    column = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(1)
    said = _varint(2 * column.total_uncompressed_size)
    assert data.count(said) == 1
    little = bytes([0xD0 | 0x80, *[0x80] * (len(said) - 2), 0])
    return make.write(predictions=data.replace(said, little))


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + _varint(value >> 7) if value > 0x7F else bytes([value])


@refused("parquet of deep structures")
def _(make: Maker) -> Path:
    dtype = pa.int8()
    for _ in range(int(make.rng.integers(10, 60))):
        dtype = pa.struct([("a", dtype)])
    table = make.arrow()
    return make.write(predictions=make.parquet(table.append_column("deep", pa.nulls(len(table), dtype))))


@refused("parquet of many columns")
def _(make: Maker) -> Path:
    table = make.arrow()
    more = pa.table({f"c{i}": np.zeros(len(table)) for i in range(500)})
    return make.write(
        predictions=make.parquet(
            pa.table(
                {
                    **dict(zip(table.column_names, table.columns, strict=True)),
                    **dict(zip(more.column_names, more.columns, strict=True)),
                }
            )
        )
    )


@refused("parquet of extension types")
def _(make: Maker) -> Path:
    table = make.arrow()
    values = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * len(table), pa.binary(16)))
    return make.write(predictions=make.parquet(table.set_column(2, "sha256", values)))


@refused("parquet of columns twice")
def _(make: Maker) -> Path:
    table = make.arrow()
    return make.write(predictions=make.parquet(table.append_column("side", table["side"])))


@refused("parquet of text that is not UTF-8")
def _(make: Maker) -> Path:
    table = make.arrow()
    raw = pa.array([bytes([0xFF, 0xFE, 0x80])] * len(table))
    values = pa.StringArray.from_buffers(len(table), raw.buffers()[1], raw.buffers()[2])
    return make.write(predictions=make.parquet(table.set_column(1, "class_id", values)))
