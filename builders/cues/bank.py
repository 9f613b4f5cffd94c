"""Text cues as rows of a bank, read by a vision-language model or by any model aligned to one (SR appendix G)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.builders.cues.alignment import Alignment
from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.features.store import StoreConfig
from spurious_imagenet.models import LabelSpace
from spurious_imagenet.tables import Columns, open_table

__all__ = ["TEXT_KIND", "Cue", "aligned_bank", "cue_bank", "read_cues"]

#: ``kind`` of a bank's rows that are text.
TEXT_KIND = "text"

_COLUMNS = Columns(("class_id", "text"), required=("class_id", "text"), others="pass", remarks="anywhere")


class Cue(NamedTuple):
    """What may stand beside the objects of a class."""

    class_id: str
    text: str


def read_cues(path: str | Path) -> list[Cue]:
    """Read cues from a table with the columns ``class_id`` and ``text``; lines that begin with # are remarks.

    Raises:
        DataError: The file cannot be read, lacks a column, or has an empty field.
    """
    cues = []
    with open_table(path, "cues file", _COLUMNS) as table:
        for row in table:
            cue = Cue(row.cells["class_id"].strip(), row.cells["text"].strip())
            if not all(cue):
                raise DataError(f"{row.where} has an empty field: expected a class id and a text.")
            cues.append(cue)
    return cues


def cue_bank(
    cues: Iterable[Cue], embeddings: NDArray[np.float32], labels: LabelSpace, store: StoreConfig, prompt: str
) -> ConceptBank:
    """Make a bank of text cues for the vision-language model that embedded them.

    Args:
        cues: What to read; a class's cues are numbered in their order.
        embeddings: (n, D) unit embeddings of the cues' texts.
        labels: The label space of the images that will be ranked.
        store: What makes the features that the bank reads.
        prompt: What stood around the texts, for the record.

    Returns:
        Rows of kind ``text`` without offset: their scores are cosines, since the model's features have length 1.

    Raises:
        ConfigError: There is no cue, or two equal ones.
        ModelError: A class is not in the label space.
    """
    table = _table(list(cues), labels)
    info = BankInfo(
        model=store.model,
        weights_sha256=store.weights_sha256,
        feature_dim=embeddings.shape[1],
        feature_config_sha256=store.sha256,
        config={"prompt": prompt},
    )
    return ConceptBank(np.ascontiguousarray(embeddings, np.float32), np.zeros(len(table), np.float32), table, info)


def aligned_bank(bank: ConceptBank, alignment: Alignment, store: StoreConfig) -> ConceptBank:
    """Carry text cues over to a model that knows no text.

    Args:
        bank: Cues of the vision-language model.
        alignment: From the other model's features to the vision-language model's.
        store: What makes the other model's features.

    Returns:
        The same rows over the other model's features. Their score is the inner product of the text with the aligned
        features, which keeps the order of images but, as the aligned features have no fixed length, is not a cosine.
    """
    directions, offsets = alignment.carry(bank.directions)
    info = BankInfo(
        model=store.model,
        weights_sha256=store.weights_sha256,
        feature_dim=store.feature_dim,
        feature_config_sha256=store.sha256,
        config={
            **bank.info.config,
            "aligned_to": bank.info.model,
            "aligned_to_weights_sha256": bank.info.weights_sha256,
            "r2": alignment.r2,
            "ridge": alignment.ridge,
        },
        counts={"alignment_images": alignment.images, "held_out_images": alignment.held_out},
    )
    return ConceptBank(directions, bank.offsets + offsets, bank.table, info)


def _table(cues: Sequence[Cue], labels: LabelSpace) -> pd.DataFrame:
    if not cues:
        raise ConfigError("no cue was given: expected at least one text and its class.")
    if repeated := [cue for cue, times in Counter(cues).items() if times > 1]:
        raise ConfigError(
            f"the cue {repeated[0].text!r} of class {repeated[0].class_id} is given twice: expected once."
        )
    indices = [labels.index(cue.class_id) for cue in cues]
    table = pd.DataFrame(cues, columns=["class_id", "name"]).assign(
        kind=TEXT_KIND, class_index=indices, class_name=[labels.class_names[index] for index in indices]
    )
    table["component"] = table.groupby("class_id").cumcount()
    table["concept_id"] = "text/" + table["class_id"] + "/" + table["component"].astype(str)
    return table[["concept_id", "kind", "class_index", "class_id", "class_name", "component", "name"]]
