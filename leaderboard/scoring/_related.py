"""Related models: entries that share weights or architecture with a model that chose the images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from spurious_imagenet.datasets.manifest import SelectionModel
from spurious_imagenet.leaderboard.entry import SubmissionInfo
from spurious_imagenet.leaderboard.scoring.score import Relation
from spurious_imagenet.leaderboard.version import BenchmarkVersion


def relations(info: SubmissionInfo, version: BenchmarkVersion) -> tuple[Relation, ...]:
    """Return the models that chose the images and are related to an entry, each with the closest relation.

    Images are kept because these models err on them alike; an entry of the same weights, with a mitigation or without,
    and to a lesser degree one of the same architecture, was selected against. What is not known makes no relation:
    neither a miner of unknown architecture nor an entry of an architecture that timm does not have.
    """
    return tuple(_relations(info, version.info.miners))


def _relations(info: SubmissionInfo, miners: tuple[SelectionModel, ...]) -> Iterator[Relation]:
    own = architecture_of(info)
    for miner in miners:
        its = None if miner.architecture is None else _without_tag(miner.architecture)
        if miner.weights_sha256 == info.weights_sha256:
            yield Relation(miner=miner.model, by="weights")
        elif own is None or its is None:
            continue
        elif own == its:
            yield Relation(miner=miner.model, by="architecture")
        elif family_of(own) is not None and family_of(own) == family_of(its):
            yield Relation(miner=miner.model, by="architecture family")


def architecture_of(info: SubmissionInfo) -> str | None:
    """Return timm's name of an entry's architecture, from its spec where that says it; None where nothing does."""
    scheme, _, address = (info.spec or "").partition(":")
    if scheme == "timm" and not address.startswith("hf-hub:"):
        return _without_tag(address.partition("?")[0])
    return None if info.architecture is None else _without_tag(info.architecture)


@lru_cache(maxsize=1024)
def family_of(architecture: str) -> str | None:
    """Return the family that timm files an architecture under, as ``resnet`` for ``resnet50`` and ``resnet101``.

    Returns:
        The module of timm that defines it; None where timm does not have the architecture.
    """
    from timm.models import is_model, model_entrypoint  # it imports torch, which most scoring does without

    if not is_model(architecture):
        return None
    return model_entrypoint(architecture).__module__.rpartition(".")[2]


def _without_tag(name: str) -> str:
    return name.partition(".")[0]
