"""What a review has found, for the stages that go on from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.builders.review._verdict import Verdict
from spurious_imagenet.builders.review.consensus import Consensus, State
from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.concepts import ConceptVerdict, ConceptVerdicts, Vote
from spurious_imagenet.concepts.verdict import VoteRole
from spurious_imagenet.errors import ConfigError, DataError, StoreError
from spurious_imagenet.io import atomic_path

__all__ = ["REVIEWED", "Collected", "ReviewedInfo", "collect", "concept_verdicts", "read_reviewed"]

_TEXT = pa.string()
_ANSWER = pa.struct([("question", _TEXT), ("answer", _TEXT)])
_VERDICT = pa.struct([("labeler", _TEXT), ("outcome", _TEXT), ("answers", pa.list_(_ANSWER)), ("time", _TEXT)])

#: One row a reviewed image of a concept; joins candidates by ``concept_id`` and ``sha256``. ``consensus`` is null while
#: there is none.
REVIEWED = pa.schema(
    [
        ("item_id", _TEXT),
        ("concept_id", _TEXT),
        ("key", _TEXT),
        ("sha256", _TEXT),
        ("state", _TEXT),
        ("consensus", _TEXT),
        ("accepted", pa.bool_()),
        ("verdicts", pa.list_(_VERDICT)),
        ("adjudication", _VERDICT),
    ]
)
_METADATA = b"spurious_review"
_CONCEPT_OUTCOMES = ("spurious", "core", "unclear")


@dataclass(frozen=True)
class Collected:
    """What was written.

    Attributes:
        path: The file.
        rows: Its rows.
        accepted: Items that were accepted.
        open: Items that a labeler has still to judge.
        disagreed: Items on which labelers differ and nobody has decided.
    """

    path: Path
    rows: int
    accepted: int
    open: int
    disagreed: int


@dataclass(frozen=True)
class ReviewedInfo:
    """How the images of a reviewed-candidates file were judged.

    Attributes:
        review: Name of the review.
        accepting: The outcome that counts as accepted.
        per_item: Labelers an image.
        labelers: Their pseudonyms.
    """

    review: str
    accepting: str
    per_item: int
    labelers: tuple[str, ...]


def collect(review: Review, out: str | Path, *, comment: str = "") -> Collected:
    """Write what a review has found so far, whole or not at all.

    Boards become :class:`ConceptVerdicts` (``.parquet``, ``.jsonl`` or ``.csv``), for ``spurious annotate``; images
    become reviewed candidates (``.parquet``, see :data:`REVIEWED`), for ``spurious publish``; anything else becomes a
    table of the same form as the images', without key and hash.

    Args:
        review: The review.
        out: The file.
        comment: For verdicts in a CSV: put before the header.

    Raises:
        ConfigError: The file's ending does not fit what was reviewed, or a form for boards has other outcomes.
        DataError: No board is judged by all its labelers yet.
    """
    consensus, path = review.consensus(), Path(out)
    counts = [sum(c.state == state for c in consensus.values()) for state in (State.OPEN, State.DISAGREED)]
    if all(item.kind == "board" for item in review.items.values()):
        verdicts = concept_verdicts(review)
        verdicts.save(path, comment=comment)
        rows = len(verdicts)
    else:
        if path.suffix != ".parquet" or comment:
            raise ConfigError(f"{path}: reviewed images are written as .parquet, without a comment.")
        rows = _write_reviewed(review, consensus, path)
    return Collected(path, rows, sum(c.accepted for c in consensus.values()), *counts)


def concept_verdicts(review: Review) -> ConceptVerdicts:
    """Return what a review of boards says of their concepts; where labelers still differ, that it is unclear.

    Raises:
        ConfigError: The form's outcomes are not verdicts on concepts.
        DataError: No board is judged by all its labelers yet.
    """
    if strange := [o for o in review.form.possible if o not in _CONCEPT_OUTCOMES]:
        raise ConfigError(
            f"form {review.form.name!r} has the outcome {strange[0]!r}, which is not a verdict on a concept: expected "
            f"{', '.join(_CONCEPT_OUTCOMES)}."
        )
    judged = [c for c in review.consensus().values() if c.state is not State.OPEN]
    if not judged:
        raise DataError(f"no item of {review.path} is judged by all its labelers yet: there is nothing to collect.")
    return ConceptVerdicts(tuple(_concept_verdict(review.items[c.item_id], c, review.config.name) for c in judged))


def _concept_verdict(item: ReviewItem, consensus: Consensus, name: str) -> ConceptVerdict:
    votes = [_vote(v) for v in consensus.verdicts]
    if consensus.adjudication is not None:
        votes.append(_vote(consensus.adjudication, "adjudicator"))
    return ConceptVerdict.model_validate(
        {
            "concept_id": item.concept_id,
            "kind": item.info.get("concept_kind", "npca"),
            "class_index": item.class_index,
            "class_id": item.class_id,
            "component": item.component,
            "verdict": consensus.outcome or "unclear",
            "source": f"review:{name}",
            "votes": tuple(votes),
            "name": item.info.get("name"),
            "weights_sha256": item.info.get("weights_sha256"),
        }
    )


def _vote(verdict: Verdict, role: VoteRole = "labeler") -> Vote:
    answers = ", ".join(f"{question}: {answer}" for question, answer in verdict.answers.items())
    reason = f"adjudication; {answers}" if role == "adjudicator" else answers
    return Vote(labeler=verdict.labeler, answer=verdict.outcome or "", reason=reason, time=verdict.time, role=role)


def _write_reviewed(review: Review, consensus: dict[str, Consensus], path: Path) -> int:
    about = {
        "review": review.config.name,
        "accepting": review.form.accepting,
        "per_item": review.config.per_item,
        "labelers": list(review.labelers),
    }
    rows = [_reviewed_row(review.items[c.item_id], c) for c in consensus.values()]
    table = pa.Table.from_pylist(rows, schema=REVIEWED.with_metadata({_METADATA: json.dumps(about)}))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return len(rows)


def _reviewed_row(item: ReviewItem, consensus: Consensus) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "concept_id": item.concept_id,
        "key": item.info.get("key"),
        "sha256": item.info.get("sha256"),
        "state": consensus.state.value,
        "consensus": consensus.outcome,
        "accepted": consensus.accepted,
        "verdicts": [_verdict_row(v) for v in consensus.verdicts],
        "adjudication": _verdict_row(consensus.adjudication) if consensus.adjudication else None,
    }


def _verdict_row(verdict: Verdict) -> dict[str, Any]:
    answers = [{"question": question, "answer": answer} for question, answer in verdict.answers.items()]
    return {"labeler": verdict.labeler, "outcome": verdict.outcome, "answers": answers, "time": verdict.time}


def read_reviewed(path: str | Path) -> tuple[pd.DataFrame, ReviewedInfo]:
    """Read reviewed candidates that :func:`collect` wrote.

    Returns:
        The rows (:data:`REVIEWED`) and how they were judged.

    Raises:
        StoreError: The file is missing or unreadable.
        DataError: It holds no reviewed candidates.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"reviewed candidates {path} cannot be read: {error}") from error
    about = (table.schema.metadata or {}).get(_METADATA)
    if about is None or not table.schema.equals(REVIEWED):
        raise DataError(f"{path} holds no reviewed candidates: expected what `spurious review collect` writes.")
    content = json.loads(about)
    info = ReviewedInfo(**content | {"labelers": tuple(content["labelers"])})
    return table.to_pandas(), info
