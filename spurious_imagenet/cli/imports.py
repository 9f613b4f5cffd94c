"""``spurious import``: annotations, images and α that others have published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.benchmark.mitigation.spufix_alphas import write_alphas
from spurious_imagenet.builders.imports import (
    ImagesConfig,
    import_spurious_images,
    read_salient_imagenet,
    read_sfe_alphas,
    read_sfe_components,
)
from spurious_imagenet.cli.groups import plain_typer
from spurious_imagenet.cli.options import MaxPixels, MinSide, console, progress_bar, validated
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.concepts import ConceptVerdicts
from spurious_imagenet.images import DecodeLimits

__all__ = ["app"]

_SHOWN = 10

app = plain_typer()

Verdicts = Annotated[Path, typer.Option(help="Verdicts to write: .parquet, .jsonl or .csv.")]


@app.callback()
def group() -> None:
    """Read annotations, images and α that others have published."""


@app.command(name="salient-imagenet")
def salient_imagenet(
    csv: Annotated[Path, typer.Argument(help="Your copy of discover_spurious_features.csv.")], out: Verdicts
) -> None:
    """Read the votes of Salient ImageNet on neural features: spurious where at least 3 of 5 people say so.

    The verdicts are on features of its robust ResNet-50. The file's licence allows non-commercial research only.
    """
    verdicts = read_salient_imagenet(csv)
    verdicts.save(out)
    _say(verdicts, out, "pairs of class and neural feature")


@app.command(name="sfe-components")
def sfe_components(
    npy: Annotated[Path, typer.Argument(help="Your copy of spurious_components.npy.")], out: Verdicts
) -> None:
    """Read the NPCA components that "Spurious Features Everywhere" found spurious in its robust ResNet-50.

    The file is a pickle; no code in it is run.
    """
    verdicts = read_sfe_components(npy)
    verdicts.save(out)
    _say(verdicts, out, "NPCA components")


@app.command(name="sfe-alphas")
def sfe_alphas(
    folder: Annotated[Path, typer.Argument(help="Your copies of spurious_alphas_train_NNN.pt.")],
    features: Annotated[Path, typer.Option(help="Feature store of ImageNet's training images, by any model.")],
    components: Annotated[Path, typer.Option(help="Verdicts that `spurious import sfe-components` wrote.")],
    out: Annotated[Path, typer.Option(help="α to write, .parquet; `spurious spufix --alphas` reads it.")],
) -> None:
    """Read how strongly each of ImageNet's training images shows the components that SFE found spurious.

    With it SpuFix is transferred to a model of yours without the robust ResNet-50: spurious spufix --alphas.
    """
    classes = read_sfe_alphas(folder, open_store(features), ConceptVerdicts.load(components))
    write_alphas(out, classes)
    images, concepts = sum(len(c.sha256) for c in classes), sum(len(c.components) for c in classes)
    typer.echo(f"{out}: α of {images} training images of {len(classes)} classes on {concepts} components.")


def _say(verdicts: ConceptVerdicts, out: Path, what: str) -> None:
    spurious = [v for v in verdicts if v.verdict == "spurious"]
    votes = sum(len(v.votes) for v in verdicts)
    typer.echo(
        f"{out}: {len(verdicts)} {what} with {votes} single votes; {len(spurious)} are spurious, of "
        f"{len({v.class_id for v in spurious})} classes."
    )


@app.command(name="spurious-imagenet")
def spurious_imagenet(
    source: Annotated[Path, typer.Argument(help="Official image archive: a zip, or the folder it was unpacked to.")],
    out: Annotated[Path, typer.Option(help="Dataset folder to write.")],
    name: Annotated[str, typer.Option(help="Title of the dataset.")] = "Spurious ImageNet (official images)",
    max_reject_fraction: Annotated[float, typer.Option(help="Fail if a larger share is rejected.", min=0, max=1)] = 0.5,
    min_side: MinSide = 8,
    max_pixels: MaxPixels = 50_000_000,
) -> None:
    """Turn the official images of Spurious ImageNet into a dataset that `spurious evaluate` reads."""
    config = validated(
        ImagesConfig,
        source=str(source),
        name=name,
        max_reject_fraction=max_reject_fraction,
        decode=DecodeLimits(min_side=min_side, max_pixels=max_pixels),
    )
    with progress_bar("files") as bar:
        task = bar.add_task("reading", total=None, note="")
        result = import_spurious_images(config, out, progress=lambda done, n: bar.update(task, completed=done, total=n))
    for file, reason in result.rejects[:_SHOWN]:
        console.print(f"  rejected: {file}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if len(result.rejects) > _SHOWN:
        typer.echo(f"… and {len(result.rejects) - _SHOWN} more in {result.path}/import.json", err=True)
    classes = result.concepts["class_id"].nunique()
    typer.echo(
        f"{result.path}: {result.images} images of {len(result.concepts)} components of {classes} classes; "
        f"{len(result.rejects)} files rejected."
    )
