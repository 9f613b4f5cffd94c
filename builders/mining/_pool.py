"""From top scores to the rows of the pool: which images are candidates of which concepts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from spurious_imagenet.builders.mining.scoring import TopCandidates
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.features.store import FeatureStore

_COLUMNS = ("key", "member", "offset", "size", "meta_offset", "meta_size", "sha256", "width", "height", "class_id")


def candidate_pairs(bank: ConceptBank, top: TopCandidates) -> pd.DataFrame:
    """List (concept, image) pairs.

    Returns:
        One row per pair: ``concept`` (row of the bank), ``concept_id``, ``class_id``, ``class_name``, ``component``,
        ``rank`` (1 is the highest α), ``alpha``, ``part``, ``row`` and ``image``, a number by (part, row).
    """
    concept, place = np.nonzero(top.part >= 0)
    part, row = top.part[concept, place], top.row[concept, place]
    _, image = np.unique(np.stack([part, row]), axis=1, return_inverse=True)
    named = bank.table.iloc[concept][["concept_id", "class_id", "class_name", "component"]].reset_index(drop=True)
    columns = {
        "concept": concept,
        "rank": (place + 1).astype(np.int32),
        "alpha": top.scores[concept, place].astype(np.float32),
        "part": part,
        "row": row,
        "image": image.reshape(-1),
    }
    return pd.concat([pd.DataFrame(columns), named], axis=1)


def image_rows(store: FeatureStore, parts: Sequence[str], pairs: pd.DataFrame) -> pd.DataFrame:
    """Read the rows of all candidate images.

    Args:
        store: The pool.
        parts: Names of its parts, as ``pairs`` number them.
        pairs: From :func:`candidate_pairs`; its ``part`` and ``row`` columns are dropped in place.

    Returns:
        One row per image, in the order of the image numbers: where it is, ``class_id`` and ``class_name`` that the
        scoring model assigned, ``probability`` of that class, and ``pool_class_id`` where the pool has labels.
    """
    wanted = pairs.drop_duplicates("image").sort_values("image")
    by_name = {part.path.name: part for part in store.parts}
    found = []
    for number in sorted(set(wanted["part"].tolist())):
        part, rows = by_name[parts[number]], wanted.loc[wanted["part"] == number, "row"]
        table = part.rows([*_COLUMNS, "top5_probability"]).take(rows.to_numpy()).to_pandas()
        found.append(table.assign(shard=part.shard))
    pairs.drop(columns=["part", "row"], inplace=True)
    if found:
        images = pd.concat(found, ignore_index=True)
    else:
        images = pd.DataFrame(columns=[*_COLUMNS, "top5_probability", "shard"])
    images = images.rename(columns={"class_id": "pool_class_id"})
    images["sha256"] = [digest.hex() for digest in images["sha256"]]
    images["probability"] = [float(p[0]) for p in images.pop("top5_probability")]
    assigned: pd.DataFrame = wanted[["class_id", "class_name"]].reset_index(drop=True)
    joined: pd.DataFrame = pd.concat([images, assigned], axis=1)
    return joined
