"""Images that a store holds more than once, against counting them one by one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from feature_store_helpers import empty_store

from spurious_imagenet.features.repeats import image_codes, repeats_of
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore


def store_of(path: Path, *parts: list[bytes | None]) -> FeatureStore:
    store = empty_store(path, 2)
    for number, hashes in enumerate(parts):
        rows = [{"key": f"k{i}", "sha256": digest} for i, digest in enumerate(hashes)]
        store.write_part(
            shard=f"p{number}.tar",
            shard_sha256=f"{number:064x}",
            shard_bytes=0,
            features=np.zeros((len(hashes), 2), np.float16),
            rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
            rejects=(),
            versions={},
        )
    return store


def digest(number: int, start: int = 0) -> bytes:
    """A hash whose first eight bytes say little."""
    return bytes([start]) * 8 + number.to_bytes(24, "big")


@pytest.mark.parametrize("seed", range(4))
def test_equal_bytes_have_equal_numbers(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = [
        digest(int(n), int(s)) for n, s in zip(rng.integers(1, 10, size=40), rng.integers(3, size=40), strict=True)
    ]
    unknown: list[bytes | None] = [None, None]
    store = store_of(tmp_path / "store", hashes[:15], [], [*hashes[15:], *unknown])
    codes = image_codes(store.parts)
    every = [*hashes, object(), object()]
    assert all((codes[i] == codes[j]) == (every[i] == every[j]) for i in range(42) for j in range(42))
    found = repeats_of(store)
    assert found is not None
    assert (found.images, found.repeats) == (42, sum(n - 1 for n in Counter(hashes).values()))
    assert found.parts is None


def test_the_example_is_two_images_of_the_same_bytes(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", [digest(1), digest(2)], [digest(3), digest(2)])
    first, second = (part.path.name for part in store.parts)
    assert str(repeats_of(store)) == (
        f"1 of 4 images repeat the bytes of another, such as {second}/k1 those of {first}/k1."
    )


def test_images_of_unknown_or_different_bytes_repeat_nothing(tmp_path: Path) -> None:
    assert repeats_of(store_of(tmp_path / "different", [digest(1), digest(2), digest(1, start=1)])) is None
    assert repeats_of(store_of(tmp_path / "unknown", [None, None])) is None
    assert repeats_of(store_of(tmp_path / "empty")) is None
