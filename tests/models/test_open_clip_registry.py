"""Every published pair of OpenCLIP has the activation that it was trained with; equal texts are named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import open_clip
import pytest
from open_clip import factory
from open_clip.transformer import QuickGELU
from torch import nn

from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.open_clip_models import create_open_clip

TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}


def _small(config: dict[str, Any]) -> dict[str, Any]:
    """Return an architecture of one layer a tower; whatever says its activation stays."""
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1}
    if isinstance(config["vision_cfg"].get("layers"), list):
        vision = {"image_size": 32, "width": 16, "layers": [1, 1, 1, 1]}
    kept = {k: v for k, v in config.items() if k in {"quick_gelu", "custom_text"}}
    return kept | {"embed_dim": 16, "vision_cfg": vision, "text_cfg": dict(TEXT)}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each architecture small, and nothing downloaded."""
    own = factory.get_model_config
    monkeypatch.setattr(factory, "get_model_config", lambda name: _small(own(name)))
    monkeypatch.setattr(factory, "download_pretrained", lambda *args, **kwargs: "not read")
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: None)


def _activations(model: nn.Module) -> set[type[nn.Module]]:
    return {type(m) for m in model.modules() if isinstance(m, nn.GELU | QuickGELU)}


def test_every_published_pair_has_the_activation_it_was_trained_with(registry: None) -> None:
    found: Counter[str] = Counter()
    for arch, tag in open_clip.list_pretrained():
        model, _ = create_open_clip(arch, tag, load_weights=False)
        listed = bool(open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu"))
        built = bool(open_clip.get_model_config(arch).get("quick_gelu"))
        # An architecture that says it itself is believed where the list of weights does not say it.
        wanted = QuickGELU if listed or built else nn.GELU
        assert _activations(model) == {wanted}, (arch, tag)
        found["quick" if wanted is QuickGELU else "plain"] += 1
        found["corrected"] += listed and not built
    assert found["corrected"] >= 20
    assert found["plain"] > 50


@pytest.mark.parametrize("arch", ["ViT-B-32", "ViT-L-14", "RN50"])
def test_random_weights_have_the_architectures_activation(arch: str, registry: None) -> None:
    assert _activations(create_open_clip(arch)[0]) == {nn.GELU}


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    config = {"model_cfg": _small({"vision_cfg": {}}), "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="Required pretrained weights"):
        load_classifier(f"open_clip:local-dir:{tmp_path}")


def test_equal_texts_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\tcrane\nb\tdog\nc\tcrane\nd\tdog\ne\tcat\n", encoding="utf-8")
    made = load_classifier(f"open_clip:RN50?pretrained=false&templates=simple&image_size=64&labels={labels}")
    assert isinstance(made.preprocess, Preprocess)
    (record,) = (r for r in caplog.records if r.name.startswith("spurious_imagenet"))
    assert "the same text: a and c ('crane'), b and d ('dog'); give them texts" in record.message
