"""How far a run over shards has come, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

from spurious_imagenet.features.store import FeaturePart, FeatureStore


@dataclass(frozen=True)
class ExtractionProgress:
    """How far a run has come.

    Attributes:
        shards_done: Finished shards, found or made.
        shards: All shards.
        images: Images scored by this run so far.
        rejects: Samples rejected by this run so far.
        seconds: Since the first image.
    """

    shards_done: int
    shards: int
    images: int
    rejects: int
    seconds: float


@dataclass
class FeaturesResult:
    """What a run did.

    Attributes:
        store: The store.
        made: Parts written by this run.
        found: Shards whose part was there already.
        failures: Shard and sentence of every shard that could not be read; it has no part.
        copies: Shards that hold the bytes of another shard of the run, and that one; they have one part.
        others: Parts of shards that the run was not given; they are in the store all the same.
        hashed: Shards that were hashed to know whether they have a part.
        hashed_bytes: Bytes that were read for it.
    """

    store: FeatureStore
    made: int = 0
    found: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)
    others: list[FeaturePart] = field(default_factory=list)
    hashed: int = 0
    hashed_bytes: int = 0
