"""The publishing stage: accepted candidates, with their bytes, as parquet, a manifest and a card.

data/         config ``spurious``: one row per image
concepts/     config ``concepts``: one row per concept
retired/      config ``retired``: images that earlier versions had
samples/      small pictures for the card
dataset.json  the manifest
README.md     the card
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from spurious_imagenet.builders.mining import read_candidates
from spurious_imagenet.builders.mining.select import Status
from spurious_imagenet.builders.mining.selection_models import read_selection_models
from spurious_imagenet.builders.publish._concepts import CONCEPTS, ConceptFacts
from spurious_imagenet.builders.publish._config import PublishConfig
from spurious_imagenet.builders.publish._finish import finish
from spurious_imagenet.builders.publish._images import image_rows, write_samples
from spurious_imagenet.builders.publish._licences import notice_text
from spurious_imagenet.builders.publish._provenance import facts_of, made_from, mining_counts, votes_needed
from spurious_imagenet.builders.publish._review import ReviewSummary, keep_accepted
from spurious_imagenet.builders.publish._tables import write_table
from spurious_imagenet.builders.publish._versions import RETIRED, Errata, changelog, read_previous, retired_rows
from spurious_imagenet.builders.publish.schema import FEATURES, summarise
from spurious_imagenet.data_cards.spurious_card import render_spurious_card
from spurious_imagenet.datasets.manifest import DataFile, DatasetManifest, RetiredImage, images_sha256
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.io import atomic_directory
from spurious_imagenet.models.spec import public_spec
from spurious_imagenet.shards import ShardImages

__all__ = ["PublishResult", "publish"]

_SPLIT = "test"
_IMAGE_KEYS = ("class_id", "concept_id", "sha256")


@dataclass(frozen=True)
class PublishResult:
    """What was published.

    Attributes:
        path: The dataset folder.
        images: Images in it.
        concepts: One row a published concept: class, concept id, images, and what people call it.
        left_out: One row per concept that was not published, with the images it had.
        repeated: Images left out because another concept of the same class has them with a higher rank.
        review: How the candidates were judged; None if nobody has looked at them.
        manifest: What the dataset says of itself.
    """

    path: Path
    images: int
    concepts: pd.DataFrame
    left_out: pd.DataFrame
    repeated: int
    review: ReviewSummary | None
    manifest: DatasetManifest


@dataclass(frozen=True)
class _Chosen:
    rows: pd.DataFrame
    left_out: pd.DataFrame
    repeated: int


def publish(
    config: PublishConfig, out: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> PublishResult:
    """Write accepted candidates as a dataset that ``datasets.load_dataset(out)`` opens.

    The images' original bytes are fetched from the shards by byte offset and compared with the hashes that were taken
    when they were scored. What is written is checked before it appears.

    Args:
        config: What to publish.
        out: Dataset folder; appears whole, must not exist with content.
        progress: Called with (images written, of all).

    Raises:
        StoreError: The candidates are unfinished, boards or verdicts are of another model, or ``out`` holds something.
        ConfigError: A named concept has no candidates, nothing is left to publish, an image of the version before is
            gone without a reason, or annotations may not be passed on.
        DataError: An image changed since it was mined, or the review or the version before is of something else.
    """
    candidates = read_candidates(config.candidates)
    old = read_previous(config, "spurious-images")
    errata = Errata.read(old, config.previous, config.retire, config.version)
    kept, review, labelers = _accepted(_kept(candidates, config), config)
    chosen = _choose(_without(kept, errata.keys), config)
    errata.demand_reasons(set(zip(chosen.rows["class_id"], chosen.rows["sha256"], strict=True)))
    facts = ConceptFacts.read(config, read_selection_models(config.candidates)[0], labelers)
    concepts = summarise(chosen.rows).assign(name=lambda t: _names(t, facts))
    judged = None if review is None else review.as_dict()
    with atomic_directory(out) as directory:
        turned: set[str] = set()
        show = progress or (lambda *_: None)
        files = _write_tables(directory, chosen.rows, facts, errata.retired, config, show, turned)
        manifest = _manifest(config, candidates, chosen, files, errata, old, review, facts, len(turned))
        if facts.licences:
            (directory / "NOTICE.txt").write_text(notice_text(facts.licences), encoding="utf-8")
        card = render_spurious_card(
            directory,
            manifest,
            concepts=[{str(k): v for k, v in c.items()} for c in concepts.to_dict("records")],
            review=judged,
            samples=write_samples(directory, files[0], chosen.rows),
            options=config.card,
        )
        finish(directory, manifest, card, config.card, made=Path(config.candidates) / "receipt.json", review=judged)
    return PublishResult(Path(out), len(chosen.rows), concepts, chosen.left_out, chosen.repeated, review, manifest)


def _kept(candidates: pd.DataFrame, config: PublishConfig) -> pd.DataFrame:
    unknown = sorted(set(config.concepts) - set(candidates["concept_id"]))
    if unknown:
        raise ConfigError(f"concept {unknown[0]!r} has no candidates in {config.candidates}.")
    kept = candidates[candidates["status"] == Status.KEPT.value]
    if config.concepts:
        kept = kept[kept["concept_id"].isin(config.concepts)]
    return kept


def _accepted(kept: pd.DataFrame, config: PublishConfig) -> tuple[pd.DataFrame, ReviewSummary | None, tuple[str, ...]]:
    """Return what people accepted, how they judged, and who they are; everything where nobody was asked."""
    return (kept, None, ()) if config.reviewed is None else keep_accepted(kept, config.reviewed)


def _without(kept: pd.DataFrame, retired: frozenset[tuple[str, str]]) -> pd.DataFrame:
    """Return the rows whose image was never retracted; what was does not come back under another concept either."""
    stays = [key not in retired for key in zip(kept["class_id"], kept["sha256"], strict=True)]
    return kept[stays]


def _choose(kept: pd.DataFrame, config: PublishConfig) -> _Chosen:
    """Choose the rows to publish, and say what was left out."""
    # An image may serve several components of a class; it counts once, where it ranks best.
    once = kept.sort_values(["rank", "component"], kind="stable").drop_duplicates(["class_id", "sha256"])
    counts = once.groupby("concept_id")["sha256"].transform("size")
    rows, few = once[counts >= config.min_images], once[counts < config.min_images]
    if config.per_concept is not None:
        rows = rows.sort_values("rank", kind="stable").groupby("concept_id").head(config.per_concept)
    if rows.empty:
        raise ConfigError(
            f"nothing to publish: no concept in {config.candidates} has {config.min_images} "
            f"{'accepted' if config.reviewed else 'kept'} images or more."
        )
    ordered = rows.sort_values(["class_id", "component", "rank"], kind="stable").reset_index(drop=True)
    return _Chosen(ordered, summarise(few), len(kept) - len(once))


def _names(rows: pd.DataFrame, facts: ConceptFacts) -> pd.Series:
    return pd.Series([facts.name(c) for c in rows["concept_id"]], index=rows.index, dtype=object)


def _write_tables(
    root: Path,
    rows: pd.DataFrame,
    facts: ConceptFacts,
    retired: tuple[RetiredImage, ...],
    config: PublishConfig,
    progress: Callable[[int, int], None],
    turned: set[str],
) -> tuple[DataFile, ...]:
    named = rows.assign(cue=_names(rows, facts))
    source = ShardImages(Path(config.candidates), config.shards, since="it was mined", allow_pipe=config.allow_pipe)
    images = image_rows(named, source, progress=progress, turned=turned)
    concepts = facts.rows(rows, public_spec(facts.scorer.model))
    taken_back = retired_rows(retired, config.version)
    return (
        write_table(root, "data", "spurious", _SPLIT, FEATURES.arrow_schema, images),
        write_table(root, "concepts", "concepts", _SPLIT, CONCEPTS.arrow_schema, concepts),
        write_table(root, "retired", "retired", _SPLIT, RETIRED.arrow_schema, taken_back),
    )


def _manifest(
    config: PublishConfig,
    candidates: pd.DataFrame,
    chosen: _Chosen,
    files: tuple[DataFile, ...],
    errata: Errata,
    old: DatasetManifest | None,
    review: ReviewSummary | None,
    facts: ConceptFacts,
    turned: int,
) -> DatasetManifest:
    rows = chosen.rows
    new = set(zip(rows["class_id"], rows["sha256"], strict=True)) - set(errata.published)
    now = sum(r.since == config.version for r in errata.retired)
    counts = mining_counts(candidates) | _counts(chosen, review) | {"retired": len(errata.retired), "turned": turned}
    miners = [m.model_copy(update={"model": public_spec(m.model)}) for m in read_selection_models(config.candidates)]
    return DatasetManifest(
        kind="spurious-images",
        name=config.name,
        version=config.version,
        code_version=version("spurious-imagenet"),
        files=files,
        dataset_sha256=images_sha256(rows, _IMAGE_KEYS),
        counts=counts,
        facts=facts_of(review, facts),
        min_agree=votes_needed(config.candidates),
        miners=tuple(miners),
        made_from=made_from(config),
        retired=errata.retired,
        changes=changelog(config, old, f"{len(new)} images added, {now} retired."),
    )


def _counts(chosen: _Chosen, review: ReviewSummary | None) -> dict[str, int]:
    judged: Mapping[str, Any] = {} if review is None else review.as_dict()
    return {key: value for key, value in judged.items() if isinstance(value, int)} | {
        "repeated": chosen.repeated,
        "left_out_images": int(chosen.left_out["images"].sum()),
        "left_out_concepts": len(chosen.left_out),
        "images": len(chosen.rows),
        "concepts": chosen.rows["concept_id"].nunique(),
        "classes": chosen.rows["class_id"].nunique(),
    }
