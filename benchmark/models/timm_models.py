"""``timm:`` models, and the timm architectures behind the other schemes."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from spurious_imagenet.benchmark.images import Preprocess
from spurious_imagenet.benchmark.models.classifier import Classifier
from spurious_imagenet.benchmark.models.labels import NO_LABELS, LabelSpace, label_space_for
from spurious_imagenet.benchmark.models.network import TimmCore
from spurious_imagenet.benchmark.models.spec import ModelSpec
from spurious_imagenet.benchmark.seeding import seeded
from spurious_imagenet.errors import ModelError

__all__ = ["classifier_from_timm", "create_timm_model", "load_timm", "preprocess_of_timm"]


def load_timm(spec: ModelSpec) -> Classifier:
    """Load ``timm:NAME`` or ``timm:hf-hub:ORG/NAME@REVISION`` with its published weights.

    Options: ``pretrained=false`` (random weights, seeded), ``labels=FILE``, ``label_space=NAME``. A model without a
    classification head loads as a bare encoder of no classes.

    Raises:
        ModelError: timm does not know the model, its weights cannot be had, or the labels do not fit.
    """
    spec.check_options("pretrained", "labels", "label_space")
    pretrained = spec.options.get("pretrained", "true").lower() != "false"
    model = create_timm_model(spec.address, spec.image_size, pretrained=pretrained)
    class_ids, class_names = spec.label_options()
    width = int(getattr(model, "num_classes", 0))
    if width < 1:  # a bare encoder, whose features a head of one's own may read
        return classifier_from_timm(spec.text, model, NO_LABELS, preprocess_of_timm(model, spec.image_size))
    labels = label_space_for(width, class_ids=class_ids, class_names=class_names, name=spec.options.get("label_space"))
    return classifier_from_timm(spec.text, model, labels, preprocess_of_timm(model, spec.image_size))


def create_timm_model(name: str, image_size: int | None = None, *, pretrained: bool, **kwargs: Any) -> nn.Module:
    """Create a timm model in evaluation mode; random weights are seeded, so that a spec always names the same model.

    Args:
        name: Architecture, with or without a weights tag.
        image_size: Input side where it is not the model's own, px.
        pretrained: Whether to load the published weights.
        kwargs: Further arguments of ``timm.create_model``.

    Raises:
        ModelError: timm cannot make the model.
    """
    try:
        if image_size is not None and _has_fixed_input(name):
            kwargs["img_size"] = image_size
        with seeded(0):
            return timm.create_model(name, pretrained=pretrained, **kwargs).eval()
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"timm cannot create {name!r} (pretrained={pretrained}): {reason}") from error


def _has_fixed_input(name: str) -> bool:
    config = timm.get_pretrained_cfg(name)
    return bool(config is not None and getattr(config, "fixed_input_size", False))


def preprocess_of_timm(model: nn.Module, image_size: int | None = None) -> Preprocess:
    """Return timm's evaluation transform of a model, at its test size unless ``image_size`` says otherwise."""
    from timm.data.config import resolve_data_config

    resolve: Any = resolve_data_config
    config: dict[str, Any] = resolve({}, model=model, use_test_size=True)
    return Preprocess.evaluation(
        size=image_size or int(config["input_size"][-1]),
        crop_pct=config["crop_pct"],
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resize_mode="squash" if config.get("crop_mode") == "squash" else "shortest",
    )


def classifier_from_timm(
    spec: str, model: nn.Module, labels: LabelSpace, preprocess: Preprocess, temperature: float = 1.0
) -> Classifier:
    """Make a classifier of a timm model, comparing its ways to the logits on random images first."""
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, 3, preprocess.size, preprocess.size, generator=generator)
    try:
        core = TimmCore(model, example)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"{spec} cannot run at {preprocess.size} px: {' '.join(str(error).split())[:200]}") from error
    return Classifier.build(spec, core, labels, preprocess, temperature)
