"""What a folder holds, said before it is packed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

from spurious_imagenet.builders.shards._attribution import AttributionTable, Coverage
from spurious_imagenet.builders.shards.folder import ImageFolder

#: Endings that mean the same as others: where a folder has both, shards have the other, as readers of shards take each
#: ending for a field of its own.
_SAME_TYPE = {"jpeg": "jpg", "tiff": "tif"}


class Survey(NamedTuple):
    """What is about to be packed.

    Attributes:
        types: Ending of the images as it will be in the shards -> how many have it.
        coverage: How the rows of the CSV fit the images; None where there is no CSV.
    """

    types: dict[str, int]
    coverage: Coverage | None


def survey(folder: ImageFolder, table: AttributionTable | None) -> tuple[dict[str, str], Survey]:
    """Walk a folder and match its images with the rows of a table.

    Returns:
        Ending of the files -> ending of their members in the shards; and what there is.

    Raises:
        DataError: A row could be of two images, or none is of any.
    """
    found: Counter[str] = Counter()

    def names() -> Iterator[str]:
        for file in folder.files(lambda *_: None):
            found[file.extension] += 1
            yield file.name

    if table is None:
        coverage = None
        deque(names(), maxlen=0)
    else:
        coverage = table.match(names())
    endings = {e: _SAME_TYPE[e] if _SAME_TYPE.get(e) in found else e for e in found}
    types: Counter[str] = Counter()
    for extension, count in sorted(found.items()):
        types[endings[extension]] += count
    return endings, Survey(dict(types), coverage)
