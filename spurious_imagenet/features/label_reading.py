"""Which class of a model a sample's JSON and ``.cls`` stand for, and why where they stand for none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import BinaryIO, NamedTuple

from spurious_imagenet.models.labels import LabelSpace
from spurious_imagenet.shards import SampleEntry, SampleMetadata, read_metadata

__all__ = ["NOT_OF_MODEL", "LabelReader", "ReadLabel"]

#: How the problems begin that another model's classes would not have.
NOT_OF_MODEL = "the class id is not one of the model's"


class ReadLabel(NamedTuple):
    """What one sample is labelled as.

    Attributes:
        class_id: Its class id, which need not be one of the model's; None where it has none that can be used.
        label: Its index in the model's label space; -1 where it has none.
        problem: Why what is written cannot be used, or is not to be trusted; None where nothing is wrong. A class that
            the model simply does not have is not a problem: ``label`` says so.
    """

    class_id: str | None
    label: int
    problem: str | None = None


class LabelReader:
    """Reads labels for one label space; a class id in the JSON wins over ``.cls``.

    Args:
        labels: The model's label space; empty for a bare encoder.
    """

    def __init__(self, labels: LabelSpace) -> None:
        self.labels = labels

    def read_shard(self, file: BinaryIO, samples: Sequence[SampleEntry]) -> list[ReadLabel]:
        """Read the labels of a shard's samples, in their order.

        Args:
            file: The shard's local file, opened for binary reading.
            samples: Its samples.

        Raises:
            DataError: The file is shorter than when it was indexed.
        """
        return self.read_all([read_metadata(file, sample) for sample in samples])

    def read_all(self, said: Sequence[SampleMetadata]) -> list[ReadLabel]:
        """Read the labels of samples that were numbered by one hand, such as those of one shard."""
        usual = self._usual_indices(said)
        return [self._contradicted(self.read(one), one, usual) for one in said]

    def read(self, said: SampleMetadata) -> ReadLabel:
        """Read the label of one sample."""
        if said.class_id is not None:
            label = self.labels.get(said.class_id)
            nearest = None if label >= 0 else self.nearest(said.class_id)
            problem = None if nearest is None else f"{NOT_OF_MODEL}: {nearest}"
            return ReadLabel(said.class_id, label, problem)  # what else is wrong leaves the label as it is
        if said.cls is None or not len(self.labels):
            return ReadLabel(None, -1, said.problem and self._with_hint(said.problem))
        if said.cls >= len(self.labels):
            outside = f".cls is outside of the model's classes: {said.cls}, expected 0 to {len(self.labels) - 1}"
            return ReadLabel(None, -1, outside)
        return ReadLabel(self.labels.class_ids[said.cls], said.cls, _contradiction(said))

    def nearest(self, name: str) -> str | None:
        """Say which class a name may stand for that is not a class id: another case, a class name, an index."""
        text = name.strip()
        if (found := self._ids.get(text.casefold())) is not None:
            return f"{name!r:.60}, but {found!r} is"
        if ids := self._names.get(_plain(text)):
            which = f"class {ids[0]!r}" if len(ids) == 1 else f"the classes {', '.join(map(repr, ids[:3]))}"
            return f"{name!r:.60}, which is the name of {which}"
        if text.isascii() and text.isdigit() and len(text) < 9 and int(text) < len(self.labels):
            return f"{name!r:.60}, which may be the index of class {self.labels.class_ids[int(text)]!r}"
        return None

    @cached_property
    def _ids(self) -> dict[str, str]:
        return {class_id.casefold(): class_id for class_id in self.labels.class_ids}

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for class_id, name in zip(self.labels.class_ids, self.labels.class_names, strict=True):
            found[_plain(name)].append(class_id)
        return found

    def _with_hint(self, problem: str) -> str:
        value = problem.partition(".cls is not a class index: ")[2].strip("'\"")
        near = f"{value!r}, which is a class id" if value in self.labels else None
        if near is None and value and not value.isdigit():
            near = self.nearest(value)
        return problem if near is None else f".cls is not a class index: {near}"

    def _usual_indices(self, said: Sequence[SampleMetadata]) -> dict[str, int]:
        """Return the index that ``.cls`` usually gives to each class id.

        ``.cls`` counts in the shards' own numbering, which need not be the model's. Where most samples follow the
        model's, that is what every one is held to; else what most samples of the same class say.
        """
        both = [(one.class_id, one.cls) for one in said if one.class_id is not None and one.cls is not None]
        if sum(self.labels.get(class_id) == cls for class_id, cls in both) > len(both) / 2:
            return {class_id: self.labels.get(class_id) for class_id, _ in both if class_id in self.labels}
        of: dict[str, Counter[int]] = defaultdict(Counter)
        for class_id, cls in both:
            of[class_id][cls] += 1
        return {class_id: counts.most_common(1)[0][0] for class_id, counts in of.items()}

    @staticmethod
    def _contradicted(read: ReadLabel, said: SampleMetadata, usual: dict[str, int]) -> ReadLabel:
        if read.problem or said.class_id is None or said.cls is None:
            return read
        expected = usual.get(said.class_id, said.cls)
        if said.cls == expected:
            return read
        other = f"{said.class_id!r:.60} is {expected} elsewhere, .cls says {said.cls}"
        return read._replace(problem=f"the JSON and .cls disagree, and the JSON counts: {other}")


def _contradiction(said: SampleMetadata) -> str | None:
    """Return the problem of a class id that is not a text, unless it is the number that ``.cls`` says too."""
    given = next((said.meta[name] for name in ("wnid", "class_id") if said.meta.get(name) is not None), None)
    return said.problem if given is not None and given != said.cls else None


def _plain(name: str) -> str:
    """Return a name as people write folders' names: no case, and one kind of gap between words."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
