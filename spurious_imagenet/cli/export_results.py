"""``spurious export-results``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.cli.options import validated
from spurious_imagenet.data_cards.benchmark_file import EVAL_FILE, render_eval_file
from spurious_imagenet.data_cards.results import ResultsConfig, export_results
from spurious_imagenet.datasets.manifest import DatasetManifest
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.io import atomic_path

__all__ = ["command"]


def command(
    records: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Records of one model that `spurious evaluate` wrote, one for each protocol and mitigation."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the model's repository: its README.md keeps all but `model-index`.")
    ] = None,
    dataset_id: Annotated[
        str | None, typer.Option(help="The dataset's repository on the Hub, org/name: records know a folder only.")
    ] = None,
    repo: Annotated[str | None, typer.Option(help="The model's repository on the Hub, org/name.")] = None,
    dataset_name: Annotated[str | None, typer.Option(help="What to call the dataset in the model's card.")] = None,
    dataset_config: Annotated[str, typer.Option(help="The dataset's config.")] = "spurious",
    dataset_split: Annotated[str, typer.Option(help="The dataset's split.")] = "test",
    revision: Annotated[str | None, typer.Option(help="Commit or tag of the dataset.")] = None,
    date: Annotated[str | None, typer.Option(help="Day of the evaluation, YYYY-MM-DD.")] = None,
    source_url: Annotated[str | None, typer.Option(help="Where the predictions or a report can be seen.")] = None,
    source_name: Annotated[str | None, typer.Option(help="What to call that place.")] = None,
    benchmark: Annotated[
        Path | None,
        typer.Option(help=f"Folder that `spurious publish` wrote: write its {EVAL_FILE}, which makes it a benchmark."),
    ] = None,
) -> None:
    """Write a model's results as its card on the Hub wants them.

    Writes `.eval_results/*.yaml` and the `model-index` of README.md into OUT, and `eval.yaml` into the benchmark's
    folder if given. Nothing is uploaded.
    """
    if not records and benchmark is None:
        raise ConfigError("nothing to write: expected records of a model, or --benchmark FOLDER.")
    if records:
        if out is None or dataset_id is None:
            raise ConfigError("results need --out, the folder of the model's repository, and --dataset-id org/name.")
        settings = validated(
            ResultsConfig,
            dataset_id=dataset_id,
            repo=repo,
            dataset_name=dataset_name,
            dataset_config=dataset_config,
            dataset_split=dataset_split,
            revision=revision,
            date=date,
            source_url=source_url,
            source_name=source_name,
        )
        for path in export_results([EvalRecord.load(record) for record in records], out, settings):
            typer.echo(path)
    if benchmark is not None:
        text = render_eval_file(DatasetManifest.load(benchmark))
        with atomic_path(benchmark / EVAL_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
        typer.echo(benchmark / EVAL_FILE)
