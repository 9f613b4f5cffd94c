"""The links of a traced image that need more than the dataset: its shard, the concept bank, the models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.trace.record import Link, ModelVote, Trace
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.datasets.manifest import SelectionModel
from spurious_imagenet.errors import DataError, ModelError
from spurious_imagenet.features.store import StoreConfig
from spurious_imagenet.shards import expand_shards, read_ranges

if TYPE_CHECKING:
    from spurious_imagenet.models import Classifier

__all__ = ["Evidence", "links_at_hand"]

#: Stored features are float16 (half a unit in the last place is 2^-11 of the value), and ways to run a network differ.
_FEATURE_ERROR = 2.0**-11 + 2.0**-14
_SMALLEST_STEP = 2.0**-24
_PROBABILITY_ERROR = 1e-3


@dataclass(frozen=True)
class Evidence:
    """What is at hand to check a trace with.

    Attributes:
        shards: Where the pool's shards are; anything that :func:`expand_shards` takes.
        candidates: What ``spurious mine`` wrote.
        miners: The models that chose the candidates, by their published names, where the dataset does not say.
        bank: The concept bank whose α ranked the images.
        models: Published name -> the model.
        allow_pipe: Run the command of a ``pipe:`` address.
    """

    shards: str | None = None
    candidates: pd.DataFrame | None = None
    miners: tuple[SelectionModel, ...] = ()
    bank: ConceptBank | None = None
    models: Mapping[str, Classifier] = field(default_factory=dict)
    allow_pipe: bool = False


def links_at_hand(traced: Trace, data: bytes | None, at_hand: Evidence) -> tuple[Link, ...]:
    """Check every link that the evidence allows; say of the others what they would need.

    Args:
        traced: What the dataset says of the image.
        data: The image's bytes, if they are there.
        at_hand: The evidence.

    Raises:
        ModelError: A model at hand is not one of those that chose the image.
        DataError: There is no such shard where the shards are said to be, or it does not answer.
    """
    models = {_whose(name, model, traced): model for name, model in at_hand.models.items()}
    outputs = {place: _output(model, data) for place, model in models.items() if data is not None}
    links = [_candidate_link(traced, at_hand.candidates), _shard_link(traced, at_hand)]
    links.append(_alpha_link(traced, at_hand.bank, models.get(0), outputs.get(0)))
    for place, vote in enumerate(traced.votes):
        links += [_vote_link(traced, vote, models.get(place), outputs.get(place))]
        links += [_weights_link(vote, models.get(place))]
    return tuple(links)


def _whose(name: str, model: Classifier, traced: Trace) -> int:
    """Return which of the image's models one at hand is: the one of its weights, else of its name."""
    for place, vote in enumerate(traced.votes):
        if vote.weights_sha256 == model.weights_sha256:
            return place
    for place, vote in enumerate(traced.votes):
        if vote.model == name:
            return place
    known = ", ".join(v.model for v in traced.votes)
    raise ModelError(
        f"model {name} is not one of those that chose image {traced.sha256[:12]}: expected one of {known}."
    )


