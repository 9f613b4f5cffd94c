"""A model that a file names is found where it lies if both were moved together."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import weights_file

from spurious_imagenet.models import moved_spec
from spurious_imagenet.models.load import load_recorded


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "new"
    (root / "out" / "bank").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "models" / "m.safetensors").write_bytes(b"m")
    return root


@pytest.mark.parametrize(
    ("spec", "tail"),
    [
        ("file:models/m.safetensors", ""),  # relative to whoever wrote it
        ("file:./models/m.safetensors", ""),
        ("file:/gone/old/models/m.safetensors?image_size=32", "?image_size=32"),
        ("file:m.safetensors", None),  # no end of this lies beside the bank
        ("timm:resnet50.a1_in1k", None),
        ("python:models:m", None),
    ],
)
def test_the_spec_names_where_the_weights_are(
    project: Path, spec: str, tail: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = moved_spec(spec, project / "out" / "bank")
    assert found == (spec if tail is None else f"file:{project}/models/m.safetensors{tail}")


def test_weights_that_are_where_the_file_says_are_those(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert moved_spec("file:models/m.safetensors", "out/bank") == "file:models/m.safetensors"


def test_a_recorded_model_loads_after_a_move(tmp_path: Path) -> None:
    old = tmp_path / "old"
    spec = weights_file(old / "m.safetensors")
    old.rename(tmp_path / "new")
    found = load_recorded(spec, what=str(tmp_path / "new" / "h.safetensors"))
    assert found.spec == f"file:{tmp_path}/new/m.safetensors"
