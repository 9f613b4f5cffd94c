"""Runs of ``spurious features`` in a directory of their own, and code that shows when it is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from helpers import Ran, run_spurious

from spurious_imagenet.features.store import FeaturePart, FeatureStore


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)


class World(NamedTuple):
    root: Path
    spec: str

    def features(self, *arguments: object, shards: Path | str, model: str = "", out: str = "store") -> Ran:
        return run_spurious(
            "features", "--model", model or self.spec, "--shards", shards, "--out", self.root / out,
            "--backend", "eager", *arguments,
        )  # fmt: skip

    def parts(self, out: str = "store") -> dict[str, FeaturePart]:
        return {Path(part.receipt.shard).stem: part for part in FeatureStore.open(self.root / out).parts}
