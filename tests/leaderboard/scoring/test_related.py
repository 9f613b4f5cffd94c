"""Entries that share weights or architecture with a miner are found; what is unknown makes no relation."""

from __future__ import annotations

import pytest
from scoring_helpers import digest, info_of, miner, version_of, version_rows

from spurious_imagenet.leaderboard.scoring._related import architecture_of, family_of, relations

WEIGHTS = digest("resnet50")
MINERS = (
    miner("timm:resnet50.a1_in1k", weights_sha256=WEIGHTS, architecture="resnet50"),
    miner("timm:convnext_tiny.fb_in1k", weights_sha256=digest("convnext"), architecture="convnext_tiny"),
    miner("file:unknown.safetensors"),
)


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"weights_sha256": WEIGHTS}, ["weights"]),
        ({"weights_sha256": WEIGHTS, "mitigation": "SpuFix", "architecture": "resnet50"}, ["weights"]),
        ({"architecture": "resnet50"}, ["architecture"]),
        ({"spec": "timm:resnet50.tv_in1k", "architecture": "vit_base_patch16_224"}, ["architecture"]),
        ({"architecture": "resnet101"}, ["architecture family"]),
        ({"spec": "timm:seresnext50_32x4d.racm_in1k?image_size=224"}, ["architecture family"]),
        ({"architecture": "resnetv2_50"}, []),
        ({"architecture": "vit_base_patch16_224"}, []),
        ({"architecture": "an architecture of our own"}, []),
        ({"spec": "open_clip:ViT-B-32/laion2b_s34b_b79k"}, []),
        ({}, []),
    ],
)
def test_relations(about: dict[str, str], expected: list[str]) -> None:
    version = version_of(version_rows(), miners=MINERS)
    found = relations(info_of(1, **about), version)
    assert [r.by for r in found] == expected
    assert all(r.miner == MINERS[0].model for r in found)


def test_miners_of_one_family_are_each_named_with_the_closest_kinship() -> None:
    version = version_of(version_rows(), miners=(*MINERS, miner("timm:resnet18.a1_in1k", architecture="resnet18")))
    found = relations(info_of(1, architecture="resnet18"), version)
    assert [(r.miner, r.by) for r in found] == [
        ("timm:resnet50.a1_in1k", "architecture family"),
        ("timm:resnet18.a1_in1k", "architecture"),
    ]


def test_families_are_timms_modules_and_unknown_ones_have_none() -> None:
    assert family_of("resnet50") == family_of("wide_resnet101_2") == "resnet"
    assert family_of("efficientnet_lite0") == "efficientnet"
    assert family_of("resnet50_of_nobody") is None


def test_architecture_comes_from_the_spec_where_that_says_it() -> None:
    assert architecture_of(info_of(1, spec="timm:hf-hub:org/name@main", architecture="resnet50.a1_in1k")) == "resnet50"
    assert architecture_of(info_of(1, spec="open_clip:ViT-B-32/openai")) is None
