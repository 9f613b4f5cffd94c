"""``spurious cues`` and ``spurious suggest``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from spurious_imagenet.benchmark.evaluation.gaps import predictions_of_store
from spurious_imagenet.builders.cues.alignment import fit_alignment
from spurious_imagenet.builders.cues.bank import Cue, aligned_bank, cue_bank, read_cues
from spurious_imagenet.builders.cues.gaps import CueGap, cue_gaps, with_gaps
from spurious_imagenet.builders.cues.suggest import suggest
from spurious_imagenet.builders.features import FeaturesConfig
from spurious_imagenet.builders.features.extract import store_config
from spurious_imagenet.cli.options import ImageSize, working
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.cli.tables import Sheet
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models import LabelSpace, load_classifier
from spurious_imagenet.models.open_clip_models import text_embeddings

__all__ = ["command", "suggest_command"]


def command(
    model: Annotated[str, typer.Option(help="Vision-language model, such as open_clip:ViT-B-32/laion2b_s34b_b79k.")],
    out: Annotated[Path, typer.Option(help="Concept bank to write.")],
    text: Annotated[list[str] | None, typer.Option(help="A cue, such as 'bird feeder'; may be given often.")] = None,
    class_id: Annotated[
        list[str] | None, typer.Option("--class", help="A class that the texts may be cues of; may be given often.")
    ] = None,
    cues: Annotated[Path | None, typer.Option(help="CSV of class_id,text in place of --text and --class.")] = None,
    prompt: Annotated[str, typer.Option(help="Put around each text.")] = "a photo of a {}",
    features: Annotated[
        list[Path] | None,
        typer.Option(help="Feature store of labelled images by the bank's model: measures the gap along each cue."),
    ] = None,
    measure: Annotated[
        list[Path] | None,
        typer.Option(help="Feature store of the same images by a model to measure; --features' where left out."),
    ] = None,
    align: Annotated[
        Path | None, typer.Option(help="Feature store of another model, which is to read the cues; needs --align-to.")
    ] = None,
    align_to: Annotated[
        Path | None, typer.Option(help="Feature store of the same images by the vision-language model.")
    ] = None,
    k: Annotated[int, typer.Option(help="Images on either side of a gap.", min=1)] = 10,
    image_size: ImageSize = None,
) -> None:
    """Make concepts of text: rows of a bank that are scored, ranked and mined like any other.

    With --features, the gap along each cue is measured; cues without one are said to have none.
    """
    if (align is None) != (align_to is None):
        raise ConfigError("--align and --align-to go together: expected features of the same images by both models.")
    classifier = load_classifier(model, image_size=image_size)
    given = _given(text, class_id, cues, classifier.labels)
    with working(f"embedding {len(given)} texts"):
        embedded = text_embeddings(classifier, [cue.text for cue in given], prompt)
    bank = cue_bank(
        given, embedded, classifier.labels, store_config(classifier, FeaturesConfig(model=model, shards=("-",))), prompt
    )
    if align is not None and align_to is not None:
        source, target = open_store(align), open_store(align_to)
        bank.check_features(target.config.weights_sha256, target.config.sha256, str(align_to))
        alignment = fit_alignment(source, target)
        bank = aligned_bank(bank, alignment, source.config)
        typer.echo(
            f"aligned on {alignment.images} images; on {alignment.held_out} others the map explains "
            f"{alignment.r2:.1%} of the variance of {classifier.spec}'s features."
        )
    if features:
        stores = [open_store(path) for path in features]
        measured = [open_store(path) for path in measure] if measure else stores
        with working("measuring gaps"):
            gaps = cue_gaps(bank, stores, _by_model(measured), k=k)
        bank = with_gaps(bank, gaps)
    bank.save(out)
    if features:
        _show(gaps, k)
    typer.echo(f"{out}: {len(bank)} cues of {bank.table['class_id'].nunique()} classes, read by {bank.info.model}.")


def _by_model(stores: Sequence[FeatureStore]) -> dict[str, Predictions]:
    """Join the predictions of each model's stores."""
    found: dict[str, list[FeatureStore]] = {}
    for store in stores:
        found.setdefault(store.config.sha256, []).append(store)
    return {
        own[0].config.model: Predictions(
            pd.concat([predictions_of_store(s).table for s in own], ignore_index=True).drop_duplicates(
                ["class_id", "sha256"], ignore_index=True
            )
        )
        for own in found.values()
    }


def _given(text: list[str] | None, classes: list[str] | None, file: Path | None, labels: LabelSpace) -> list[Cue]:
    if file is not None:
        if text or classes:
            raise ConfigError("--cues is given with --text or --class: expected one or the other.")
        return read_cues(file)
    if not text:
        raise ConfigError("no cue is given: expected --text and --class, or --cues.")
    return [Cue(class_id, one) for class_id in classes or labels.class_ids for one in text]


def _show(gaps: Sequence[CueGap], k: int) -> None:
    title = f"accuracy on the {k} images that show a cue most less that on the {k} that show it least"
    sheet = Sheet(("class", "cue", "gap", "95 %", ""), {"class", "cue", ""}, title)
    for found in sorted(gaps, key=lambda g: -g.gap):
        bounds = f"{found.interval.low:+.2f} to {found.interval.high:+.2f}"
        sheet.row(found.class_id, found.name, f"{found.gap:+.2f}", bounds, "" if found.has_gap else "no gap")
    sheet.print()
    without = sum(not g.has_gap for g in gaps)
    typer.echo(f"{len(gaps) - without} cues with a gap, {without} without one.")


def suggest_command(
    masks: Annotated[Path, typer.Option(help="Activation maps that `spurious masks` wrote.")],
    objects: Annotated[Path, typer.Option(help="Folder of object masks: KEY.png or SHA256.png.")],
    out: Annotated[Path, typer.Option(help="Verdicts to write (.parquet, .jsonl or .csv), for `spurious annotate`.")],
    object_value: Annotated[int | None, typer.Option(help="Pixel value of the object; any but 0 if left out.")] = None,
    spurious_below: Annotated[float, typer.Option(help="A contrast below it suggests spurious.", min=0)] = 1.7,
    core_above: Annotated[float, typer.Option(help="A contrast above it suggests core.", min=0)] = 2.0,
) -> None:
    """Suggest core or spurious from how much of a concept's activation maps lies on the object.

    The contrast is the median ratio of a map's density on the object to that beside it. The defaults are from a planted
    world with coarse maps (4 x 4 places); finer maps may need others.
    """
    seen: list[str] = []
    verdicts, found = suggest(
        masks,
        objects,
        object_value=object_value,
        spurious_below=spurious_below,
        core_above=core_above,
        on_coverage=lambda used, images: seen.append(f"{used} of {images} images have an object mask in {objects}."),
    )
    verdicts.save(out)
    counts = {v: sum(s.verdict == v for s in found) for v in ("spurious", "core", "unclear")}
    typer.echo(f"{out}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + ".")
    typer.echo(seen[0])
