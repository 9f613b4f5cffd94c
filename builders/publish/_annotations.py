"""Publishing what people said of concepts: verdicts and votes, under pseudonyms."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from datasets import Features, List, Value

from spurious_imagenet.builders.publish._concepts import public_votes
from spurious_imagenet.builders.publish._config import AnnotationsConfig
from spurious_imagenet.builders.publish._finish import finish
from spurious_imagenet.builders.publish._licences import demand_licence, notice_text
from spurious_imagenet.builders.publish._review import pseudonyms
from spurious_imagenet.builders.publish._tables import write_table
from spurious_imagenet.builders.publish._versions import changelog, read_previous
from spurious_imagenet.builders.publish.schema import wordnet_id
from spurious_imagenet.concepts import ConceptVerdict, ConceptVerdicts, Vote
from spurious_imagenet.data_cards.annotations_card import render_annotations_card
from spurious_imagenet.datasets.manifest import DatasetManifest
from spurious_imagenet.errors import DataError
from spurious_imagenet.io import atomic_directory, sha256_file

_TEXT, _INT32 = Value("string"), Value("int32")

#: The columns of a file of verdicts, so that it can be read as one, and the WordNet id.
ANNOTATIONS = Features(
    {
        "concept_id": _TEXT,
        "kind": _TEXT,
        "class_index": _INT32,
        "class_id": _TEXT,
        "wnid": _TEXT,
        "component": _INT32,
        "verdict": _TEXT,
        "source": _TEXT,
        "votes": List(
            {"labeler": _TEXT, "answer": _TEXT, "confidence": Value("float64"), "reason": _TEXT, "time": _TEXT}
            | {"role": _TEXT}
        ),
        "name": _TEXT,
        "weights_sha256": _TEXT,
    }
)
_CONFIG, _SPLIT = "annotations", "train"


def publish_annotations(config: AnnotationsConfig, out: str | Path) -> DatasetManifest:
    """Write verdicts on concepts as a dataset.

    Args:
        config: What to publish.
        out: Dataset folder; appears whole, must not exist with content.

    Raises:
        DataError: The file holds no verdicts, or the version before is of something else.
        ConfigError: A verdict's source does not allow it to be passed on, or the version before is not an earlier one.
        StoreError: ``out`` holds something.
    """
    verdicts = ConceptVerdicts.load(config.annotations)
    if not len(verdicts):
        raise DataError(f"{config.annotations} holds no verdicts.")
    licences = demand_licence(verdicts, config.annotations)
    old = read_previous(config, "concept-annotations")
    names = pseudonyms(sorted({vote.labeler for v in verdicts for vote in v.votes}))
    public = [_public(v, names) for v in verdicts]
    with atomic_directory(out) as directory:
        rows = [v.model_dump() | {"wnid": wordnet_id(v.class_id)} for v in public]
        file = write_table(directory, "data", _CONFIG, _SPLIT, ANNOTATIONS.arrow_schema, rows)
        before = 0 if old is None else old.counts.get("concepts", 0)
        manifest = DatasetManifest(
            kind="concept-annotations",
            name=config.name,
            version=config.version,
            code_version=version("spurious-imagenet"),
            files=(file,),
            counts=_counts(public),
            facts=_facts(verdicts),
            made_from={"annotations": sha256_file(config.annotations)},
            changes=changelog(config, old, f"{before} concepts before, {len(verdicts)} now."),
        )
        if licences:
            (directory / "NOTICE.txt").write_text(notice_text(licences), encoding="utf-8")
        said = {source: own.licence for source, own in licences.items()}
        card = render_annotations_card(directory, manifest, licences=said, options=config.card)
        dated = config.card.model_copy(update={"published": config.card.published or _last_day(public)})
        finish(directory, manifest, card, dated, made=config.annotations)
    return manifest


def _public(verdict: ConceptVerdict, names: dict[str, str]) -> ConceptVerdict:
    said = public_votes(verdict.votes, names)
    votes = [
        Vote(**{("time" if k == "date" else k): v for k, v in public.items()}, role=vote.role)
        for vote, public in zip(verdict.votes, said, strict=True)
    ]
    return verdict.model_copy(update={"votes": tuple(votes)})


def _last_day(verdicts: Sequence[ConceptVerdict]) -> datetime.date | None:
    """Return the day of the latest vote, None where no vote says one."""
    days = [vote.time for v in verdicts for vote in v.votes if vote.time is not None]
    try:
        return max(map(datetime.date.fromisoformat, days), default=None)
    except ValueError:
        return None


def _counts(verdicts: Sequence[ConceptVerdict]) -> dict[str, int]:
    said = Counter(v.verdict for v in verdicts)
    return {verdict: said[verdict] for verdict in ("spurious", "core", "unclear")} | {
        "concepts": len(verdicts),
        "classes": len({v.class_id for v in verdicts}),
        "votes": sum(len(v.votes) for v in verdicts),
        "labelers": len({vote.labeler for v in verdicts for vote in v.votes if vote.role == "labeler"}),
    }


def _facts(verdicts: ConceptVerdicts) -> dict[str, str]:
    from spurious_imagenet.builders.rankings.judged import who_judged  # rankings import this package's schema

    rows = pd.DataFrame([v.model_dump() for v in verdicts])
    return {"agreement": who_judged(rows).replace(" of the bank", "").removesuffix(".")}
