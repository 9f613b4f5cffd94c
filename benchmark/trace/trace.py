"""Walking back from a published image: verdicts, the models' votes, α, the place in a shard, the models' weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from spurious_imagenet.benchmark.trace.checks import Evidence, links_at_hand
from spurious_imagenet.benchmark.trace.find import PublishedImage, find_image
from spurious_imagenet.benchmark.trace.record import Link, ModelVote, PublishedVerdict, Trace
from spurious_imagenet.datasets.manifest import SelectionModel
from spurious_imagenet.errors import DataError, one_line

__all__ = ["trace", "trace_row"]

_ATTRIBUTION = ("source_id", "license", "author", "title", "landing_url", "original_url")
#: Without these there is no way back: images that were imported have none of them.
_ORIGIN = ("alpha", "models", "shard", "shard_offset", "shard_size")


def trace(
    image: str | PublishedImage, dataset: str, *, concept: str | None = None, at_hand: Evidence | None = None
) -> Trace:
    """Walk back from a published image to what it came from, and check each link that can be checked.

    Args:
        image: SHA-256 of the image's bytes, or how it begins (4 hexadecimal digits or more); or the image as found.
        dataset: Folder, Hub id (``org/name``, ``org/name@v1.2.0``), or any address that fsspec reads.
        concept: Which one, where the image is published for several.
        at_hand: Shards, candidates, concept bank and models to check the links with.

    Raises:
        ConfigError: ``image`` is no hash.
        DataError: No image, or several, are meant; or the dataset cannot be read.
        ModelError: A model at hand is none of those that chose the image.
    """
    found = find_image(image, dataset, concept) if isinstance(image, str) else image
    made = found.manifest
    return trace_row(
        found.row,
        dataset=dataset,
        version=None if made is None else made.version,
        miners=() if made is None else made.miners,
        at_hand=at_hand,
        before=(found.file,),
    )


def trace_row(
    row: Mapping[str, Any],
    *,
    dataset: str,
    version: str | None = None,
    miners: Sequence[SelectionModel] = (),
    at_hand: Evidence | None = None,
    before: Sequence[Link] = (),
) -> Trace:
    """Trace one row of a published dataset, or of the leaderboard's table of its images (which has no bytes).

    Args:
        row: Columns as published.
        dataset: Its name.
        version: Its version.
        miners: The models that chose its images.
        at_hand: What to check the links with.
        before: Links that the caller has checked.

    Raises:
        DataError: The row does not say where the image comes from.
        ModelError: A model at hand is none of those that chose the image.
    """
    at_hand = at_hand or Evidence()
    if absent := [name for name in _ORIGIN if row.get(name) is None]:
        raise DataError(
            f"image {str(row.get('sha256'))[:12]} of {dataset} has no {', '.join(absent)}: expected an image that was "
            "mined; the dataset does not say where this one comes from."
        )
    try:
        traced = _read(row, dataset, version, (*at_hand.miners, *miners))
    except (KeyError, TypeError, ValidationError) as error:
        said = one_line(error)
        raise DataError(f"image {str(row.get('sha256'))[:12]} of {dataset} cannot be traced: {said}") from error
    data = (row.get("image") or {}).get("bytes")
    votes = _votes_link(traced, row.get("votes"))
    own = (*before, _image_link(traced, data), _verdict_link(traced.verdicts), votes)
    return traced.model_copy(update={"links": (*own, *links_at_hand(traced, data, at_hand))})


def _read(row: Mapping[str, Any], dataset: str, version: str | None, miners: Sequence[SelectionModel]) -> Trace:
    by_name = {m.model: m for m in miners}
    votes = tuple(_vote(opinion, by_name.get(opinion["model"]), i) for i, opinion in enumerate(_list(row, "models")))
    verdicts = tuple(PublishedVerdict.model_validate(v) for v in _list(row, "verdicts"))
    return Trace(
        dataset=dataset,
        version=version,
        sha256=row["sha256"],
        class_id=row["class_id"],
        class_name=row["class_name"],
        concept_id=row["concept_id"],
        component=row.get("component"),
        alpha=row["alpha"],
        rank=row.get("rank"),
        votes=votes,
        verdicts=verdicts,
        key=row.get("key"),
        shard=row["shard"],
        shard_offset=row["shard_offset"],
        shard_size=row["shard_size"],
        attribution={name: row.get(name) for name in _ATTRIBUTION},
        links=(),
    )


def _vote(opinion: Mapping[str, Any], miner: SelectionModel | None, place: int) -> ModelVote:
    if miner is None:
        return ModelVote(**opinion, role="voter" if place else "scorer")
    return ModelVote(**opinion, role=miner.role, weights_sha256=miner.weights_sha256, architecture=miner.architecture)


def _list(row: Mapping[str, Any], column: str) -> list[dict[str, Any]]:
    value = row.get(column)
    return [] if value is None else list(value)


def _image_link(traced: Trace, data: bytes | None) -> Link:
    claim = f"{traced.shard_size} bytes with SHA-256 {traced.sha256}"
    if data is None:
        return Link.unchecked("image", claim, "its bytes are not at hand")
    return Link.compared("image", claim, hashlib.sha256(data).hexdigest() == traced.sha256, "other bytes are published")


def _verdict_link(verdicts: Sequence[PublishedVerdict]) -> Link:
    """Check the rule by which images are published; what people saw cannot be computed again."""
    if not verdicts:
        return Link.unchecked("verdicts", "nobody has judged it", "published without review")
    claim = "; ".join(f"{v.labeler} said {v.outcome} on {v.date}" for v in verdicts)
    labelers = [v for v in verdicts if v.labeler != "adjudicator"]
    decided = [v for v in verdicts if v.labeler == "adjudicator"] or labelers
    if len({v.labeler for v in labelers}) < 2 or any(v.outcome != "accept" for v in decided):
        return Link(link="verdicts", claim=claim, state="wrong", note="not accepted by two labelers or an adjudicator")
    return Link.unchecked("verdicts", claim, "people's judgement; it is as the rule for publishing demands")


def _votes_link(traced: Trace, votes: int | None) -> Link:
    agree = sum(v.class_id == traced.class_id for v in traced.votes)
    claim = f"{votes} of {len(traced.votes)} models take it for {traced.class_name}"
    return Link.compared("votes", claim, agree == votes, f"{agree} of the listed votes are for it")
