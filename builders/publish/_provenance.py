"""What a manifest says of where a dataset comes from: counts, agreement, hashes of what it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from spurious_imagenet.builders.mining.select import Status
from spurious_imagenet.builders.publish._concepts import ConceptFacts
from spurious_imagenet.builders.publish._config import PublishConfig
from spurious_imagenet.builders.publish._review import ReviewSummary
from spurious_imagenet.builders.publish._tables import sha256_text
from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import sha256_file


def mining_counts(candidates: pd.DataFrame) -> dict[str, int]:
    """Count what became of all candidates."""
    statuses = candidates["status"].value_counts()
    return {"candidates": len(candidates)} | {
        status.value.replace("-", "_") + ("s" if status is Status.NEAR_DUPLICATE else ""): int(
            statuses.get(status.value, 0)
        )
        for status in Status
    }


def facts_of(review: ReviewSummary | None, facts: ConceptFacts) -> dict[str, str]:
    """Say how far the labelers of images and of concepts agreed, and whose verdicts of others there are."""
    from spurious_imagenet.builders.rankings.judged import who_judged  # rankings import this package's schema

    said = {} if review is None else {"agreement": review.agreement}
    verdicts = [v.model_dump() for v in facts.verdicts.values()]
    if verdicts:
        said["concept_verdicts"] = who_judged(pd.DataFrame(verdicts)).removesuffix(".")
    return said | {f"licence_{source}": f"{own.title}: {own.licence}" for source, own in facts.licences.items()}


def made_from(config: PublishConfig) -> dict[str, str]:
    """Hash what the dataset was made from.

    Raises:
        StoreError: The candidates' receipt cannot be read.
    """
    folder = Path(config.candidates)
    try:
        identity = _identity(folder)
        hashes = {
            "candidates": sha256_file(folder / "candidates.parquet"),
            "pool": str(identity["pool_sha256"]),
            "mined_bank": sha256_text(f"{name} {value}" for name, value in sorted(identity["bank_sha256"].items())),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} does not say what it was made from: {error}") from error
    boards = None if config.boards is None else str(Path(config.boards) / "boards.parquet")
    bank = None if config.bank is None else str(Path(config.bank) / "table.parquet")
    files = {"reviewed": config.reviewed, "verdicts": config.verdicts, "boards": boards, "bank_table": bank}
    return hashes | {what: sha256_file(path) for what, path in files.items() if path is not None}


def votes_needed(candidates: str) -> int:
    """Return how many models had to take an image for the class: the published ones may all have more votes.

    Raises:
        StoreError: The candidates' receipt cannot be read.
    """
    try:
        return int(_identity(Path(candidates))["settings"]["min_agree"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{candidates} does not say how many votes an image needed: {error}") from error


def _identity(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "receipt.json").read_text(encoding="utf-8"))["identity"]
    return found
