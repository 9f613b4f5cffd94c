from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import CLASSES, weights_file

from spurious_imagenet.errors import ModelError
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.head_file import HeadFileInfo, save_head
from spurious_imagenet.models.load import load_recorded


@pytest.mark.parametrize(
    "spec",
    [
        "python:os:getcwd",
        "head:h.safetensors?encoder=python:os:getcwd",
        "head:h?encoder=head%3Ax%3Fencoder%3Dpython%3Aos",
    ],
)
def test_a_model_that_a_file_names_never_runs_code(spec: str) -> None:
    with pytest.raises(ModelError, match="would run code"):
        load_recorded(spec, what="stranger.safetensors")


def test_a_strangers_head_runs_no_code_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text(f"def run():\n    open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    head = LinearHead(np.zeros((len(CLASSES), 4), np.float32), np.zeros(len(CLASSES), np.float32))
    info = HeadFileInfo(
        encoder="python:evil:run",
        encoder_weights_sha256="ab" * 32,
        image_size=64,
        label_space="custom",
        class_ids=CLASSES,
        class_names=CLASSES,
    )
    save_head(tmp_path / "h.safetensors", head, info)
    for scheme in ("head", "file"):
        with pytest.raises(ModelError, match="would run code"):
            load_classifier(f"{scheme}:{tmp_path / 'h.safetensors'}")
    assert not (tmp_path / "ran").exists()


def test_a_file_may_name_any_other_model(tmp_path: Path) -> None:
    spec = weights_file(tmp_path / "w.safetensors")
    assert load_recorded(spec, what="it").weights_sha256 == load_classifier(spec).weights_sha256
