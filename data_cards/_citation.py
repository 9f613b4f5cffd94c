"""How to cite a dataset."""

from __future__ import annotations

import re

from spurious_imagenet.data_cards.card import one_line
from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.datasets.manifest import DatasetManifest


def citation(manifest: DatasetManifest, options: CardOptions, year: str | None = None) -> str:
    """Return BibTeX: the publisher's, or an entry made of title, version, authors, year and address."""
    if options.citation is not None:
        return options.citation
    fields = {
        "title": one_line(manifest.name),
        "author": " and ".join(options.authors),
        "version": manifest.version,
        "year": year or (str(options.published.year) if options.published else ""),
        "url": options.url or "",
    }
    key = re.sub(r"[^a-z0-9]+", "-", fields["title"].lower()).strip("-") or "dataset"
    lines = [f"  {name} = {{{_escaped(value)}}}" for name, value in fields.items() if value]
    return "@misc{" + key + ",\n" + ",\n".join(lines) + "\n}"


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", "/"))
