"""``spurious publish``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spurious_imagenet.builders.publish import (
    AnnotationsConfig,
    PublishConfig,
    PublishResult,
    RankingsConfig,
    check_dataset,
    diff_datasets,
    publish,
    publish_annotations,
    publish_rankings,
)
from spurious_imagenet.cli.options import ShardsNow, console, progress_bar, validated
from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.texts import read_yaml, unknown_key

if TYPE_CHECKING:
    from spurious_imagenet.hub import PushResult

__all__ = ["command"]

_SOURCES = ("--candidates", "--rankings", "--annotations", "--check", "--diff")
_MADE = frozenset(_SOURCES[:3])
#: Parameter -> its option, where they are not called alike.
_OPTION = {"licence": "--license", "as_json": "--json"}
#: Option -> the sources that it belongs to.
_BELONGS = {
    **dict.fromkeys(("--out", "--version", "--change", "--previous", "--license", "--card"), _MADE),
    "--name": frozenset({"--candidates", "--annotations"}),
    **dict.fromkeys(
        (
            *("--reviewed", "--unreviewed", "--concept", "--min-images", "--per-concept", "--retire", "--boards"),
            *("--verdicts", "--bank", "--shards", "--allow-pipe"),
        ),
        frozenset({"--candidates"}),
    ),
    "--push": _MADE | {"--check"},
    "--json": frozenset({"--diff"}),
}


def command(
    ctx: typer.Context,
    candidates: Annotated[Path | None, typer.Option(help="Publish spurious images: folder of `spurious mine`.")] = None,
    rankings: Annotated[Path | None, typer.Option(help="Publish rankings: folder of `spurious rank`.")] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Publish verdicts on concepts: file of `spurious review collect`.")
    ] = None,
    check: Annotated[Path | None, typer.Option(help="Only check a published folder.")] = None,
    diff: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Only say what changed from one published folder to another.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Dataset folder to write.")] = None,
    version: Annotated[str | None, typer.Option(help="Of the dataset, such as 1.2.0; 1.0.0 if not given.")] = None,
    change: Annotated[str | None, typer.Option(help="What this version changes, for the changelog.")] = None,
    previous: Annotated[Path | None, typer.Option(help="Published folder of the version before this one.")] = None,
    retire: Annotated[
        Path | None, typer.Option(help="CSV of images to take back: class_id, sha256, reason; needs --previous.")
    ] = None,
    reviewed: Annotated[
        Path | None, typer.Option(help="What `spurious review collect` wrote: only accepted images are published.")
    ] = None,
    unreviewed: Annotated[
        bool, typer.Option(help="Publish images that nobody has looked at; the card says so.")
    ] = False,
    boards: Annotated[Path | None, typer.Option(help="Boards of the concepts: folder of `spurious boards`.")] = None,
    verdicts: Annotated[Path | None, typer.Option(help="Verdicts on the concepts, with votes and names.")] = None,
    bank: Annotated[Path | None, typer.Option(help="Concept bank: eigenvalues, names, verdicts.")] = None,
    concept: Annotated[list[str] | None, typer.Option(help="Publish this concept id only; may be given often.")] = None,
    min_images: Annotated[int | None, typer.Option(help="Leave out concepts with fewer kept images.", min=1)] = None,
    per_concept: Annotated[int | None, typer.Option(help="At most so many images per concept.", min=1)] = None,
    name: Annotated[str | None, typer.Option(help="Title of the dataset.")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="The Hub's id of the whole dataset's licence, such as cc-by-4.0.")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            help="YAML of what only you can say: license, authors, citation, contact, published, gated_prompt."
        ),
    ] = None,
    push: Annotated[str | None, typer.Option(help="Upload to this dataset repository, organisation/name.")] = None,
    pull_request: Annotated[bool, typer.Option("--pull-request", help="Upload as a pull request.")] = False,
    private: Annotated[bool, typer.Option(help="A repository that is made is private, or public.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="With --diff: write JSON.")] = False,
    shards: ShardsNow = None,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
) -> None:
    """Write, check, compare and upload a Hugging Face dataset: spurious images, rankings, or verdicts on concepts.

    What is written appears whole, and only if nothing is wrong with it.
    """
    given = {
        _OPTION.get(name, f"--{name.replace('_', '-')}"): str(value) if isinstance(value, Path) else value
        for name, value in ctx.params.items()
    }
    source = _source({option: value for option, value in given.items() if value})
    if diff is not None:
        _diff(*diff, as_json)
        return
    folder = Path(given["--check"] or given["--out"])
    if source == "--check":
        _check(folder)
    else:
        _write(source, given, folder)
    if push is not None:
        _push(folder, push, pull_request, private)


def _diff(old: Path, new: Path, as_json: bool) -> None:
    found = diff_datasets(old, new)
    typer.echo(found.to_json().rstrip() if as_json else found.text())


def _source(given: dict[str, Any]) -> str:
    """Return the one source, or refuse options that do not go together."""
    sources = [option for option in _SOURCES if option in given]
    if len(sources) != 1:
        got = " and ".join(sources) or "none"
        raise ConfigError(f"got {got} of {', '.join(_SOURCES)}: expected one of them.")
    source = sources[0]
    for option in given:
        belongs = _BELONGS.get(option)
        if belongs is not None and source not in belongs:
            raise ConfigError(f"{option} does not go with {source}: expected {' or '.join(sorted(belongs))}.")
    if source in _MADE and "--out" not in given:
        raise ConfigError(f"{source} without --out: expected the dataset folder to write.")
    if "--pull-request" in given and "--push" not in given:
        raise ConfigError("--pull-request without --push: expected the repository to upload to.")
    return source


def _write(source: str, given: dict[str, Any], out: Path) -> None:
    kept = {
        "version": given["--version"],
        "change": given["--change"],
        "previous": given["--previous"],
        "name": given["--name"] if source != "--rankings" else None,
        "card": _card(given["--card"], given["--license"], given["--push"]),
    }
    common = {key: value for key, value in kept.items() if value is not None}
    if source == "--candidates":
        _write_images(given, out, common)
    elif source == "--rankings":
        made = publish_rankings(validated(RankingsConfig, rankings=given[source], **common), out)
        splits = ", ".join(f"{f.rows} images of {f.split}" for f in made.files if f.config == "rankings")
        typer.echo(f"{out}: rankings {made.version}, {splits}.")
    else:
        config = validated(AnnotationsConfig, annotations=given[source], **common)
        made = publish_annotations(config, out)
        typer.echo(
            f"{out}: annotations {made.version}, {made.counts['concepts']} concepts, {made.counts['votes']} votes of "
            f"{made.counts['labelers']} labelers; {made.facts['agreement']}."
        )


def _write_images(given: dict[str, Any], out: Path, common: dict[str, Any]) -> None:
    files = ("candidates", "reviewed", "retire", "boards", "verdicts", "bank")
    config = validated(
        PublishConfig,
        **{file: given[f"--{file}"] for file in files},
        unreviewed=given["--unreviewed"],
        concepts=tuple(given["--concept"] or ()),
        min_images=given["--min-images"] or 1,
        per_concept=given["--per-concept"],
        shards=tuple(given["--shards"] or ()),
        allow_pipe=given["--allow-pipe"],
        **common,
    )
    with progress_bar("images") as bar:
        task = bar.add_task("writing", total=None, note="")
        result = publish(config, out, progress=lambda done, n: bar.update(task, completed=done, total=n))
    _say(result, config.min_images)


def _say(result: PublishResult, min_images: int) -> None:
    for concept_left in result.left_out.itertuples():
        console.print(
            f"  left out: {concept_left.concept_id}, {concept_left.images} of {min_images} images",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    review, made = result.review, result.manifest
    judged = (
        "not reviewed by anyone"
        if review is None
        else f"{review.accepted} of {review.judged} judged candidates accepted, {review.agreement}"
    )
    retired = f", {len(made.retired)} retired so far" if made.retired else ""
    typer.echo(
        f"{result.path}: version {made.version}, {result.images} images of {len(result.concepts)} concepts{retired}, "
        f"{judged}; {len(result.left_out)} concepts left out, {result.repeated} repeated images dropped."
    )


def _card(file: str | None, licence: str | None, push: str | None) -> CardOptions:
    content: Any = {}
    if file is not None:
        content = read_yaml(file, "card")
        if not isinstance(content, dict):
            raise DataError(f"card {file} holds no mapping: expected lines such as `license: cc-by-4.0`.")
        if unknown := [key for key in content if key not in CardOptions.model_fields]:
            raise DataError(f"card {file}: {unknown_key(unknown[0], CardOptions.model_fields)}")
    given = {"license": licence, "repo_id": push}
    return validated(CardOptions, **content | {key: value for key, value in given.items() if value is not None})


def _check(folder: Path) -> None:
    problems = check_dataset(folder)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise DataError(f"{folder} has {len(problems)} problems.")
    typer.echo(f"{folder}: nothing wrong.")


def _push(folder: Path, repo_id: str, pull_request: bool, private: bool) -> None:
    from spurious_imagenet.datasets.manifest import DatasetManifest
    from spurious_imagenet.hub import HubError, push_dataset

    made = DatasetManifest.load(folder)
    message = f"Version {made.version}" + (f": {made.changes[0].text}" if made.changes else "")
    try:
        result = push_dataset(
            folder,
            repo_id,
            version=made.version,
            message=message[:200],
            pull_request=pull_request,
            private=private,
            progress=sys.stderr.isatty(),
        )
    except HubError as error:
        again = f"spurious publish --check {folder} --push {repo_id}{' --pull-request' if pull_request else ''}"
        raise HubError(f"{error} The dataset is whole in {folder}; to push it: {again}") from None
    typer.echo(f"{result.url}: {len(result.written)} files written, {len(result.deleted)} deleted{_named(result)}.")


def _named(pushed: PushResult) -> str:
    if pushed.pull_request is None:
        return f", tag {pushed.tag}" if pushed.tag else "; main holds it already"
    return "; once it is merged, the same push without --pull-request sets the version's tag"
