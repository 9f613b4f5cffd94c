"""Whose pictures a dataset holds, counted from the attribution of each image."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.datasets.manifest import DatasetManifest

OPEN_IMAGES = "OpenImages"
_COLUMNS = ("license", "author", "landing_url", "metadata", "verdicts")
#: Columns that together are in OpenImages' attribution file only.
_OPEN_IMAGES_KEYS = {"ImageID", "OriginalLandingURL", "OriginalMD5"}
_CC = re.compile(r"creativecommons\.org/licenses/(by(?:-nc)?(?:-nd|-sa)?)/(\d\.\d)")
_CC0 = re.compile(r"creativecommons\.org/publicdomain/zero/1\.0")
#: Creative Commons licences that the Hub knows by an id.
_HUB_IDS = {
    *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0", "cc0-1.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
}


@dataclass(frozen=True)
class Sources:
    """What the images of a dataset say of whose they are.

    Attributes:
        images: How many rows were looked at.
        licenses: Licence as the source words it -> images; most first.
        unlicensed: Images that do not say.
        with_author: Images whose author is named.
        with_link: Images with a link to the original.
        collections: Image collection that the metadata betray -> images.
        last_verdict: Date of the latest verdict, ISO 8601; None without verdicts.
    """

    images: int = 0
    licenses: dict[str, int] = field(default_factory=dict)
    unlicensed: int = 0
    with_author: int = 0
    with_link: int = 0
    collections: dict[str, int] = field(default_factory=dict)
    last_verdict: str | None = None

    def hub_licenses(self) -> list[str] | None:
        """Return the Hub's ids of all licences; None if an image has none or one without an id."""
        ids = {_hub_id(text) for text in self.licenses}
        known = sorted(i for i in ids if i is not None)
        return known if known and None not in ids and not self.unlicensed else None

    def license_rows(self) -> list[tuple[str, str | None, int]]:
        """Return each licence, its page if it is a well-known one, and how many images have it."""
        return [(_hub_id(t) or t, _address(t) if _hub_id(t) else None, n) for t, n in self.licenses.items()]

    def hub_sources(self) -> list[str]:
        """Return what the Hub calls the sources of the data."""
        return ["extended|other-open-images"] if OPEN_IMAGES in self.collections else ["original"]


def _hub_id(text: str) -> str | None:
    if _CC0.search(text) or text.lower() == "cc0-1.0":
        return "cc0-1.0"
    match = _CC.search(text)
    found = f"cc-{match[1]}-{match[2]}" if match else text.lower()
    return found if found in _HUB_IDS else None


def read_sources(folder: str | Path, manifest: DatasetManifest, config: str = "spurious") -> Sources:
    """Count the attribution of a config's images, a row group at a time.

    Args:
        folder: The dataset, with its parquet files.
        manifest: Names the files.
        config: Whose files; columns that it lacks count as not said.
    """
    licenses: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    last: str | None = None
    for file in (f for f in manifest.files if f.config == config):
        with pq.ParquetFile(Path(folder) / file.path) as parquet:
            columns = [c for c in _COLUMNS if c in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    licenses[row.get("license") or ""] += 1
                    counts["author"] += bool(row.get("author"))
                    counts["link"] += bool(row.get("landing_url"))
                    counts[OPEN_IMAGES] += _is_open_images(row.get("metadata"))
                    dates = [v["date"] for v in row.get("verdicts") or () if v.get("date")]
                    last = max([*dates, last or ""], default=None) or None
    unlicensed = licenses.pop("", 0)
    return Sources(
        images=sum(licenses.values()) + unlicensed,
        licenses=dict(sorted(licenses.items(), key=lambda item: (-item[1], item[0]))),
        unlicensed=unlicensed,
        with_author=counts["author"],
        with_link=counts["link"],
        collections={OPEN_IMAGES: counts[OPEN_IMAGES]} if counts[OPEN_IMAGES] else {},
        last_verdict=last,
    )


def _is_open_images(metadata: str | None) -> bool:
    if not metadata:
        return False
    found = json.loads(metadata)
    if not isinstance(found, dict):
        return False
    nested = [key for value in found.values() if isinstance(value, dict) for key in value]
    return _OPEN_IMAGES_KEYS.issubset({*found, *nested})


def license_front(options: CardOptions, sources: Sources | None) -> dict[str, object]:
    """Return the front matter's entries on the licence."""
    if options.license is not None:
        front: dict[str, object] = {"license": options.license}
        if options.license == "other":
            front["license_name"] = options.license_name or "other"
        if options.license_link is not None:
            front["license_link"] = options.license_link
        return front
    known = sources.hub_licenses() if sources is not None else None
    if known is not None:
        return {"license": known[0] if len(known) == 1 else known}
    if sources is None or not sources.licenses:
        return {"license": "unknown"}
    return {"license": "other", "license_name": "per-image"}


def license_addresses(options: CardOptions, sources: Sources | None) -> list[str]:
    """Return the licences as Croissant wants them: addresses where they have one, words where they have not."""
    if options.license is not None:
        return [options.license_link or _address(options.license_name or options.license)]
    if sources is not None and sources.licenses:
        return [_address(text) for text in sources.licenses] + (
            ["Some images do not state one"] * bool(sources.unlicensed)
        )
    return ["Not stated: see the publisher"] if sources is None else ["Not stated by the sources of the images"]


def _address(text: str) -> str:
    found = _hub_id(text)
    if found is None:
        return text
    if found == "cc0-1.0":
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    kind, _, version = found.removeprefix("cc-").rpartition("-")
    return f"https://creativecommons.org/licenses/{kind}/{version}/"
