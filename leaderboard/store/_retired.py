"""What of an entry's predictions a later version still asks for."""

from __future__ import annotations

import pandas as pd

from spurious_imagenet.leaderboard.store.versions import version_order
from spurious_imagenet.leaderboard.version import BenchmarkVersion


def without_retired(table: pd.DataFrame, own: str, version: BenchmarkVersion) -> pd.DataFrame:
    """Drop exactly the rows of images that were retired since an entry's own version.

    Any other difference from the version's images stays, for
    :func:`~spurious_imagenet.leaderboard.submission.predictions.as_predictions` to refuse.

    Args:
        table: What was submitted: ``side``, ``class_id``, ``sha256`` and more.
        own: The version that it was submitted for.
        version: The version that it shall be scored on.
    """
    since, until = version_order(own), version_order(version.info.version)
    retired = {(r.class_id, r.sha256) for r in version.info.retired if since < version_order(r.since) <= until}
    if not retired:
        return table
    spurious = version.side("spurious")
    # Two concepts of a class may share an image, of which one may stay.
    kept = spurious[spurious["sha256"].isin([sha256 for _, sha256 in retired])]
    retired -= set(zip(kept["class_id"], kept["sha256"], strict=True))
    suspects = table[(table["side"] == "spurious") & table["sha256"].isin([sha256 for _, sha256 in retired])]
    keys = zip(suspects["class_id"], suspects["sha256"], strict=True)
    dropped = suspects.index[[key in retired for key in keys]]
    return table.drop(index=dropped).reset_index(drop=True)
