"""How many labels could not be used, and why: counted and said in one wording wherever labels are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow.compute as pc

from spurious_imagenet.errors import DataError
from spurious_imagenet.features.label_reading import NOT_OF_MODEL, ReadLabel
from spurious_imagenet.features.store import FeatureStore

__all__ = ["MAX_LABEL_PROBLEMS", "LabelCount", "labels_of_store"]

#: A larger share of labels that cannot be used is an error; the option ``--max-label-problems``.
MAX_LABEL_PROBLEMS = 0.1

_NAMED = 3
_UNKNOWN = "a class that the model does not have"


@dataclass
class LabelCount:
    """The labels of some images.

    Attributes:
        where: What holds the images, for sentences.
        images: All images.
        unlabelled: Those of which nothing says a class.
        problems: Reason -> how many labels cannot be used for it, or contradict themselves.
        examples: Reason -> what the first of them says.
        foreign: Class id -> images of classes that the model does not have.
    """

    where: str
    images: int = 0
    unlabelled: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    foreign: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, where: str, labels: Iterable[ReadLabel]) -> LabelCount:
        """Count labels that were read."""
        found = cls(where)
        for label in labels:
            found.add(label)
        return found

    def add(self, label: ReadLabel) -> None:
        """Count an image by its label."""
        self.images += 1
        self.unlabelled += label.class_id is None
        if label.problem is not None:
            self.add_problem(label.problem)
        elif label.class_id is not None and label.label < 0:
            self.foreign[label.class_id] += 1

    def add_problem(self, reason: str) -> None:
        """Count a label that cannot be used; what follows the reason's first colon is an example."""
        kind, _, example = reason.partition(": ")
        self.problems[kind] += 1
        self.examples.setdefault(kind, example)

    def unusable(self, *, foreign: bool) -> int:
        """Return how many labels cannot be used; classes that the model lacks count where they are of no use."""
        return self.problems.total() + (self.foreign.total() if foreign else 0)

    def sentence(self) -> str | None:
        """Say how many labels cannot be used, and why; None where all can."""
        number = self.unusable(foreign=True)
        if not number:
            return None
        kinds = [
            f"{count} x {kind}{f' ({self.examples[kind]})' if self.examples[kind] else ''}"
            for kind, count in self.problems.most_common(_NAMED)
        ]
        if more := len(self.problems) - len(kinds):
            kinds.append(f"{more} other reasons")
        if self.foreign:
            shown = ", ".join(map(repr, sorted(self.foreign)[:_NAMED]))
            kinds.append(f"{self.foreign.total()} x {_UNKNOWN} ({shown})")
        return f"{number} of {self.images} images of {self.where} have a label that cannot be used: {'; '.join(kinds)}."

    def check(self, allowed: float, *, foreign: bool = True) -> None:
        """Refuse where too many labels cannot be used.

        Args:
            allowed: Largest share of all images, in [0, 1].
            foreign: Count classes that the model does not have.

        Raises:
            DataError: A larger share.
        """
        number = self.unusable(foreign=foreign)
        if self.images and number / self.images > allowed:
            raise DataError(
                f"{self.sentence()} That is more than the allowed share of {allowed:g}: mend the labels, or allow "
                "more (--max-label-problems)."
            )


def labels_of_store(stores: Iterable[FeatureStore], *, own_ids: bool = False) -> LabelCount:
    """Count the labels of feature stores that cannot be used.

    Args:
        stores: The stores.
        own_ids: The stores' own class ids count, whatever the model's are.
    """
    found = LabelCount("")
    places = []
    for store in stores:
        places.append(str(store.path))
        for part in store.parts:
            for problem in part.receipt.label_problems:
                if not (own_ids and problem.reason.startswith(NOT_OF_MODEL)):
                    found.add_problem(problem.reason)
            bad = {problem.key for problem in part.receipt.label_problems}
            rows = part.rows(["key", "class_id", "label"])
            found.images += len(rows)
            found.unlabelled += rows.column("class_id").null_count
            if not own_ids and store.config.class_ids:
                rows = rows.filter(pc.and_(pc.is_valid(rows["class_id"]), pc.less(rows["label"], 0)))
                pairs = zip(rows["key"].to_pylist(), rows["class_id"].to_pylist(), strict=True)
                found.foreign.update(class_id for key, class_id in pairs if key not in bad)
    found.where = ", ".join(places)
    return found
