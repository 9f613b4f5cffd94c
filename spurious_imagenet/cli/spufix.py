"""``spurious spufix``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, cast

import typer

from spurious_imagenet.benchmark.mitigation.spufix import TransferConfig, fit_scorer, transfer
from spurious_imagenet.benchmark.mitigation.spufix_alphas import ClassAlphas, alphas_of_store, read_alphas
from spurious_imagenet.benchmark.mitigation.spufix_file import Spufix
from spurious_imagenet.builders.visualise.npfv import check_fit
from spurious_imagenet.cli.options import ImageSize, console, progress_bar, validated
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.io import sha256_file
from spurious_imagenet.models import load_classifier

__all__ = ["command"]

_SHOWN = 10


def command(
    model: Annotated[str, typer.Option(help="Model spec whose logits are to be corrected.")],
    out: Annotated[Path, typer.Option(help="Correction to write, .safetensors; spufix:FILE loads it with its model.")],
    bank: Annotated[Path | None, typer.Option(help="Concept bank of the scoring model, with verdicts.")] = None,
    verdict: Annotated[
        Literal["spurious", "core", "unclear"], typer.Option(help="Take out the bank's concepts of this verdict.")
    ] = "spurious",
    concept: Annotated[
        list[str] | None, typer.Option(help="Take out this concept id, whatever its verdict; may be given often.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Feature store of the training images, by the scoring model.")
    ] = None,
    target_features: Annotated[
        Path | None, typer.Option(help="Feature store of the same images, by the model to correct.")
    ] = None,
    alphas: Annotated[
        Path | None, typer.Option(help="α of training images, from `spurious import sfe-alphas`; in place of a bank.")
    ] = None,
    max_unmatched: Annotated[
        float, typer.Option(help="Largest share of a class's training images in one store only.", min=0, max=1)
    ] = 0.01,
    image_size: ImageSize = None,
) -> None:
    """Make a correction that takes spurious features out of a model's logits (SpuFix, SFE section 5).

    For the scoring model itself give --bank (and --features, to count the images it changes). For any other model give
    features of both on the same training images, or published α and the model's features.
    """
    config = validated(TransferConfig, max_unmatched=max_unmatched)
    _check_sources(bank, concept, features, target_features, alphas)
    given = target_features or features
    if image_size is None and given is not None:
        image_size = FeatureStore.open(given).config.preprocess.get("size")
    classifier = load_classifier(model, image_size=image_size)
    chosen = None if bank is None else _chosen(bank, verdict, concept)
    store = None if features is None else open_store(features)
    if target_features is None:
        check_fit(classifier, cast(ConceptBank, chosen))
        spufix = fit_scorer(cast(ConceptBank, chosen), classifier, store)
    else:
        found = _found_alphas(chosen, store, alphas)
        with progress_bar("classes") as bar:
            task = bar.add_task("directions", total=None, note="")
            spufix = transfer(
                found.classes,
                open_store(target_features),
                classifier,
                config,
                scorer=found.scorer,
                scorer_sha256=found.sha256,
                progress=lambda done, n: bar.update(task, completed=done, total=n),
            )
    spufix.save(out)
    _say(spufix, out)


def _check_sources(
    bank: Path | None, concept: list[str] | None, features: Path | None, target: Path | None, alphas: Path | None
) -> None:
    if (bank is None) == (alphas is None):
        raise ConfigError("give either --bank, of the scoring model, or --alphas, published α of training images.")
    if alphas is not None and (features is not None or concept):
        raise ConfigError("--features and --concept go with --bank: --alphas says its α and concepts itself.")
    if alphas is not None and target is None:
        raise ConfigError("--alphas needs --target-features: the model's features of the same training images.")
    if bank is not None and features is None and target is not None:
        raise ConfigError("--target-features needs --features: the scoring model's features of the same images.")


class _Alphas(NamedTuple):
    classes: Iterable[ClassAlphas]
    scorer: str
    sha256: str


def _found_alphas(bank: ConceptBank | None, store: FeatureStore | None, alphas: Path | None) -> _Alphas:
    if alphas is not None:
        return _Alphas(read_alphas(alphas), str(alphas), sha256_file(alphas))
    assert bank is not None
    assert store is not None
    return _Alphas(alphas_of_store(bank, store), bank.info.model, bank.info.weights_sha256)


def _chosen(path: Path, verdict: str, concepts: list[str] | None) -> ConceptBank:
    bank = ConceptBank.load(path)
    if concepts:
        known = bank.table["concept_id"].tolist()
        unknown = next((c for c in concepts if c not in known), None)
        if unknown is not None:
            raise ConfigError(
                f"--concept {unknown!r} is not in {path}: expected an id such as {next(iter(known), '')!r}."
            )
        return bank.choose(concept_ids=concepts)
    if "verdict" not in bank.table.columns:
        raise ConfigError(f"{path} carries no verdicts: put them on with `spurious annotate`, or give --concept.")
    chosen = bank.choose(verdict=verdict)
    if not len(chosen):
        raise ConfigError(f"{path} has no concept with the verdict {verdict!r}: nothing to take out.")
    return chosen


def _say(spufix: Spufix, out: Path) -> None:
    info = spufix.info
    for one in info.dropped[:_SHOWN]:
        text = f"  dropped: {one['concept_id']}: {one['reason']}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if len(info.dropped) > _SHOWN:
        console.print(f"  … and {len(info.dropped) - _SHOWN} more dropped", highlight=False)
    if info.readout != "last layer":
        text = (
            f"  {info.model} has no single last layer: directions were sought with the weights of its {info.readout}."
        )
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    line = f"{out}: {len(spufix)} directions of {len(spufix.classes)} classes, {len(info.dropped)} dropped"
    images, changed = sum(c.images for c in info.classes), sum(c.changed for c in info.classes)
    if images:
        line += f"; changes {changed / images:.1%} of the {images} training images of these classes"
    missing = sum(c.without_alpha + c.without_features for c in info.classes)
    if missing:
        line += f", {missing} images were in one store only"
    typer.echo(line + ".")