def _output(model: Classifier, data: bytes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the (D,) features and (K,) logits of an image."""
    from spurious_imagenet.images import DecodeLimits, decode_image  # seconds; most traces need no pixels

    pixels: NDArray[Any] = model.preprocess.apply(decode_image(data, DecodeLimits()))
    features, logits = model.predict(pixels[None])
    return features[0], logits[0]


def _candidate_link(traced: Trace, candidates: pd.DataFrame | None) -> Link:
    claim = f"rank {traced.rank} of the candidates of {traced.concept_id}"
    if candidates is None:
        return Link.unchecked("candidates", claim, "give --candidates")
    here = candidates[(candidates["concept_id"] == traced.concept_id) & (candidates["sha256"] == traced.sha256)]
    if here.empty:
        return Link(link="candidates", claim=claim, state="wrong", note="it is not among the candidates")
    row = here.iloc[0]
    published = {
        "rank": traced.rank,
        "alpha": np.float32(traced.alpha),
        "offset": traced.shard_offset,
        "size": traced.shard_size,
        "shard": traced.shard,
        "status": "kept",
    }
    mined = {name: row[name] for name in published} | {"shard": str(row["shard"]).rsplit("/", 1)[-1]}
    other = [f"{name} {mined[name]}" for name, value in published.items() if mined[name] != value]
    return Link.compared("candidates", claim, not other, f"the candidates say {', '.join(other)}")


def _shard_link(traced: Trace, at_hand: Evidence) -> Link:
    claim = f"{traced.shard}, {traced.shard_size} bytes from byte {traced.shard_offset}"
    if at_hand.shards is None:
        return Link.unchecked("shard", claim, "give --shards")
    addresses = expand_shards([at_hand.shards], allow_pipe=at_hand.allow_pipe)
    named = [a for a in addresses if a.split("?", maxsplit=1)[0].rsplit("/", 1)[-1] == traced.shard]
    if not named:
        raise DataError(f"there is no shard {traced.shard} in {at_hand.shards}: {len(addresses)} others are there.")
    links = []
    for address in named:  # shards of one name may lie in several folders
        links.append(_bytes_link(traced, claim, address, at_hand.allow_pipe))
        if links[-1].state == "verified":
            return links[-1]
    return links[0]


def _bytes_link(traced: Trace, claim: str, address: str, allow_pipe: bool) -> Link:
    try:
        ranges = [(traced.shard_offset, traced.shard_size)]
        digest = hashlib.sha256(next(read_ranges(address, ranges, allow_pipe=allow_pipe))).hexdigest()
    except DataError as error:
        if not Path(address).is_file():  # a server that does not answer says nothing of the bytes
            raise
        return Link(link="shard", claim=claim, state="wrong", note=str(error))
    how = f"the bytes there hash to {traced.sha256}"
    return Link.compared("shard", claim, digest == traced.sha256, f"the bytes there hash to {digest}", how)


def _alpha_link(
    traced: Trace,
    bank: ConceptBank | None,
    scorer: Classifier | None,
    output: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
) -> Link:
    claim = f"α {traced.alpha:.6g}, component {traced.component} of {traced.class_name}"
    if bank is None or scorer is None or output is None:
        lacking = [o for o, there in (("--bank", bank), ("--model with the scoring model", scorer)) if there is None]
        return Link.unchecked("alpha", claim, f"give {' and '.join(lacking) or 'a dataset with pixels'}")
    rows = np.flatnonzero(bank.table["concept_id"] == traced.concept_id)
    if not len(rows):
        return Link(link="alpha", claim=claim, state="wrong", note=f"the bank has no concept {traced.concept_id}")
    if bank.info.weights_sha256 != scorer.weights_sha256:
        note = f"the bank reads features of weights {bank.info.weights_sha256}, the model has {scorer.weights_sha256}"
        return Link(link="alpha", claim=claim, state="wrong", note=note)
    if _feature_config(scorer) != bank.info.feature_config_sha256:
        return Link.unchecked("alpha", claim, "the bank's features were made with other preprocessing or precision")
    direction = bank.directions[rows[0]].astype(np.float64)
    features = output[0].astype(np.float16).astype(np.float64)  # as they are stored
    alpha = float(direction @ features + bank.offsets[rows[0]])
    allowed = float(np.abs(direction) @ (np.abs(features) * _FEATURE_ERROR + _SMALLEST_STEP))
    found = f"computed again it is {alpha:.6g}, {abs(alpha - traced.alpha):.1g} off"
    how = f"{found} (features of half precision allow {allowed:.1g})"
    return Link.compared("alpha", claim, abs(alpha - traced.alpha) <= allowed, how, how)


def _feature_config(model: Classifier) -> str | None:
    """Hash of the configuration of a feature store of this model with its own preprocessing, run in float32."""
    from spurious_imagenet.images import DecodeLimits, Preprocess

    if not isinstance(model.preprocess, Preprocess):
        return None
    run: dict[str, Any] = {"precision": "float32", "limits": DecodeLimits().model_dump(mode="json")}
    return StoreConfig(
        model=model.spec,
        weights_sha256=model.weights_sha256,
        label_space=model.labels.name,
        class_ids=model.labels.class_ids,
        feature_dim=model.feature_dim,
        preprocess=model.preprocess.model_dump(mode="json") | run,
    ).sha256


def _vote_link(
    traced: Trace,
    vote: ModelVote,
    model: Classifier | None,
    output: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
) -> Link:
    claim = f"{vote.model} takes it for {vote.class_name}, probability of {traced.class_name} {vote.probability:.4f}"
    if model is None or output is None:
        return Link.unchecked("vote", claim, f"give --model {vote.model}")
    logits = output[1].astype(np.float64)
    probability = np.exp(logits - logits.max())
    probability /= probability.sum()
    own = probability[model.labels.index(traced.class_id)]
    voted = probability[model.labels.index(vote.class_id)]
    note = (
        f"asked again: {model.labels.class_names[int(logits.argmax())]}, probability of {traced.class_name} {own:.4f}"
    )
    same = probability.max() - voted <= _PROBABILITY_ERROR and abs(own - vote.probability) <= _PROBABILITY_ERROR
    return Link.compared("vote", claim, bool(same), note, note)


def _weights_link(vote: ModelVote, model: Classifier | None) -> Link:
    what = f"{vote.model} ({', '.join(filter(None, (vote.role, vote.architecture)))})"
    if vote.weights_sha256 is None:
        return Link.unchecked("weights", f"{what}: weights unknown", "the dataset does not say their hash")
    claim = f"{what}: weights {vote.weights_sha256}"
    if model is None:
        return Link.unchecked("weights", claim, f"give --model {vote.model}")
    holds = model.weights_sha256 == vote.weights_sha256
    return Link.compared("weights", claim, holds, f"the model at hand has {model.weights_sha256}")
