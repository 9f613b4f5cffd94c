"""Label spaces: what a model's outputs are called, and how they map onto the benchmark's classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from spurious_imagenet.errors import ModelError

__all__ = [
    "NO_LABELS",
    "LabelSpace",
    "guessed_label_space",
    "imagenet_label_space",
    "known_label_space",
    "label_space_for",
    "of_classes",
]

_LOG = logging.getLogger(__name__)

# Width of the head -> name of timm's class list. The widths tell them apart.
_SPACE_OF_WIDTH = {
    1000: "imagenet-1k",
    11221: "imagenet-21k-miil",
    11821: "imagenet-12k",
    21841: "imagenet-22k",
    21842: "imagenet-22k-ms",
    21843: "imagenet-21k-goog",
}


# Share of equal labels, in the same places, from which a list is taken for ImageNet's: lists of its words differ from
# each other in a few synonyms, lists of other classes in nearly all.
_SAME_CLASSES = 0.95


@dataclass(frozen=True)
class LabelSpace:
    """An ordered set of classes; output ``i`` of a model is class ``class_ids[i]``.

    Attributes:
        name: Name of the space, such as ``imagenet-1k`` or ``custom``.
        class_ids: One stable identifier per class: its WordNet id for ImageNet, a folder name otherwise.
        class_names: One human-readable name a class.

    Examples:
        >>> labels = LabelSpace("custom", ("n1", "n2"), ("koala", "bee"))
        >>> labels.index("n2"), len(labels), "n3" in labels
        (1, 2, False)
    """

    name: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.class_ids) != len(self.class_names):
            raise ModelError(
                f"label space {self.name!r} has {len(self.class_ids)} class ids and {len(self.class_names)} names: "
                "expected one name for each id."
            )
        self._index.update({c: i for i, c in enumerate(self.class_ids)})
        if len(self._index) != len(self.class_ids):
            twice = next(c for i, c in enumerate(self.class_ids) if self._index[c] != i)
            raise ModelError(f"label space {self.name!r} lists class id {twice!r} twice: expected each id once.")

    def __len__(self) -> int:
        return len(self.class_ids)

    def __contains__(self, class_id: object) -> bool:
        return class_id in self._index

    def index(self, class_id: str) -> int:
        """Return the output index of a class.

        Raises:
            ModelError: The space does not hold the class.
        """
        try:
            return self._index[class_id]
        except KeyError:
            known = f"expected an id such as {self.class_ids[0]!r}" if len(self) else "the model is a bare encoder"
            raise ModelError(
                f"class {class_id!r} is not in the label space {self.name!r} ({len(self)} classes): {known}."
            ) from None

    def get(self, class_id: str | None, default: int = -1) -> int:
        """Return the output index of a class, or ``default`` where the space does not hold it."""
        return self._index.get(class_id, default) if class_id is not None else default


#: The label space of an encoder without a head.
NO_LABELS = LabelSpace("none", (), ())


def of_classes(present: int, total: int) -> str:
    """Say on how many of a model's classes a figure rests, to stand beside it."""
    if present == total:
        return f"all {total:,} classes of the model"
    return f"{present:,} of the model's {total:,} classes"


@cache
def imagenet_label_space(name: str = "imagenet-1k") -> LabelSpace:
    """Build one of ImageNet's label spaces from the class lists that timm ships.

    Args:
        name: ``imagenet-1k``, ``imagenet-12k``, ``imagenet-21k-goog``, ``imagenet-21k-miil``, ``imagenet-22k`` or
            ``imagenet-22k-ms``.

    Raises:
        ModelError: The name is not one of these.
    """
    from timm.data.imagenet_info import ImageNetInfo

    if name not in _SPACE_OF_WIDTH.values():
        known = ", ".join(sorted(_SPACE_OF_WIDTH.values()))
        raise ModelError(f"label space {name!r} is unknown: expected one of {known}.")
    info: Any = ImageNetInfo(name)
    ids = tuple(info.label_names())
    # A synset lists its synonyms; the first one names it.
    return LabelSpace(name, ids, tuple(info.index_to_description(i).partition(",")[0] for i in range(len(ids))))


def label_space_for(
    num_classes: int,
    *,
    class_ids: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
) -> LabelSpace:
    """Choose the label space of a model with ``num_classes`` outputs.

    Given class ids win; else the named space; else the ImageNet space whose size fits, which is a guess (see
    :func:`guessed_label_space`).

    Args:
        num_classes: Width of the model's output.
        class_ids: Ids in output order, for a custom space.
        class_names: Names in output order; the ids where left out.
        name: Name of the space.

    Raises:
        ModelError: Nothing fits ``num_classes``.
    """
    if class_ids is not None:
        space = LabelSpace(name or "custom", tuple(class_ids), tuple(class_names or class_ids))
    elif name is not None:
        space = imagenet_label_space(name)
    else:
        space = _space_of_size(num_classes)
    if len(space) != num_classes:
        raise ModelError(
            f"the model's head has {num_classes} outputs, but its label space {space.name!r} has {len(space)} classes."
        )
    return space


def guessed_label_space(num_classes: int, what: str, *, certain: bool = False) -> LabelSpace:
    """Take the ImageNet space whose size is that of a model's output, where nothing says what the outputs are.

    Args:
        num_classes: Width of the model's output.
        what: The model, for the warning.
        certain: Something does say that it is ImageNet's, such as timm's name for the weights: no warning.

    Raises:
        ModelError: No ImageNet space has this size.
    """
    space = _space_of_size(num_classes)
    if not certain:
        _LOG.warning(
            "%s does not say what its %d outputs are: taken for the classes of %s, because of their number; name them "
            "if they are others, or to be sure (labels=FILE or label_space=%s in a model spec, labels= in Python)",
            *(what, num_classes, space.name, space.name),
        )
    return space


def known_label_space(ids: Sequence[str], names: Sequence[str]) -> LabelSpace:
    """Return the space of labels that come with weights: ImageNet's own where they are its, else a custom one.

    Args:
        ids: In output order: WordNet ids, or words for the classes.
        names: Human-readable, in the same order.
    """
    if len(ids) in _SPACE_OF_WIDTH:
        space = imagenet_label_space(_SPACE_OF_WIDTH[len(ids)])
        rows = zip(ids, space.class_ids, space.class_names, strict=True)
        same = sum(own == class_id or _first_word(own) == _first_word(name) for own, class_id, name in rows)
        if same >= _SAME_CLASSES * len(ids):
            return space
    return LabelSpace("custom", tuple(ids), tuple(names))


def _first_word(label: str) -> str:
    return label.partition(",")[0].strip().replace("_", " ").casefold()


def _space_of_size(num_classes: int) -> LabelSpace:
    if num_classes not in _SPACE_OF_WIDTH:
        raise ModelError(
            f"the model has {num_classes} outputs, which no ImageNet label space has: give its classes "
            "(a `labels=` file with one class id per line)."
        )
    return imagenet_label_space(_SPACE_OF_WIDTH[num_classes])
