"""``spurious sensitivity``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.sensitivity import MaskFolder, SensitivityConfig, SensitivityRecord, SensitivityRun
from spurious_imagenet.builders.sensitivity.corruptions import CORRUPTIONS
from spurious_imagenet.builders.sensitivity.record import ModelSensitivity
from spurious_imagenet.cli.options import Backend, Device, ImageSize, ShardsNow, Workers, progress_bar, validated
from spurious_imagenet.cli.tables import Sheet, note
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.models import load_classifier

__all__ = ["command"]


def command(
    masks: Annotated[Path, typer.Option(help="Masks written by `spurious masks`.")],
    bank: Annotated[Path, typer.Option(help="Concepts to measure, with verdicts: core, spurious.")],
    model: Annotated[list[str], typer.Option(help="Model to measure; give it often to compare models.")],
    out: Annotated[Path, typer.Option(help="Directory to write; an unfinished one is resumed, models are added.")],
    images: Annotated[int | None, typer.Option(help="Images a concept at most, of highest score.", min=1)] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the turns of patches and of the bootstrap.", min=0)] = 0,
    image_size: ImageSize = None,
    device: Device = "auto",
    backend: Backend = "auto",
    workers: Workers = None,
    shards: ShardsNow = None,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
) -> None:
    """Measure how accuracy drops when a concept's region is greyed, blurred or has its patches turned (SR appendix B).

    The masks of one model's concepts serve for any model. Masks of spurious concepts lose what overlaps with the core
    concepts of the class that are in the same folder of masks.
    """
    config = validated(SensitivityConfig, images=images, seed=seed, resamples=resamples)
    run = SensitivityRun(MaskFolder(masks), ConceptBank.load(bank), out, config)
    measured = []
    with progress_bar("classes") as bar:
        for spec in dict.fromkeys(model):
            classifier = load_classifier(spec, image_size=image_size)
            task = bar.add_task("sensitivity", total=None, note=spec)
            measured.append(
                run.measure(
                    classifier,
                    device=device,
                    backend=backend,
                    workers=workers,
                    shards=tuple(shards or ()),
                    allow_pipe=allow_pipe,
                    progress=lambda done, n, task=task: bar.update(task, completed=done, total=n),  # type: ignore[misc]
                )
            )
    record = run.finish(measured)
    for found in record.models:
        _drops(found).print()
    if record.agreement:
        _agreement(record).print()
    note(_LEGEND)
    typer.echo(f"{out}: {len(record.models)} models, sensitivity.json and sensitivity.csv.")


_LEGEND = """\
Per cent of the images that are no longer classified as their class when the region is corrupted, mean over concepts; \
below it the 95 % bootstrap interval, images and concepts resampled. area: mean share of the picture corrupted."""


def _drops(model: ModelSensitivity) -> Sheet:
    sheet = Sheet(("concepts", "n", "area", *CORRUPTIONS), {"concepts"}, f"{model.name}: drop in accuracy")
    for role in dict.fromkeys(mean.role for mean in model.means):
        own = [mean for mean in model.means if mean.role == role]
        values = [f"{100 * m.drop:+.1f}\n{100 * m.interval.low:.1f} to {100 * m.interval.high:.1f}" for m in own]
        sheet.row(role, str(own[0].concepts), f"{own[0].covered:.0%}", *values)
    return sheet


def _agreement(record: SensitivityRecord) -> Sheet:
    kinds = list(dict.fromkeys(a.corruption for a in record.agreement))
    headers = ("first", "second", "concepts", *kinds)
    sheet = Sheet(headers, {"first", "second"}, "Correlation of drops between models")
    for start in range(0, len(record.agreement), len(kinds)):
        pair = record.agreement[start : start + len(kinds)]
        values = ["–" if a.r is None else f"{a.r:+.2f}" for a in pair]
        sheet.row(pair[0].first, pair[0].second, str(pair[0].concepts), *values)
    return sheet
