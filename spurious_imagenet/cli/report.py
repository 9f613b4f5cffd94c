"""``spurious report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.benchmark.report import write_report
from spurious_imagenet.cli.options import console

__all__ = ["command"]


def command(
    records: Annotated[list[Path], typer.Argument(help="Records that `spurious evaluate` wrote, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("report.html"),
    figures: Annotated[Path | None, typer.Option(help="New folder for the figures, each as PNG, SVG and PDF.")] = None,
    tables: Annotated[
        Path | None, typer.Option(help="New folder for the tables, each as CSV, Markdown and LaTeX.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Dataset of the records, to show its most and least misleading images.")
    ] = None,
    val: Annotated[
        str | None, typer.Option(help="Validation shards or folder, to show the class images that models miss.")
    ] = None,
    rankings: Annotated[
        Path | None,
        typer.Option(help="What `spurious rank` wrote: of the missed images, show those of lowest spuriosity."),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Spurious features: report",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of paired differences.", min=100)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.", min=0)] = 0,
) -> None:
    """Write records as one page with figures and tables.

    The page opens from disk, needs no network, and compares only records of the same images and protocol.
    """
    with console.status("reading records") as status:
        report = write_report(
            records,
            out,
            figures=figures,
            tables=tables,
            images=images,
            val=val,
            rankings=rankings,
            title=title,
            resamples=resamples,
            seed=seed,
            progress=status.update,
        )
    if report.without_picture:
        console.print(f"  {report.without_picture} chosen images were not found or cannot be shown", highlight=False)
    groups = f" in {report.groups} groups that are not compared" if report.groups > 1 else ""
    files = "".join(
        f"; {n} files in {folder}" for n, folder in ((report.figures, figures), (report.tables, tables)) if folder
    )
    typer.echo(f"{report.path}: {report.records} records{groups}, {report.size / 1e6:.1f} MB{files}.")
