"""``spurious contrast``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.builders.contrast import ContrastConfig, ContrastRecord, contrast, write_contrast
from spurious_imagenet.builders.contrast.report import cue_rows, measures
from spurious_imagenet.cli.options import console as stderr
from spurious_imagenet.cli.options import progress_bar, validated
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.cli.tables import Sheet
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.planted.truth import PlantedTruth

__all__ = ["command"]


def command(
    npca: Annotated[Path, typer.Option(help="Concept bank written by `spurious components`.")],
    neurons: Annotated[Path, typer.Option(help="Concept bank written by `spurious neurons`, of the same model.")],
    features: Annotated[Path, typer.Option(help="That model's feature store of the labelled images.")],
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    top: Annotated[int, typer.Option(help="Concepts a class of each kind, the first of the bank.", min=2)] = 5,
    top_images: Annotated[int, typer.Option(help="Images a concept, of highest score.", min=1)] = 20,
    world: Annotated[Path | None, typer.Option(help="Planted world: say which of its cues either kind finds.")] = None,
    pool_features: Annotated[Path | None, typer.Option(help="The model's features of that world's pool.")] = None,
) -> None:
    """Compare neural PCA components with the top neural features of the same model (SFE section 6)."""
    if (world is None) != (pool_features is None):
        raise ConfigError("--world and --pool-features belong together: give both, or neither.")
    config = validated(ContrastConfig, top=top, top_images=top_images)
    with progress_bar("classes") as bar:
        task = bar.add_task("contrast", total=None, note="")
        record = contrast(
            ConceptBank.load(npca),
            ConceptBank.load(neurons),
            open_store(features),
            config,
            truth=PlantedTruth.load(world) if world else None,
            pool=open_store(pool_features) if pool_features else None,
            progress=lambda done, n: bar.update(task, completed=done, total=n),
        )
    files = write_contrast(record, out)
    if "contrast.png" not in files:
        stderr.print("  no figure: it needs pip install 'spurious-imagenet[boards]'.", highlight=False, markup=False)
    for class_id, reason in record.refused.items():
        stderr.print(f"  left out: {class_id}: {reason}", highlight=False, markup=False, soft_wrap=True)
    _print(record)
    typer.echo(f"{out}: {', '.join(files)}.")


def _print(record: ContrastRecord) -> None:
    title = f"top {record.top} of {len(record.classes)} classes, {record.top_images} images a concept"
    sheet = Sheet(("mean over classes", "components", "neurons", "chance"), {"mean over classes"}, title)
    for row in measures(record.mean):
        sheet.row(*row)
    sheet.print()
    typer.echo(f"Components overlap less than neurons in {record.npca_less_overlap} of {len(record.classes)} classes.")
    if record.npca_cues is None or record.neuron_cues is None:
        return
    found, planted = (record.npca_cues.found, record.neuron_cues.found), record.npca_cues.planted
    title = f"planted cues: components find {found[0]}, neurons {found[1]} of {planted}"
    headers = ("class", "cue", "AUC comp.", "comp. find it", "AUC neurons", "neurons find it")
    sheet = Sheet(headers, {"class", "cue"}, title)
    for cells in cue_rows(record):
        sheet.row(*cells)
    sheet.print()
