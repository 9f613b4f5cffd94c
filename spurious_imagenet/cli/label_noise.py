"""``spurious label-noise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spurious_imagenet.builders.label_noise import FlagRule, LabelNoiseConfig
from spurious_imagenet.cli.options import validated, working
from spurious_imagenet.cli.tables import Sheet

if TYPE_CHECKING:
    from spurious_imagenet.builders.label_noise.report import LabelNoiseReport

__all__ = ["command"]

_SHOWN = 15


def command(
    rankings: Annotated[Path, typer.Option(help="Rankings of `spurious rank`.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    records: Annotated[
        list[Path] | None, typer.Option(help="Record of `spurious evaluate` on the ranked images; may be given often.")
    ] = None,
    features: Annotated[
        list[Path] | None, typer.Option(help="Feature store of the ranked images; may be given often.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the rankings.")] = "val",
    bank: Annotated[
        Path | None,
        typer.Option(help="Concept bank with verdicts, or a file of verdicts: lists concepts that collide."),
    ] = None,
    min_cosine: Annotated[float, typer.Option(help="Cosine from which NPCA components are one concept.")] = 0.5,
    real: Annotated[
        Path | None, typer.Option(help="ReaL labels (real.json): all classes that each image shows.")
    ] = None,
    top_share: Annotated[float, typer.Option(help="Flag images among this share of highest spuriosity.")] = 0.5,
    agree: Annotated[
        int | None, typer.Option(help="Models that must name the same other class; half of them by default.")
    ] = None,
    k: Annotated[int, typer.Option(help="Images at either end of a class's ranking, for its gap.")] = 10,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of the gaps.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
    images: Annotated[
        str | None, typer.Option(help="The ranked images, folder or shards; by default those of the first store.")
    ] = None,
    review: Annotated[int, typer.Option(help="Prepare so many of the most suspicious images for review.")] = 200,
    crops: Annotated[int, typer.Option(help="Draw core crops of so many flagged images per class.")] = 0,
    model: Annotated[str | None, typer.Option(help="The bank's model, if it has moved; for core crops.")] = None,
) -> None:
    """List images whose label may be wrong, and classes that collide.

    Suspicious are images that show their class's spurious features strongly and that models take for another class.
    """
    # Seconds to import.
    from spurious_imagenet.builders.label_noise.run import find_label_noise
    from spurious_imagenet.cli.stores import open_store

    config = validated(
        LabelNoiseConfig,
        rankings=str(rankings),
        split=split,
        records=tuple(map(str, records or ())),
        features=tuple(map(str, features or ())),
        bank=None if bank is None else str(bank),
        min_cosine=min_cosine,
        real=None if real is None else str(real),
        rule=validated(FlagRule, top_share=top_share, agree=agree),
        k=k,
        resamples=resamples,
        seed=seed,
        images=images,
        review=review,
        crops=crops,
        model=model,
    )
    for path in config.features:
        open_store(path)
    with working("looking for wrong labels"):
        report = find_label_noise(config, out)
    _show(report)
    typer.echo(f"{out}: {report.summary}")


def _show(report: LabelNoiseReport) -> None:
    from spurious_imagenet.builders.label_noise.report import class_line

    headers = ("class", "images", "high", "low", "gap", "95 %", "taken for", "flagged")
    sheet = Sheet(headers, {"class", "taken for"}, "spurious gaps, mean over models; the most negative first")
    for gap in report.gaps[:_SHOWN]:
        sheet.row(*class_line(gap, report.flagged_by_class))
    sheet.print()
    if report.collisions is not None:
        found = report.collisions
        typer.echo(f"{found.core_elsewhere} of {found.concepts} spurious concepts are core for another class.")
    if report.real is not None:
        for group in report.real.groups:
            share = "no images" if group.share is None else f"{group.share:.1%} of {group.images} show several classes"
            typer.echo(f"{group.group}: {share}.")
    for crop in report.crops:
        typer.echo(
            f"{crop.class_id}: label predicted for {crop.right_before} of {crop.images}, cropped {crop.right_after}."
        )
