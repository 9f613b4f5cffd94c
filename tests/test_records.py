"""Every record: frozen, of known fields, and read in one sentence where it is not what it should be."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from test_imports import FILES, ROOT

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.metrics.values import CurvePoint, Interval
from spurious_imagenet.benchmark.mitigation.spufix_file import SPUFIX_METADATA_KEY, Spufix
from spurious_imagenet.datasets.manifest import Change, SelectionModel
from spurious_imagenet.errors import DataError, ModelError, StoreError, one_line
from spurious_imagenet.features.store import StoreConfig
from spurious_imagenet.models.head_file import read_head
from spurious_imagenet.models.weights_file import read_weights_info
from spurious_imagenet.records import Record
from spurious_imagenet.tensors import save_arrays

#: What a visitor's browser sends is read, not kept.
_NOT_KEPT = {"leaderboard/app/_guard.py", "spurious_imagenet/records.py"}


@pytest.mark.parametrize("path", FILES.values(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_model_is_a_record(path: Path) -> None:
    if str(path.relative_to(ROOT)) in _NOT_KEPT:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
        assert "BaseModel" not in bases, f"{path}: expected a Record, not a BaseModel"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (Interval(low=0.1, high=0.25), '{\n "high": 0.25,\n "low": 0.1\n}\n'),
        (Change(version="1.0.0", text="Zwölf"), '{\n "text": "Zwölf",\n "version": "1.0.0"\n}\n'),
        (
            SelectionModel(model="timm:a", role="voter"),
            '{\n "architecture": null,\n "model": "timm:a",\n "role": "voter",\n "weights_sha256": null\n}\n',
        ),
    ],
)
def test_equal_records_are_equal_bytes_that_are_read_again(record: Record, text: str, tmp_path: Path) -> None:
    record.write(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text(encoding="utf-8") == record.to_json() == text
    assert type(record).read(tmp_path / "r.json", "a record") == record
    assert type(record).read(tmp_path / "r.json", "a record").json_sha256() == record.json_sha256()


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (Interval, '{"low": 1}', "high: Field required (got {'low': 1})"),
        (CurvePoint, '{"low": "a", "high": 1}', "low: Input should be a valid number"),
        (SelectionModel, "[", "Invalid JSON"),
        (StoreConfig, '{"unknown": 1}', "and "),
        (EvalRecord, "", "Invalid JSON"),
    ],
)
def test_what_is_not_the_record_is_said_in_one_line(kind: type[Record], text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(text)
    with pytest.raises(StoreError) as caught:
        kind.read(file, "a record of this kind", StoreError)
    sentence = str(caught.value)
    assert sentence.startswith(f"{file} is not a record of this kind: ")
    assert said in sentence
    assert "http" not in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("read", "key"),
    [
        (read_head, "spurious_imagenet_head"),
        (read_weights_info, "spurious_imagenet"),
        (Spufix.load, SPUFIX_METADATA_KEY),
    ],
)
def test_what_is_wrong_inside_an_array_file_is_said_in_one_line(
    read: Callable[[Path], object], key: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.safetensors"
    save_arrays(file, {"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(2, np.float32)}, {key: '{"x": 1}'})
    with pytest.raises(ModelError, match=r"is not a readable .*Field required \(got \{'x': 1\}\), and") as caught:
        read(file)
    assert "http" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json is not an interval: .*No such file"):
        Interval.read(tmp_path / "nowhere.json", "an interval")


def test_long_errors_are_cut_to_one_line() -> None:
    assert one_line(ValueError("a\n  b\tc")) == "a b c"
    assert one_line("x" * 500, 20) == "x" * 20
    with pytest.raises(ValidationError) as caught:
        Interval.model_validate({"low": "y" * 300})
    assert len(one_line(caught.value)) <= 200
