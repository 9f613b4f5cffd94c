"""``open_clip:`` models with a zero-shot head made from OpenCLIP's bundled prompt templates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spurious_imagenet.benchmark.images import Preprocess
from spurious_imagenet.benchmark.models.classifier import Classifier
from spurious_imagenet.benchmark.models.head import LinearHead
from spurious_imagenet.benchmark.models.labels import LabelSpace, imagenet_label_space, label_space_for
from spurious_imagenet.benchmark.models.spec import ModelSpec
from spurious_imagenet.errors import ConfigError, ModelError

__all__ = ["load_open_clip"]


class ZeroShotCore(nn.Module):
    """Image tower and text head: features are unit image embeddings, logits scaled cosines with the class texts.

    Args:
        model: An OpenCLIP model.
        text: (K, D) unit class embeddings.
    """

    class_embeddings: Tensor
    model: Any

    def __init__(self, model: nn.Module, text: Tensor) -> None:
        super().__init__()
        self.model = model
        scale = float(self.model.logit_scale.detach().exp())
        self.register_buffer("class_embeddings", (scale * text).contiguous())
        weight = self.class_embeddings.float().numpy()
        self.linear_head = LinearHead(weight, np.zeros(len(weight), np.float32))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit (N, D) image embeddings and (N, K) logits."""
        features = self.model.encode_image(images, normalize=True)
        return features, features @ self.class_embeddings.T


def load_open_clip(spec: ModelSpec) -> Classifier:
    """Load ``open_clip:ARCH/PRETRAINED`` or ``open_clip:hf-hub:ORG/NAME``.

    Options: ``labels=FILE`` (class ids and names; ImageNet-1k where left out), ``templates=openai`` (80 prompts a
    class, as published) or ``simple`` (7), ``pretrained=false`` (random weights, seeded).

    Raises:
        ModelError: The weights cannot be had.
        ConfigError: OpenCLIP is not installed or an option is unknown.
    """
    spec.check_options("labels", "templates", "pretrained")
    try:
        import open_clip
    except ImportError as error:
        raise ConfigError(f"{spec.text}: OpenCLIP is not installed: pip install 'spurious-imagenet[clip]'.") from error
    arch, tag = _arch_and_tag(spec)
    try:
        torch.manual_seed(0)
        kwargs: dict[str, Any] = {} if spec.image_size is None else {"force_image_size": spec.image_size}
        model, _, _ = open_clip.create_model_and_transforms(arch, pretrained=tag, **kwargs)
        tokenizer = open_clip.get_tokenizer(arch)
    except Exception as error:
        raise ModelError(f"{spec.text} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    labels, names = _labels(spec, open_clip)
    templates = _templates(spec, open_clip)
    with torch.inference_mode():
        text = open_clip.build_zero_shot_classifier(model.eval(), tokenizer, names, templates, num_classes_per_batch=10)
    core = ZeroShotCore(model, text.T.clone())
    return Classifier.build(spec.text, core, labels, _preprocess(model))


def _arch_and_tag(spec: ModelSpec) -> tuple[str, str | None]:
    if spec.address.startswith("hf-hub:"):
        return spec.address, None
    arch, slash, tag = spec.address.partition("/")
    if spec.options.get("pretrained", "true").lower() == "false":
        return arch, None
    if not slash:
        raise ConfigError(
            f"{spec.text}: expected open_clip:ARCH/PRETRAINED, such as open_clip:ViT-B-32/laion2b_s34b_b79k."
        )
    return arch, tag


def _labels(spec: ModelSpec, open_clip: Any) -> tuple[LabelSpace, list[str]]:
    class_ids, class_names = spec.label_options()
    if class_ids is None:
        return imagenet_label_space(), list(open_clip.IMAGENET_CLASSNAMES)
    space = label_space_for(len(class_ids), class_ids=class_ids, class_names=class_names)
    return space, list(space.class_names)


def _templates(spec: ModelSpec, open_clip: Any) -> Any:
    known = {"openai": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES}
    name = spec.options.get("templates", "openai")
    if name not in known:
        raise ConfigError(f"{spec.text}: templates={name!r} is unknown: expected {' or '.join(known)}.")
    return known[name]


def _preprocess(model: Any) -> Preprocess:
    visual = model.visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    config = getattr(visual, "preprocess_cfg", {})
    return Preprocess(
        size=size,
        resize=size,
        interpolation=config.get("interpolation", "bicubic"),
        resize_mode="squash" if config.get("resize_mode") == "squash" else "shortest",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
