"""The components that SFE published as spurious: NPCA of its robust ResNet-50, agreed on by its labelers (§4, §6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spurious_imagenet.builders.imports._object_array import read_object_scalar
from spurious_imagenet.concepts import ConceptVerdict, ConceptVerdicts
from spurious_imagenet.errors import DataError
from spurious_imagenet.models.labels import imagenet_label_space

#: ResNet-50's features, so no class has more components.
_MAX_COMPONENTS = 2048


def read_sfe_components(path: str | Path) -> ConceptVerdicts:
    """Read ``spurious_components.npy``, a pickled dict from class index to a list of components.

    Class indices are those of ImageNet-1k. Components are 0-based in the file, as here; the paper counts from 1.

    Args:
        path: The file; it is never unpickled, see :mod:`~spurious_imagenet.builders.imports._object_array`.

    Returns:
        One ``spurious`` verdict of kind ``npca`` a component, by class index and component. Single votes were not
        published.

    Raises:
        DataError: The file is missing, holds anything but such a dict, or a class or component cannot be one.
    """
    content = read_object_scalar(path)
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} holds a {type(content).__name__}: expected a dict of classes and their components.")
    verdicts = [_verdict(k, c) for k in sorted(content) for c in _components(path, k, content[k])]
    if not verdicts:
        raise DataError(f"{path} holds no components.")
    return ConceptVerdicts(tuple(verdicts))


def _components(path: str | Path, class_index: int, components: Any) -> list[int]:
    where, classes = f"{path}, class {class_index}", len(imagenet_label_space())
    if not 0 <= class_index < classes:
        raise DataError(f"{where} is unknown: expected an ImageNet-1k index from 0 to {classes - 1}.")
    if not isinstance(components, list) or len(components) > _MAX_COMPONENTS:
        raise DataError(f"{where}: expected a list of at most {_MAX_COMPONENTS} components.")
    wrong = next((c for c in components if type(c) is not int or not 0 <= c < _MAX_COMPONENTS), None)
    if wrong is not None:
        got = wrong if type(wrong) is int else type(wrong).__name__
        raise DataError(f"{where}: component {got}: expected a number from 0 to {_MAX_COMPONENTS - 1}.")
    if len(set(components)) != len(components):
        raise DataError(f"{where} lists a component twice.")
    return sorted(components)


def _verdict(class_index: int, component: int) -> ConceptVerdict:
    return ConceptVerdict(
        kind="npca",
        class_index=class_index,
        class_id=imagenet_label_space().class_ids[class_index],
        component=component,
        verdict="spurious",
        source="sfe",
    )
