"""Which models chose the images: what a benchmark must know to mark entries of related models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spurious_imagenet.datasets.manifest import SelectionModel
from spurious_imagenet.errors import ModelError, StoreError, one_line
from spurious_imagenet.io import canonical_json, write_json
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.spec import ModelSpec, public_spec
from spurious_imagenet.models.weights_file import read_weights_info

__all__ = [
    "architecture_of",
    "identity_under_new_paths",
    "read_selection_models",
    "remember_voters",
    "remembered_voters",
]

_VOTERS = "voters.json"


def architecture_of(spec: str) -> str | None:
    """Return timm's name of a model's architecture, as far as its spec or its weights file says it; None otherwise."""
    parsed = ModelSpec.parse(spec)
    if parsed.scheme == "timm" and ":" not in parsed.address and "/" not in parsed.address:
        return parsed.address.partition(".")[0]
    if parsed.scheme == "wheel":
        return f"tf_{parsed.address}"
    if parsed.scheme not in {"file", "robust"}:
        return None
    if "arch" in parsed.options:
        return parsed.options["arch"]
    try:
        info = read_weights_info(Path(parsed.address).expanduser())
    except ModelError:
        info = None  # pickled tensors say nothing of themselves, and a scorer's file may be on another machine
    if info is not None:
        return info.arch
    return "resnet50" if parsed.scheme == "robust" else None


def remember_voters(folder: Path, voters: Sequence[SelectionModel]) -> None:
    """Write who votes beside the votes, or compare with who began.

    Raises:
        StoreError: A model's weights have changed since the run began: its votes would be of two models.
    """
    content = [v.model_dump(mode="json") for v in voters]
    path = folder / _VOTERS
    if path.is_file() and path.read_text(encoding="utf-8") != canonical_json(content):
        began = [v.get("weights_sha256") for v in json.loads(path.read_text(encoding="utf-8"))]
        odd = next((v for v, old in zip(voters, began, strict=False) if v.weights_sha256 != old), None)
        if odd is not None:
            raise StoreError(f"{odd.model} has other weights than when {folder.parent} was begun: write elsewhere.")
    write_json(path, content)


def remembered_voters(folder: Path, specs: Sequence[str]) -> tuple[SelectionModel, ...]:
    """Return who voted; without hashes where an older version of this project did not write them."""
    path = folder / _VOTERS
    if path.is_file():
        return tuple(SelectionModel.model_validate(v) for v in json.loads(path.read_text(encoding="utf-8")))
    return tuple(SelectionModel(model=spec, role="voter") for spec in specs)


def identity_under_new_paths(root: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Return what makes a candidates folder, in the words of who began it where the voters only lie elsewhere now.

    Args:
        root: The folder.
        identity: What makes it, with the voters' specs of today.

    Returns:
        What began the folder if it differs by directories in the voters' specs alone, and the models that are there
        now have the weights that were written down; else ``identity``.
    """
    begun = _begun(root)
    if begun is None or begun == identity or _without_directories(begun) != _without_directories(identity):
        return identity
    finished = (root / "receipt.json").is_file()
    voted = (
        read_selection_models(root)[1:]
        if finished
        else remembered_voters(root / "unfinished", begun["settings"]["agree"])
    )
    for spec, before in zip(identity["settings"]["agree"], voted, strict=True):
        if spec != before.model and load_classifier(spec).weights_sha256 != before.weights_sha256:
            return identity
    return begun


def _begun(root: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((root / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _without_directories(identity: dict[str, Any]) -> dict[str, Any]:
    settings = identity["settings"]
    return identity | {"settings": settings | {"agree": [public_spec(spec) for spec in settings["agree"]]}}


def read_selection_models(candidates: str | Path) -> tuple[SelectionModel, ...]:
    """Read which models chose the candidates, the scoring model first.

    Candidates of older versions tell no weights of the voters.

    Args:
        candidates: Folder written by ``spurious mine``.

    Raises:
        StoreError: The run is unfinished, or its receipt cannot be read.
    """
    path = Path(candidates) / "receipt.json"
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
        if "miners" in receipt:
            return tuple(SelectionModel.model_validate(m) for m in receipt["miners"])
        made = receipt["identity"]
        scorer = SelectionModel(model=made["scorer"], role="scorer", weights_sha256=made["scorer_weights_sha256"])
        return scorer, *(SelectionModel(model=spec, role="voter") for spec in made["settings"]["agree"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        reason = one_line(error)
        raise StoreError(f"{path} does not say which models chose the candidates: {reason}") from error
