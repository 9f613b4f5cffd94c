"""``spurious planted``: a world whose spurious features are known, models of it, and the check of what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from spurious_imagenet.builders.mining import read_candidates
from spurious_imagenet.cli.groups import plain_typer
from spurious_imagenet.cli.options import progress_bar, validated
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.cli.tables import Sheet
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.io import atomic_path
from spurious_imagenet.planted import PlantedTruth, WorldConfig, write_world
from spurious_imagenet.planted.check import cue_auc, mined_purity
from spurious_imagenet.planted.config import WRONG_LABELS
from spurious_imagenet.planted.found import found_sheet
from spurious_imagenet.planted.report import CheckReport, check_report

__all__ = ["app"]

app = plain_typer()

Processes = Annotated[int, typer.Option(help="Processes at work; the outputs do not depend on it.", min=1)]
PoolImages = Annotated[int | None, typer.Option(help="Images of this kind in the pool, per class or pair.", min=0)]


@app.callback()
def group() -> None:
    """Make, learn and check a synthetic world whose spurious features are known."""


@app.command()
def world(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    seed: Annotated[int, typer.Option(help="Another seed draws another world.", min=0)] = 0,
    image_size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 64,
    tiny: Annotated[bool, typer.Option(help="Draw some hundred images only, to try the commands.")] = False,
    small: Annotated[bool, typer.Option(help="Draw a thousand images, enough for a first look.")] = False,
    measure: Annotated[
        bool, typer.Option(help="Draw 200 validation images per class and the least of everything else.")
    ] = False,
    train_per_class: Annotated[int | None, typer.Option(help="Training images per class.")] = None,
    val_per_class: Annotated[int | None, typer.Option(help="Validation images per class.")] = None,
    pool_cue_only: PoolImages = None,
    pool_cue_other: PoolImages = None,
    pool_cue_own: PoolImages = None,
    pool_object_only: PoolImages = None,
    pool_neither: PoolImages = None,
    jpeg_quality: Annotated[int | None, typer.Option(help="Of the images, 50 to 100.")] = None,
    wrong_labels: Annotated[
        bool, typer.Option(help="Label 30 % of the images of four classes wrongly: cue of the class, another's object.")
    ] = False,
    processes: Processes = 2,
) -> None:
    """Draw images of twelve objects, ten of them with a planted cue, and write down what is true of each image."""
    sizes = {"--tiny": tiny, "--small": small, "--measure": measure}
    if len(asked := [name for name, given in sizes.items() if given]) > 1:
        raise ConfigError(f"{' and '.join(asked)} are sizes of a world: expected one of them.")
    makers = {"--tiny": WorldConfig.tiny, "--small": WorldConfig.small, "--measure": WorldConfig.measuring}
    base = makers[asked[0]]() if asked else WorldConfig()
    chosen = {"train_per_class": train_per_class, "val_per_class": val_per_class, "jpeg_quality": jpeg_quality}
    chosen |= {"pool_cue_only": pool_cue_only, "pool_cue_other": pool_cue_other, "pool_cue_own": pool_cue_own}
    chosen |= {"pool_object_only": pool_object_only, "pool_neither": pool_neither}
    values = base.model_dump() | {"seed": seed, "image_size": image_size}
    values |= {name: count for name, count in chosen.items() if count is not None}
    config = validated(WorldConfig, **values | {"mislabelled": WRONG_LABELS if wrong_labels else ()})
    with progress_bar("images") as bar:
        task = bar.add_task("drawing", total=None, note="")
        write_world(out, config, workers=processes, on_image=lambda n, of: bar.update(task, completed=n, total=of))
    wrong = f", wrong labels in {len(config.mislabelled)} classes" if wrong_labels else ""
    typer.echo(
        f"{out}: {len(config.pairs)} pairs of class and cue planted{wrong}; look at {out / 'contact.png'}, "
        f"the truth is in {out / 'truth'}."
    )


@app.command()
def train(
    world: Annotated[Path, typer.Argument(help="A planted world.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the weights to.")],
    processes: Processes = 2,
) -> None:
    """Train four small networks on a planted world: `robust` adversarially, to score, and three others, to vote."""
    from spurious_imagenet.planted.training import RECIPES, train_models

    with progress_bar("models") as bar:
        task = bar.add_task("training", total=len(RECIPES), note="")
        records = train_models(world, out, workers=processes, on_trained=lambda _: bar.advance(task))
    headers = ("model", "architecture", "accuracy", "attacked", "seconds")
    sheet = Sheet(headers, {"model", "architecture"}, f"models in {out}")
    for r in records:
        attacked = "" if r.robust_accuracy is None else f"{r.robust_accuracy:.1%}"
        sheet.row(r.recipe.name, r.recipe.arch, f"{r.val_accuracy:.1%}", attacked, f"{r.seconds:.0f}")
    sheet.print()


@app.command()
def vision_language(
    world: Annotated[Path, typer.Argument(help="A planted world.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the model to.")],
    epochs: Annotated[int, typer.Option(help="Passes over the images.", min=1)] = 5,
    arch: Annotated[str, typer.Option(help="The image tower, a timm architecture.")] = "test_resnet",
    embed_dim: Annotated[int, typer.Option(help="Length of an embedding.", min=1)] = 64,
    learning_rate: Annotated[float, typer.Option(help="Of Adam; above 0.")] = 4e-3,
    batch_size: Annotated[int, typer.Option(help="Images per step.", min=1)] = 128,
    seed: Annotated[int, typer.Option(help="Of the weights and of the order of images.")] = 0,
) -> None:
    """Train a small vision-language model on captions of a planted world, to try text cues without a network."""
    from spurious_imagenet.planted.vision_language import VisionLanguageRecipe, train_vision_language

    recipe = validated(
        VisionLanguageRecipe,
        arch=arch,
        embed_dim=embed_dim,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
    )
    with progress_bar("epochs") as bar:
        task = bar.add_task("training", total=epochs, note="")
        seconds = train_vision_language(world, out, recipe, on_epoch=lambda n: bar.update(task, completed=n))
    typer.echo(f"{out}, trained in {seconds:.0f} s; use it as open_clip:local-dir:{out}?labels={out / 'labels.txt'}")


@app.command()
def check(
    world: Annotated[Path, typer.Option(help="The planted world.")],
    bank: Annotated[Path, typer.Option(help="Concept bank of its scoring model.")],
    features: Annotated[Path, typer.Option(help="That model's feature store of the world's pool.")],
    candidates: Annotated[Path, typer.Option(help="Candidates mined from the pool.")],
    out: Annotated[Path, typer.Option(help="Folder to write check.json, check.md and found.png to.")],
) -> None:
    """Compare what was found and mined with what was planted; exit with 1 when too little was."""
    truth = PlantedTruth.load(world)
    found = cue_auc(ConceptBank.load(bank), open_store(features), truth)
    kept = read_candidates(candidates, ("concept_id", "sha256", "status"))
    report = check_report(found, mined_purity(kept, truth, found))
    report.write_report(out, found_sheet(report, truth, kept, world))
    _show(report)
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def seen(
    world: Annotated[Path, typer.Option(help="The planted world.")],
    npfv: Annotated[Path, typer.Option(help="Feature visualisations of its scoring model.")],
    check: Annotated[Path, typer.Option(help="Folder of the check, which names the components found.")],
    out: Annotated[Path, typer.Option(help="Folder to write seen.json and seen.png to.")],
) -> None:
    """Ask a classifier that never saw a visualisation whether they show the planted cues."""
    from spurious_imagenet.builders.visualise.npfv import NpfvStore
    from spurious_imagenet.planted.recogniser import draw_alone, train_recogniser
    from spurious_imagenet.planted.seen import (
        contact_sheet,
        read_found,
        read_world_config,
        seen_in,
        write_seen,
    )

    config, found, images = read_world_config(world), read_found(check), NpfvStore.open(npfv)
    with progress_bar("drawings") as bar:
        task = bar.add_task("recogniser", total=None, note="")
        recogniser = train_recogniser(config, progress=lambda n, of: bar.update(task, completed=n, total=of))
    report = seen_in(images, found, recogniser)
    things = [(pair.class_id.rsplit("-", 1)[-1], pair.cue) for pair in found]
    examples = [(draw_alone(name, 0, config)[0], draw_alone(cue, 0, config)[0]) for name, cue in things]
    write_seen(out, report, contact_sheet(report, images, examples))
    typer.echo(report.summary())


def _show(report: CheckReport) -> None:
    headers = ("class", "cue", "share", "component", "AUC", "kept", "purity")
    sheet = Sheet(headers, {"class", "cue"}, "what was planted, and what was found")
    for pair in report.pairs:
        auc, purity = f"{pair.auc:.4f}", "none kept" if pair.purity is None else f"{pair.purity:.3f}"
        sheet.row(
            pair.class_id,
            pair.cue,
            f"{pair.share:.0%}",
            str(pair.component),
            auc if report.found(pair) else Text(auc, "red"),
            str(pair.kept),
            purity if report.mined(pair) else Text(purity, "red"),
        )
    sheet.print()
    typer.echo(report.summary())


@app.command()
def mended(
    world: Annotated[Path, typer.Option(help="The planted world whose cues were measured.")],
    records: Annotated[list[Path], typer.Option(help="Records, or folders of them, under one protocol.")],
    gaps: Annotated[Path, typer.Option(help="What `spurious gaps` wrote of all models, controls included.")],
    tuning: Annotated[Path, typer.Option(help="tuning.json of `spurious tune --baselines`.")],
    noise_world: Annotated[Path, typer.Option(help="The planted world with wrong labels.")],
    label_noise: Annotated[Path, typer.Option(help="Folder that `spurious label-noise` wrote of it.")],
    out: Annotated[Path, typer.Option(help="Markdown to write.")],
) -> None:
    """Compare gaps, mended models and flagged images with what was planted; exit with 1 where a requirement fails."""
    from spurious_imagenet.benchmark.comparison.record import ModelComparison
    from spurious_imagenet.benchmark.mitigation.tuning_record import TuningRecord
    from spurious_imagenet.planted.mended import check_mended

    files = [f for path in records for f in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    report = check_mended(
        PlantedTruth.load(world),
        files,
        ModelComparison.load(gaps),
        TuningRecord.load(tuning),
        PlantedTruth.load(noise_world),
        label_noise / "flagged.parquet",
    )
    with atomic_path(out) as temporary:
        temporary.write_text(report.markdown(), encoding="utf-8")
    headers = ("statement", "measured", "holds")
    sheet = Sheet(headers, set(headers), f"written to {out}")
    for s in report.statements:
        holds = s.holds_in_words
        sheet.row(s.what, s.measured, Text(holds, "red") if s.required and not s.holds else holds)
    sheet.print()
    typer.echo(report.summary())
    raise typer.Exit(0 if report.passed else 1)
