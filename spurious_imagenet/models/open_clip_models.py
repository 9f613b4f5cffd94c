"""``open_clip:`` models with a zero-shot head made from OpenCLIP's bundled prompt templates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spurious_imagenet.errors import ConfigError, ModelError, one_line
from spurious_imagenet.images import Preprocess
from spurious_imagenet.images.preprocess import ResizeMode
from spurious_imagenet.models.classifier import Classifier
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.labels import LabelSpace, imagenet_label_space, label_space_for
from spurious_imagenet.models.seeding import seeded
from spurious_imagenet.models.spec import ModelSpec
from spurious_imagenet.tensors import save_torch

__all__ = ["create_open_clip", "is_published_open_clip", "load_open_clip", "save_open_clip", "text_embeddings"]

Tokenizer = Callable[[list[str]], Tensor]
_TEXTS = 256  # embedded at once
_SOURCES = ("hf-hub:", "local-dir:")
_RESIZE_MODES: dict[str, ResizeMode] = {"shortest": "shortest", "squash": "squash", "longest": "longest"}
_NAMED = 5  # in a warning
_LOG = logging.getLogger(__name__)


class ZeroShotCore(nn.Module):
    """Image tower and text head: features are unit image embeddings, logits scaled cosines with the class texts.

    Args:
        model: An OpenCLIP model.
        text: (K, D) unit class embeddings.
        tokenizer: Of the model's texts.
    """

    class_embeddings: Tensor
    model: Any

    def __init__(self, model: nn.Module, text: Tensor, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        scale = float(self.model.logit_scale.detach().exp())
        self.register_buffer("class_embeddings", (scale * text).contiguous())
        weight = self.class_embeddings.float().numpy()
        self.linear_head = LinearHead(weight, np.zeros(len(weight), np.float32))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit (N, D) image embeddings and (N, K) logits."""
        features = self.model.encode_image(images, normalize=True)
        return features, features @ self.class_embeddings.T


def load_open_clip(spec: ModelSpec) -> Classifier:
    """Load ``open_clip:ARCH/PRETRAINED``, ``open_clip:hf-hub:ORG/NAME`` or ``open_clip:local-dir:FOLDER``.

    Options: ``labels=FILE`` (class ids and names; ImageNet-1k where left out), ``templates=openai`` (80 prompts a
    class, as published) or ``simple`` (7), ``pretrained=false`` (random weights, seeded).

    Raises:
        ModelError: The weights cannot be had.
        ConfigError: OpenCLIP is not installed or an option is unknown.
    """
    spec.check_options("labels", "templates", "pretrained")
    arch, tag = _arch_and_tag(spec)
    model, tokenizer = create_open_clip(arch, tag, image_size=spec.image_size, what=spec.text)
    import open_clip

    labels, names = _labels(spec, open_clip)
    _say_equal_texts(spec.text, labels, names)
    templates = _templates(spec, open_clip)
    with torch.inference_mode():
        text = open_clip.build_zero_shot_classifier(model.eval(), tokenizer, names, templates, num_classes_per_batch=10)
    core = ZeroShotCore(model, text.T.clone(), tokenizer)
    return Classifier.build(spec.text, core, labels, _preprocess(model, spec.text))


