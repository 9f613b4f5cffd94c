from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.io import sha256_file
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.convert import convert_checkpoint
from spurious_imagenet.models.weights_file import WeightsFileInfo

INFO = WeightsFileInfo(arch="test_resnet", label_space="imagenet-1k", image_size=64, temperature=0.5)


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return timm.create_model("test_resnet", num_classes=1000).eval()


def _checkpoint(path: Path, network: torch.nn.Module, kind: str) -> Path:
    weights = network.state_dict()
    robustness = {f"module.model.{k}": v for k, v in weights.items()}
    robustness |= {f"module.attacker.model.{k}": torch.zeros_like(v) for k, v in weights.items()}
    robustness |= {
        "module.normalizer.new_mean": torch.zeros(3, 1, 1),
        "module.attacker.normalize.new_std": torch.ones(3),
    }
    content = {
        "robustness": {"model": robustness, "epoch": 3},
        "temperature wrapper": {"T": torch.tensor([0.7]), **{f"model.model.{k}": v for k, v in weights.items()}},
        "whole module": network,
    }[kind]
    torch.save(content, path)
    return path


@pytest.mark.parametrize("kind", ["robustness", "temperature wrapper", "whole module"])
def test_weights_survive_and_load_as_robust(tmp_path: Path, network: torch.nn.Module, kind: str) -> None:
    source, target = _checkpoint(tmp_path / "c.pt", network, kind), tmp_path / "w.safetensors"
    convert_checkpoint(source, target, INFO, sha256=sha256_file(source), trust_pickle=True)
    classifier = load_classifier(f"robust:{target}")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    mean, std = classifier.network.mean, classifier.network.std
    with torch.inference_mode():
        own = network((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    np.testing.assert_allclose(classifier.predict(pixels)[1], own / 0.5, rtol=1e-4, atol=1e-4)


def test_nothing_is_opened_without_trust_and_the_right_hash(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "ran"),)  # type: ignore[return-value]

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    good = sha256_file(tmp_path / "evil.pt")
    for sha256, trust in ((good, False), ("0" * 64, True)):
        with pytest.raises(ConfigError):
            convert_checkpoint(tmp_path / "evil.pt", tmp_path / "w", INFO, sha256=sha256, trust_pickle=trust)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "w").exists()


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path, network: torch.nn.Module) -> None:
    source = _checkpoint(tmp_path / "c.pt", network, "robustness")
    other = INFO.model_copy(update={"arch": "test_vit"})
    with pytest.raises(ModelError, match=r"lacks \d+ tensors of test_vit"):
        convert_checkpoint(source, tmp_path / "w", other, sha256=sha256_file(source), trust_pickle=True)


def test_the_command_says_one_sentence(tmp_path: Path, network: torch.nn.Module) -> None:
    source = _checkpoint(tmp_path / "c.pt", network, "robustness")
    command = [Path(sys.executable).parent / "spurious", "convert-checkpoint", source, tmp_path / "w", "--sha256", "00"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "--trust-pickle" in done.stderr
    assert "Traceback" not in done.stderr
