"""``timm:`` models, and the timm architectures behind the other schemes."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from spurious_imagenet.errors import ModelError, one_line
from spurious_imagenet.images import Preprocess
from spurious_imagenet.images.preprocess import ResizeMode
from spurious_imagenet.models.classifier import Classifier
from spurious_imagenet.models.labels import NO_LABELS, LabelSpace, guessed_label_space, label_space_for
from spurious_imagenet.models.network import TimmCore
from spurious_imagenet.models.seeding import seeded
from spurious_imagenet.models.spec import ModelSpec
from spurious_imagenet.models.timm_labels import labels_of_timm

__all__ = ["classifier_from_timm", "create_timm_model", "load_timm", "preprocess_of_timm"]

#: timm's crop mode → ours.
_RESIZE_MODES: dict[str, ResizeMode] = {"center": "shortest", "squash": "squash", "border": "border"}


def load_timm(spec: ModelSpec) -> Classifier:
    """Load ``timm:NAME`` or ``timm:hf-hub:ORG/NAME@REVISION`` with its published weights.

    Options: ``pretrained=false`` (random weights, seeded), ``labels=FILE``, ``label_space=NAME``. Labels that come with
    the weights are taken where none are given (see ``labels_of_timm``). A model without a classification head loads as
    a bare encoder of no classes.

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
    name = spec.options.get("label_space")
    if class_ids is not None or name is not None:
        labels = label_space_for(width, class_ids=class_ids, class_names=class_names, name=name)
    elif pretrained:
        labels = labels_of_timm(model, spec.text, spec.address)
    else:  # random weights know no classes
        labels = guessed_label_space(width, spec.text, certain=True)
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
        reason = one_line(error, 300)
        raise ModelError(f"timm cannot create {name!r} (pretrained={pretrained}): {reason}") from error


def _has_fixed_input(name: str) -> bool:
    config = timm.get_pretrained_cfg(name)
    return bool(config is not None and getattr(config, "fixed_input_size", False))


def preprocess_of_timm(model: nn.Module, image_size: int | None = None) -> Preprocess:
    """Return timm's evaluation transform of a model, at its test size unless ``image_size`` says otherwise.

    Raises:
        ModelError: The transform is one that :class:`Preprocess` does not know, or makes no square of three channels.
    """
    from timm.data.config import resolve_data_config

    resolve: Any = resolve_data_config
    config: dict[str, Any] = resolve({}, model=model, use_test_size=True)
    crop_mode = str(config.get("crop_mode") or "center")
    channels, *sides = (int(n) for n in config["input_size"])
    what = f"the configuration of {type(model).__name__}"
    if crop_mode not in _RESIZE_MODES:
        raise ModelError(f"{what} has the crop mode {crop_mode!r}: expected one of {', '.join(_RESIZE_MODES)}.")
    if channels != 3 or (image_size is None and len(set(sides)) != 1):
        raise ModelError(
            f"{what} asks for inputs of {channels} x {' x '.join(map(str, sides))}: expected 3 channels and a square."
        )
    return Preprocess.evaluation(
        size=image_size or int(config["input_size"][-1]),
        crop_pct=config["crop_pct"],
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resize_mode=_RESIZE_MODES[crop_mode],
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
        raise ModelError(f"{spec} cannot run at {preprocess.size} px: {one_line(error)}") from error
    return Classifier.build(spec, core, labels, preprocess, temperature)
