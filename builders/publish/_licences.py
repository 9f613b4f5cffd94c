"""Whose verdicts may be passed on: the one table of the licences of annotations, and the check against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from spurious_imagenet.concepts import ConceptVerdict
from spurious_imagenet.errors import ConfigError

#: How a verdict's source begins where it was asked for with ``spurious review``.
OWN = "review:"


class SourceLicence(NamedTuple):
    """Under what others published their annotations.

    Attributes:
        title: Whose they are.
        licence: Its terms, in words.
        notice: What must go with every copy; None where no copy may be passed on.
    """

    title: str
    licence: str
    notice: str | None


_MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

#: A verdict's source -> licence. Sources that are not here are not passed on: nobody has looked at their terms.
SOURCES = {
    "salient-imagenet": SourceLicence(
        "Salient ImageNet's votes",
        "for non-commercial use by research institutions, not to be given to third parties: everybody gets their own "
        "copy from its authors",
        None,
    ),
    "sfe": SourceLicence(
        "the components published with Spurious Features Everywhere",
        "MIT",
        f"Copyright (c) 2022 YanNeu\n\n{_MIT}",
    ),
}


def demand_licence(verdicts: Iterable[ConceptVerdict], what: str) -> dict[str, SourceLicence]:
    """Refuse verdicts that may not be passed on.

    Args:
        verdicts: What is to be published.
        what: Where they are, for the message.

    Returns:
        The sources that are not one's own -> their licence, whose notice must go with the dataset.

    Raises:
        ConfigError: One of them is of a source whose licence does not allow it, or is not known.
    """
    counts = Counter(v.source for v in verdicts if not v.source.startswith(OWN))
    for source, count in sorted(counts.items()):
        said = f"{what} has {count} verdicts of source {source!r}"
        if source not in SOURCES:
            raise ConfigError(f"{said}, whose licence is not known: expected verdicts of your own reviews.")
        if SOURCES[source].notice is None:
            raise ConfigError(f"{said} ({SOURCES[source].title}), {SOURCES[source].licence}: leave them out.")
    return {source: SOURCES[source] for source in sorted(counts)}


def notice_text(licences: dict[str, SourceLicence]) -> str:
    """Return what must go with the annotations of others, source by source."""
    return "\n".join(f"{source}: {found.title}\n\n{found.notice}" for source, found in licences.items())