def create_open_clip(
    arch: str, tag: str | None = None, *, image_size: int | None = None, load_weights: bool = True, what: str = ""
) -> tuple[Any, Tokenizer]:
    """Make an OpenCLIP model and its tokenizer.

    Args:
        arch: Architecture, ``hf-hub:ORG/NAME`` or ``local-dir:FOLDER``.
        tag: Pretrained weights of an architecture; random ones, seeded, where left out.
        image_size: Input side in place of the model's own, px.
        load_weights: Read the weights of a folder or a hub's repository.
        what: How messages call it.

    Raises:
        ModelError: It cannot be had.
        ConfigError: OpenCLIP is not installed.
    """
    try:
        import open_clip
    except ImportError as error:
        raise ConfigError(
            f"{what or arch}: OpenCLIP is not installed: pip install 'spurious-imagenet[clip]'."
        ) from error
    try:
        kwargs: dict[str, Any] = {} if image_size is None else {"force_image_size": image_size}
        with seeded(0):
            model = open_clip.create_model(
                arch,
                pretrained=tag,
                load_weights=load_weights,
                # Without it a model whose weights are not found goes on with random ones.
                require_pretrained=load_weights and (tag is not None or arch.startswith(_SOURCES)),
                # Weights trained with QuickGELU are listed under architectures of GELU too.
                force_quick_gelu=bool(tag and open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu")),
                **kwargs,
            )
        return model, open_clip.get_tokenizer(arch)
    except Exception as error:
        raise ModelError(f"{what or arch} cannot be loaded: {one_line(error, 300)}") from error


def is_published_open_clip(arch: str, tag: str) -> bool:
    """Tell whether OpenCLIP itself publishes weights of this name; it takes any other name for a local file.

    Raises:
        ConfigError: OpenCLIP is not installed.
    """
    try:
        import open_clip
    except ImportError as error:
        raise ConfigError("OpenCLIP is not installed: pip install 'spurious-imagenet[clip]'.") from error
    return (arch, tag) in open_clip.list_pretrained()


def save_open_clip(model: nn.Module, folder: Path) -> None:
    """Write a model's weights beside its ``open_clip_config.json``, as ``open_clip:local-dir:FOLDER`` reads them."""
    save_torch(folder / "open_clip_model.safetensors", model.state_dict())


def text_embeddings(classifier: Classifier, texts: Sequence[str], prompt: str = "a photo of {}") -> NDArray[np.float32]:
    """Embed texts where a zero-shot classifier embeds images.

    Args:
        classifier: An ``open_clip:`` model.
        texts: What to embed.
        prompt: Put around each text, which replaces ``{}``.

    Returns:
        (n, D) float32 unit vectors; the inner product with the classifier's features is the cosine.

    Raises:
        ModelError: The model knows no text.
        ConfigError: The prompt has no ``{}``.
    """
    core = classifier.network.core
    if not isinstance(core, ZeroShotCore):
        raise ModelError(f"{classifier.spec} embeds no text: expected an open_clip: model.")
    if "{}" not in prompt:
        raise ConfigError(f"the prompt {prompt!r} has no place for the text: expected one with {{}}.")
    distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    prompts = [prompt.replace("{}", text) for text in distinct]
    blocks = (prompts[i : i + _TEXTS] for i in range(0, len(prompts), _TEXTS))
    with torch.inference_mode():
        embedded = torch.cat([core.model.encode_text(core.tokenizer(block), normalize=True) for block in blocks])
    return np.asarray(embedded.float().numpy()[[distinct[text] for text in texts]], np.float32)


def _arch_and_tag(spec: ModelSpec) -> tuple[str, str | None]:
    if spec.address.startswith(_SOURCES):
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


def _say_equal_texts(what: str, labels: LabelSpace, names: Sequence[str]) -> None:
    """Warn of classes that a zero-shot head cannot tell apart, because their texts are the same."""
    of_text: dict[str, list[str]] = {}
    for class_id, name in zip(labels.class_ids, names, strict=True):
        of_text.setdefault(name, []).append(class_id)
    equal = [f"{' and '.join(ids)} ({text!r})" for text, ids in of_text.items() if len(ids) > 1]
    if equal:
        more = f" and {len(equal) - _NAMED} more" if len(equal) > _NAMED else ""
        _LOG.warning(
            "%s cannot tell classes apart that have the same text: %s%s; give them texts of their own (labels=FILE)",
            *(what, ", ".join(equal[:_NAMED]), more),
        )


def _templates(spec: ModelSpec, open_clip: Any) -> Any:
    known = {"openai": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES}
    name = spec.options.get("templates", "openai")
    if name not in known:
        raise ConfigError(f"{spec.text}: templates={name!r} is unknown: expected {' or '.join(known)}.")
    return known[name]


def _preprocess(model: Any, what: str) -> Preprocess:
    visual = model.visual
    sides = visual.image_size if isinstance(visual.image_size, tuple | list) else (visual.image_size,) * 2
    config = getattr(visual, "preprocess_cfg", {})
    mode, fill = config.get("resize_mode") or "shortest", config.get("fill_color") or 0
    if sides[0] != sides[1]:
        raise ModelError(f"{what} takes images of {sides[1]}x{sides[0]} px: expected squares.")
    if mode not in _RESIZE_MODES or (mode == "longest" and fill != 0):
        raise ModelError(
            f"{what} prepares images by resize_mode={mode!r}, fill_color={fill!r}: expected one of "
            f"{', '.join(_RESIZE_MODES)}, and the colour 0."
        )
    return Preprocess.evaluation(
        size=int(sides[0]),
        crop_pct=1.0,
        interpolation=config.get("interpolation", "bicubic"),
        resize_mode=_RESIZE_MODES[mode],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
