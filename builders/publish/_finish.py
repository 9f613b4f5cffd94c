"""The last steps of every published dataset: the manifest, the description for machines, and the check of it all."""

from __future__ import annotations

import datetime
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spurious_imagenet.builders.publish._check import demand_sound
from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.datasets.manifest import MANIFEST, DatasetManifest
from spurious_imagenet.errors import ConfigError


def finish(
    directory: Path,
    manifest: DatasetManifest,
    card: str,
    options: CardOptions,
    *,
    made: str | Path,
    review: Mapping[str, Any] | None = None,
) -> None:
    """Write what stands beside the parquet files, and check the folder.

    Args:
        directory: The dataset's folder, not yet where it will be.
        manifest: What it is.
        card: Text of its README.
        options: What the publisher says.
        made: What the dataset was made from. Croissant demands a date, and the clock's would give other bytes every
            time: where neither the publisher nor a verdict has one, it is the day on which this file was written.
        review: How people judged.

    Raises:
        ConfigError: ``SOURCE_DATE_EPOCH``, which overrides that day, is not a time.
        DataError: Something is wrong with the folder.
    """
    (directory / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    (directory / "README.md").write_text(card, encoding="utf-8")
    if importlib.util.find_spec("mlcroissant"):
        from spurious_imagenet.data_cards.croissant import write_croissant

        write_croissant(directory, manifest, review=review, options=options, made=_day(Path(made)))
    demand_sound(directory)


def _day(made: Path) -> datetime.date:
    """Return the day on which a file was written, or that of ``SOURCE_DATE_EPOCH``, as reproducible builds have it."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        seconds = made.stat().st_mtime if given is None else int(given)
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date()
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"SOURCE_DATE_EPOCH is {given!r}: expected seconds since 1970.") from error
