"""``spurious trace``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from spurious_imagenet.benchmark.trace.checks import Evidence
from spurious_imagenet.benchmark.trace.find import find_image
from spurious_imagenet.benchmark.trace.record import Trace
from spurious_imagenet.benchmark.trace.trace import trace
from spurious_imagenet.cli.options import ImageSize, working
from spurious_imagenet.cli.tables import Sheet, plain, results
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError
from spurious_imagenet.io import atomic_path

__all__ = ["command"]

_COLOURS = {"verified": "green", "not checked": "yellow", "wrong": "bold red"}


def command(
    image: Annotated[str, typer.Argument(help="SHA-256 of a published image, or how it begins.")],
    dataset: Annotated[str, typer.Option(help="Dataset folder, Hub id (org/name, org/name@v1.2.0) or address.")],
    concept: Annotated[
        str | None, typer.Option(help="Which concept, where the image is published for several.")
    ] = None,
    shards: Annotated[str | None, typer.Option(help="The pool's shards: checks the bytes at the offset.")] = None,
    candidates: Annotated[Path | None, typer.Option(help="Folder of `spurious mine`: checks rank and α there.")] = None,
    bank: Annotated[
        Path | None, typer.Option(help="Concept bank: with the scoring model, α is computed again.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Model that chose the image: weights and vote are checked; may repeat.")
    ] = None,
    image_size: ImageSize = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the image here.")] = None,
    allow_pipe: Annotated[bool, typer.Option(help="Allow pipe: addresses, which run a shell command.")] = False,
) -> None:
    """Walk back from a published image to verdicts, votes, α, shard and weights, checking what can be checked."""
    found = find_image(image, dataset, concept)
    at_hand = _at_hand(shards, candidates, bank, tuple(model or ()), image_size, allow_pipe)
    with working("checking what is at hand"):
        traced = trace(found, dataset, at_hand=at_hand)
    if out is not None:
        with atomic_path(out) as temporary:
            temporary.write_bytes(found.row["image"]["bytes"])
    if json:
        typer.echo(traced.model_dump_json(indent=1))
    else:
        _print(traced)
    if traced.wrong:
        named = ", ".join(dict.fromkeys(link.link for link in traced.wrong))
        raise DataError(f"image {traced.sha256[:12]} of {dataset}: these links are wrong: {named}.")


def _at_hand(
    shards: str | None,
    candidates: Path | None,
    bank: Path | None,
    models: tuple[str, ...],
    image_size: int | None,
    allow_pipe: bool,
) -> Evidence:
    evidence = Evidence(shards=shards, allow_pipe=allow_pipe)
    if bank is not None:
        evidence = replace(evidence, bank=ConceptBank.load(bank))
    if candidates is None and not models:
        return evidence
    # These take seconds to import, and the dataset alone is traced without them.
    from spurious_imagenet.builders.mining.candidates import read_candidates
    from spurious_imagenet.builders.mining.selection_models import read_selection_models
    from spurious_imagenet.models import load_classifier
    from spurious_imagenet.models.spec import public_spec

    if candidates is not None:
        miners = tuple(m.model_copy(update={"model": public_spec(m.model)}) for m in read_selection_models(candidates))
        evidence = replace(evidence, candidates=read_candidates(candidates), miners=miners)
    loaded = {public_spec(spec): load_classifier(spec, image_size=image_size) for spec in models}
    return replace(evidence, models=loaded)


def _print(traced: Trace) -> None:
    version = f" {traced.version}" if traced.version else ""
    console = results()
    console.print(plain(f"image {traced.sha256}, of {traced.dataset}{version}"), soft_wrap=True)
    console.print(plain(f"class {traced.class_name} ({traced.class_id}), concept {traced.concept_id}"), soft_wrap=True)
    given = [f"{name.replace('_', ' ')} {value}" for name, value in traced.attribution.items() if value]
    console.print(plain(f"picture: {'; '.join(given) or 'the source does not say whose it is'}"), soft_wrap=True)
    headings = ("link", "checked", "what the dataset says")
    sheet = Sheet(headings, set(headings))
    for link in traced.links:
        state = Text("WRONG" if link.state == "wrong" else link.state, _COLOURS[link.state])
        said = plain(link.claim)
        if link.note:
            said.append("\n").append(plain(link.note).plain, "dim")
        sheet.row("α" if link.link == "alpha" else link.link, state, said)
    sheet.print()
