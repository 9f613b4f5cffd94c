"""``spurious submit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from spurious_imagenet.benchmark.evaluation.evaluate import evaluate
from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.cli.groups import plain_typer
from spurious_imagenet.cli.options import Backend, Device, Workers, console, image_counter
from spurious_imagenet.datasets.manifest import manifest_of
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.images import Protocol
from spurious_imagenet.leaderboard.submission.check import check_submission
from spurious_imagenet.leaderboard.submission.make import submission_of
from spurious_imagenet.leaderboard.submission.write import write_submission
from spurious_imagenet.models.spec import short_name

__all__ = ["app"]

app = plain_typer()


@app.callback()
def group() -> None:
    """Make and check a submission to the leaderboard."""


@app.command()
def make(
    out: Annotated[Path, typer.Option(help="Submission to write: a .zip, or else a directory.")],
    authors: Annotated[list[str], typer.Option(help="Who submits; may be given often.")],
    training_data: Annotated[str, typer.Option(help="What the model was trained on, such as ImageNet-1k.")],
    licence: Annotated[str, typer.Option(help="Licence of the weights.")],
    model: Annotated[str | None, typer.Option(help="Model spec to run, such as timm:resnet50.a1_in1k.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Published dataset: folder or Hub id; a record knows its own.")
    ] = None,
    val: Annotated[str | None, typer.Option(help="Validation images: shards, or a folder per class.")] = None,
    protocol: Annotated[Protocol | None, typer.Option(help="paper, or standard: the model's own transform.")] = None,
    spufix: Annotated[Path | None, typer.Option(help="File of `spurious spufix` or `spurious tune` to apply.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="Record of `spurious evaluate`, its predictions beside it; runs nothing.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Dataset's version, where the dataset does not say it.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the model; made of its spec if not given.")] = None,
    link: Annotated[str | None, typer.Option(help="Where to read more, https://….")] = None,
    architecture: Annotated[str | None, typer.Option(help="timm's name of it, where the spec does not tell.")] = None,
    notes: Annotated[str | None, typer.Option(help="What else readers should know.")] = None,
    outputs: Annotated[
        Path | None, typer.Option(help="Folder that keeps logits, to go on after a stop; OUT.outputs if not given.")
    ] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    workers: Workers = None,
) -> None:
    """Write a submission of one run of a model, or of a record that a run left."""
    if (model is None) == (record is None):
        raise ConfigError("--model SPEC or --record FILE: expected exactly one of them.")
    if record is not None:
        if any(option is not None for option in (val, protocol, spufix)):
            raise ConfigError("--val, --protocol and --spufix go with --model: a record has been made already.")
        found = EvalRecord.load(record)
    else:
        found = _run(str(model), dataset, val, protocol, spufix, outputs or _beside(out), (device, backend, workers))
    dataset_version = _dataset_version(dataset or found.dataset, version, found)
    made = submission_of(
        found,
        authors=authors,
        training_data=training_data,
        licence=licence,
        dataset_version=dataset_version,
        model=name,
        link=link,
        architecture=architecture,
        notes=notes,
    )
    write_submission(made, out)
    if made.info.spec is None:
        _say(f"note: {found.model} is not a public spec and is left out; no one else can run the entry again.", console)
    _say(f"{out}: {made.info.model}, protocol {made.info.protocol.value}, {len(made.table)} rows.")


def _run(
    model: str,
    dataset: str | None,
    val: str | None,
    protocol: Protocol | None,
    spufix: Path | None,
    outputs: Path,
    how: tuple[str, str, int | None],
) -> EvalRecord:
    if dataset is None or val is None or protocol is None:
        raise ConfigError("--model needs --dataset, --val and --protocol (paper or standard).")
    device, backend, workers = how
    with image_counter(short_name(model)) as count:
        measured = evaluate(
            model,
            dataset,
            val,
            protocol=protocol,
            outputs=outputs,
            mitigations=[] if spufix is None else [spufix],
            device=device,
            backend=backend,
            workers=workers,
            progress=count,
        )
    return measured if spufix is None else measured.mitigated[0]


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.name.removesuffix('.zip')}.outputs")


def _dataset_version(dataset: str, version: str | None, record: EvalRecord) -> str:
    """Take the version from the dataset, or as given; they must not contradict each other."""
    manifest = None if version is not None and not Path(dataset).is_dir() else manifest_of(dataset)
    if manifest is None:
        if version is None:
            raise ConfigError(f"{dataset} does not say its version: expected --version, such as 1.0.0.")
        return version
    if version not in (None, manifest.version):
        raise ConfigError(f"--version {version} contradicts {dataset}, which has version {manifest.version}.")
    if manifest.dataset_sha256 != record.dataset_sha256:
        raise ConfigError(
            f"{dataset}, version {manifest.version}, is not what {record.name} was measured on: its images have hash "
            f"{str(manifest.dataset_sha256)[:12]}, those of the record {record.dataset_sha256[:12]}."
        )
    return manifest.version


@app.command()
def check(
    submission: Annotated[Path, typer.Argument(help="Submission: a directory or a zip.")],
    board: Annotated[str, typer.Option(help="Leaderboard: folder or address.")],
    version: Annotated[str, typer.Option(help="Version of the benchmark.")] = "latest",
) -> None:
    """Say everything that would make a leaderboard refuse a submission."""
    from spurious_imagenet.leaderboard.store.store import Store

    against = Store(board).version(version)
    found = check_submission(submission, against)
    for problem in found.problems:
        _say(str(problem))
    for warning in found.warnings:
        _say(f"note: {warning}")
    if found.submission is None:
        number = len(found.problems)
        _say(f"{submission}: {number} problem{'s' if number != 1 else ''}; it would be refused.", console)
        raise typer.Exit(1)
    info, rows = found.submission.info, len(found.submission.table)
    named = f"{info.model} by {', '.join(info.authors)}, protocol {info.protocol.value}"
    _say(f"{submission}: {named}, {rows} rows for {against.info.name} version {against.info.version}: fine.")


def _say(text: str, where: Console | None = None) -> None:
    (where or Console()).print(text, highlight=False, markup=False, soft_wrap=True)
