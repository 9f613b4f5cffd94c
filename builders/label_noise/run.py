"""The search for wrong labels, from rankings and predictions to a folder."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.builders.label_noise._collisions import read_collisions
from spurious_imagenet.builders.label_noise._config import LabelNoiseConfig
from spurious_imagenet.builders.label_noise._crop_boards import CoreCropper, draw_crops
from spurious_imagenet.builders.label_noise._flags import FLAGGED_SCHEMA, flag_images
from spurious_imagenet.builders.label_noise._gaps import mean_gaps
from spurious_imagenet.builders.label_noise._media import image_sources, read_images, references_of, write_review
from spurious_imagenet.builders.label_noise._real import RealLabels, real_report
from spurious_imagenet.builders.label_noise._votes import ModelVotes, ranked_images, read_predictions, votes_on
from spurious_imagenet.builders.label_noise.report import LabelNoiseReport
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.concepts.verdict_files import inert_cell
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.io import atomic_directory
from spurious_imagenet.models.labels import imagenet_label_space
from spurious_imagenet.models.load import moved_spec

__all__ = ["find_label_noise"]


@dataclass(frozen=True, eq=False)
class _Found:
    """What was found, before it is written: the ranked images, what models say of them, the flagged ones, a report."""

    images: pd.DataFrame
    votes: ModelVotes
    flagged: pd.DataFrame
    report: LabelNoiseReport


def find_label_noise(config: LabelNoiseConfig, out: str | Path) -> LabelNoiseReport:
    """Find images whose label may be wrong, and classes that collide (SR section 5).

    Writes, whole or not at all: ``label-noise.json`` (the report) and ``label-noise.md``; ``flagged.parquet`` and
    ``flagged.csv`` (:data:`~spurious_imagenet.builders.label_noise._flags.FLAGGED_SCHEMA`); ``items.jsonl``,
    and ``images/`` to review the most suspicious; and ``crops/`` where core crops are asked for.

    Args:
        config: Where to look.
        out: Folder to appear.

    Returns:
        The report.

    Raises:
        ConfigError: Options contradict each other.
        DataError: Rankings, predictions or labels do not fit together.
        StoreError: A store or bank cannot be read, or ``out`` holds something.
        ModelError: Core crops: the bank's model cannot be loaded or has no activation maps.
    """
    found = _search(config)
    with atomic_directory(out) as folder:
        table = pa.Table.from_pandas(found.flagged, schema=FLAGGED_SCHEMA, preserve_index=False)
        pq.write_table(table.replace_schema_metadata(None), folder / "flagged.parquet", compression="zstd")
        _write_csv(folder / "flagged.csv", found.flagged)
        report = _write_images(folder, config, found)
        content = report.to_json()
        (folder / "label-noise.json").write_text(content, encoding="utf-8")
        (folder / "label-noise.md").write_text(report.markdown(), encoding="utf-8")
    return report


def _search(config: LabelNoiseConfig) -> _Found:
    images = ranked_images(Rankings.load(config.rankings, config.split))
    votes = votes_on(images, read_predictions(config.records, config.features))
    names = _names(images)
    gaps, refused = mean_gaps(images, votes, names, k=config.k, resamples=config.resamples, seed=config.seed)
    by_class = {gap.class_id: gap.gap for gap in gaps}
    flagged = flag_images(images, votes, config.rule, by_class, names)
    real = None if config.real is None else real_report(images, flagged, by_class, RealLabels(config.real))
    report = LabelNoiseReport(
        config=config,
        models=votes.models,
        votes_needed=config.rule.votes_needed(len(votes.models)),
        images=len(images),
        flagged=len(flagged),
        flagged_by_class={str(c): int(n) for c, n in flagged["class_id"].value_counts(sort=False).sort_index().items()},
        gaps=gaps,
        refused=refused,
        collisions=None if config.bank is None else read_collisions(config.bank, config.min_cosine),
        real=real,
    )
    return _Found(images, votes, flagged, report)


def _names(images: pd.DataFrame) -> dict[str, str]:
    """Return class id -> name; the rankings name ranked classes only, and models may name any other."""
    own = dict(zip(images["class_id"], images["class_name"], strict=True))
    imagenet = imagenet_label_space("imagenet-1k")
    if not all(class_id in imagenet for class_id in own):
        return own
    return dict(zip(imagenet.class_ids, imagenet.class_names, strict=True)) | own


def _write_csv(path: Path, flagged: pd.DataFrame) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FLAGGED_SCHEMA.names)
        for row in flagged.itertuples(index=False):
            writer.writerow([inert_cell(v) if isinstance(v, str) else "" if pd.isna(v) else v for v in row])


def _write_images(folder: Path, config: LabelNoiseConfig, found: _Found) -> LabelNoiseReport:
    """Write what needs the images themselves; return the report with what came of it."""
    judged = found.flagged.head(config.review)
    cropped = found.flagged.groupby("class_id", sort=True).head(config.crops)
    if not len(judged) and not len(cropped):
        return found.report
    right = pd.Series((found.votes.predicted == found.images[["class_id"]].to_numpy(dtype=object)).all(axis=1))
    references = references_of(found.images, right, set(judged["class_id"]))
    reviewed = {*judged["sha256"], *(sha256 for own in references.values() for sha256 in own)}
    sources = image_sources(config.images, config.features)
    wanted = reviewed | set(cropped["sha256"])
    read = read_images(sources, wanted)
    if len(judged):
        write_review(folder, judged, references, {sha256: read[sha256] for sha256 in sorted(reviewed)})
    if not len(cropped):
        return found.report
    bank = _bank(config)
    cropper = CoreCropper(bank, config.model or moved_spec(bank.info.model, str(config.bank)))
    crops, without = draw_crops(cropper, cropped, read, config.crops, folder / "crops")
    return found.report.model_copy(update={"crops": crops, "without_core": without})


def _bank(config: LabelNoiseConfig) -> ConceptBank:
    if config.bank is None or Path(config.bank).is_file():
        raise ConfigError(f"--crops needs the directions of core concepts: expected a bank folder, got {config.bank}.")
    return ConceptBank.load(config.bank)
