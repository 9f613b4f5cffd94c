"""What the outputs of a timm model are called: what its weights say first, what their number suggests last."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spurious_imagenet.errors import DataError, ModelError
from spurious_imagenet.models.labels import LabelSpace, guessed_label_space, known_label_space

__all__ = ["labels_of_timm"]

#: timm's tags name what weights were trained on, last what they were last trained on; a resolution may follow.
_TRAINED_ON_IMAGENET = re.compile(r"(?:^|_)in(?:1k|12k|21k|22k)(?:_\d+)*$")


def labels_of_timm(model: Any, what: str, address: str = "") -> LabelSpace:
    """Return the label space of a timm model with published weights.

    Its configuration's ``label_names`` and ``label_descriptions`` decide, then ``id2label`` of the Hub's or the
    folder's ``config.json``. Only where neither is there does the number of outputs; a warning says so, unless timm's
    own name for the weights says that they were trained on ImageNet.

    Args:
        model: What timm made.
        what: How messages call it.
        address: Where it comes from, as timm takes it: a name, ``hf-hub:…`` or ``local-dir:…``.

    Raises:
        ModelError: The labels that come with the weights do not fit its outputs, or nothing is known of them.
    """
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    width = int(model.num_classes)
    said = _of_config(config) or _of_transformers(address)
    if said is None:
        return guessed_label_space(width, what, certain=_named_for_imagenet(config, address))
    ids, names = said
    if len(ids) != width:
        raise ModelError(
            f"{what} comes with {len(ids)} labels for {width} outputs: give the classes of its outputs "
            "(labels=FILE, one class id per line)."
        )
    return known_label_space(ids, names)


def _of_config(config: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    ids, described = config.get("label_names"), config.get("label_descriptions")
    if not ids and isinstance(described, Sequence) and not isinstance(described, str):
        ids = described
    if not ids:
        return None
    names = [described.get(i) for i in ids] if isinstance(described, Mapping) else [None] * len(ids)
    if isinstance(described, Sequence) and not isinstance(described, str) and len(described) == len(ids):
        names = list(described)
    return tuple(map(str, ids)), tuple(str(name or i) for i, name in zip(ids, names, strict=True))


def _of_transformers(address: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Read ``id2label`` where the model's repository or folder has it."""
    source, _, rest = address.partition(":")
    file: Path | None = None
    if source == "local-dir":
        file = Path(rest) / "config.json"
    elif source in {"hf-hub", "hf_hub"}:
        from timm.models._hub import download_from_hf  # as timm itself has just read the model

        file = Path(download_from_hf(rest, "config.json"))
    if file is None or not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("id2label")
        names = [str(found[key]) for key in sorted(found, key=int)] if isinstance(found, dict) else None
        whole = names is None or sorted(map(int, found)) == list(range(len(found)))
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file} cannot be read: expected the model's configuration as JSON.") from error
    if not whole:
        raise ModelError(f"{file} does not name each output in id2label: expected the numbers from 0 without a gap.")
    return (tuple(names), tuple(names)) if names else None


def _named_for_imagenet(config: Mapping[str, Any], address: str) -> bool:
    source, _, name = address.rpartition(":")
    if source in {"hf-hub", "hf_hub"}:
        if not name.startswith("timm/"):
            return False
        tag = name.partition("@")[0].partition(".")[2]
    else:
        tag = "" if source else str(config.get("tag") or "")
    return _TRAINED_ON_IMAGENET.search(tag) is not None
