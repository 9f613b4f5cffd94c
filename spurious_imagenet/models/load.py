"""From a model spec to a Classifier; one loader a scheme."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.io import moved_along
from spurious_imagenet.models.classifier import Classifier
from spurious_imagenet.models.spec import ModelSpec

__all__ = ["SCHEMES", "load_classifier", "load_recorded", "moved_spec"]

_HERE = "spurious_imagenet.models"

#: Scheme → module and function that loads it; imported when first used, so that each scheme's libraries stay optional.
SCHEMES: dict[str, tuple[str, str]] = {
    "timm": (f"{_HERE}.timm_models", "load_timm"),
    "open_clip": (f"{_HERE}.open_clip_models", "load_open_clip"),
    "file": (f"{_HERE}.file_models", "load_file_model"),
    "robust": (f"{_HERE}.file_models", "load_robust"),
    "wheel": (f"{_HERE}.file_models", "load_wheel"),
    "head": (f"{_HERE}.head_file", "load_head"),
    "spufix": ("spurious_imagenet.benchmark.mitigation.spufix_module", "load_spufix"),
    "python": (__name__, "load_python"),
}

#: Schemes whose address is a file on this machine.
_OF_FILES = frozenset({"file", "robust", "head", "spufix"})


def load_classifier(spec: str, *, image_size: int | None = None) -> Classifier:
    """Load a model.

    Args:
        spec: ``scheme:address?option=value``; the schemes are :data:`SCHEMES`.
        image_size: Input side that overrides the model's own, px.

    Raises:
        ConfigError: The spec is malformed.
        ModelError: The model cannot be loaded or does not fit its labels.

    Examples:
        >>> classifier = load_classifier("timm:test_resnet?pretrained=false")
        >>> len(classifier.labels), classifier.feature_dim, classifier.preprocess.size
        (1000, 96, 160)
    """
    parsed = ModelSpec.parse(spec, image_size)
    if parsed.scheme not in SCHEMES:
        raise ConfigError(f"model {spec!r} has the unknown scheme {parsed.scheme!r}: expected {', '.join(SCHEMES)}.")
    module, function = SCHEMES[parsed.scheme]
    load: Callable[[ModelSpec], Classifier] = getattr(import_module(module), function)
    return load(parsed)


def load_recorded(spec: str, *, image_size: int | None = None, what: str) -> Classifier:
    """Load a model that a file names; as :func:`load_classifier`, but never by running Python code.

    Where its weights are no longer there, they are looked for where they lie if they were moved together with the file.

    Args:
        spec: What the file says.
        image_size: Input side that overrides the model's own, px.
        what: The file, for the message.

    Raises:
        ModelError: The file names a ``python:`` model, itself or in an option.
    """
    said = unquote(unquote(spec))
    if said.startswith("python:") or "=python:" in said:
        raise ModelError(
            f"{what} names the model {spec!r}, which would run code: if you trust it, name it yourself by an option of "
            "the spec (encoder= or model=)."
        )
    return load_classifier(moved_spec(spec, what), image_size=image_size)


def moved_spec(spec: str, beside: str | Path) -> str:
    """Return the spec of a model that a file names, with the place where its weights are now.

    Args:
        spec: What the file says.
        beside: The file. If it was moved together with the weights, or is read from another working directory, these
            are looked for below the folders that it is in; whether they are the same is for the caller to check.
    """
    scheme, _, rest = spec.partition(":")
    address, mark, options = rest.partition("?")
    if scheme not in _OF_FILES or Path(address).expanduser().exists():
        return spec
    found = next((place for place in moved_along(address, beside) if place.is_file()), None)
    return spec if found is None else f"{scheme}:{found}{mark}{options}"


def load_python(spec: ModelSpec) -> Classifier:
    """Load ``python:package.module:factory``, whose ``factory()`` returns a Classifier.

    ``Classifier.from_module`` makes one of any ``torch.nn.Module``. This runs the user's own code, as asked.

    Raises:
        ModelError: The module or the factory is not there, or returns something else.
    """
    spec.check_options()
    module_name, _, name = spec.address.partition(":")
    try:
        factory = getattr(import_module(module_name), name or "classifier")
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{spec.text} cannot be imported: {error}.") from error
    made = factory()
    if not isinstance(made, Classifier):
        raise ModelError(
            f"{spec.text} returned {type(made).__name__}: expected a Classifier (see Classifier.from_module)."
        )
    return made
