"""Datasets that tests of evaluation share, and a count of the images that are decoded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, Image, Value
from helpers import CLASSES, jpeg

from spurious_imagenet.models import inference

SPURIOUS = [(CLASSES[i % 2], f"npca/{CLASSES[i % 2]}/{i % 3}", jpeg(1000 + i, (96, 64))) for i in range(12)]


def spurious_dataset(rows: Sequence[tuple[str, str, bytes]] = SPURIOUS) -> Dataset:
    """Return (class, concept, bytes) rows as a published dataset holds them."""
    columns = {
        "image": Image(),
        "class_id": Value("string"),
        "class_name": Value("string"),
        "concept_id": Value("string"),
    }
    content = [
        {"image": {"bytes": data, "path": None}, "class_id": c, "class_name": c.title(), "concept_id": k}
        for c, k, data in rows
    ]
    return Dataset.from_list(content, features=Features(columns))


def dataset_folder(path: Path, rows: Sequence[tuple[str, str, bytes]] = SPURIOUS) -> Path:
    """Write them as a dataset folder."""
    (path / "data").mkdir(parents=True)
    spurious_dataset(rows).to_parquet(path / "data" / "test-00000-of-00001.parquet")
    return path


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count from now on how often each image is decoded, by the hash of its bytes."""
    counted: Counter[str] = Counter()
    decode = inference.decode_image

    def counting(data: bytes, *arguments: Any) -> Any:
        counted[hashlib.sha256(data).hexdigest()] += 1
        return decode(data, *arguments)

    monkeypatch.setattr(inference, "decode_image", counting)
    return counted
