"""``spurious gaps``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from spurious_imagenet.benchmark.comparison.compare import compare
from spurious_imagenet.benchmark.comparison.record import ModelComparison
from spurious_imagenet.benchmark.evaluation.gaps import predictions_of_store
from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.cli.options import working
from spurious_imagenet.cli.stores import open_store
from spurious_imagenet.cli.tables import Sheet, note
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.labels import of_classes
from spurious_imagenet.models.spec import short_name

__all__ = ["command"]

_SHOWN = 20


def command(
    rankings: Annotated[Path, typer.Option(help="Folder that `spurious rank` wrote.")],
    out: Annotated[Path, typer.Option(help="Gaps and comparison to write (JSON).")],
    features: Annotated[
        list[str] | None,
        typer.Option(help="Feature store of the ranked images by one model, DIR or NAME=DIR; may be given often."),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Record that `spurious evaluate` wrote, its predictions beside it; may be given often."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the rankings.")] = "val",
    k: Annotated[int, typer.Option(help="Images of highest and of lowest spuriosity of each class.", min=1)] = 10,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of the intervals.", min=2)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resamples.", min=0)] = 0,
) -> None:
    """Measure how much worse models do where spurious cues are absent, and compare models."""
    if not features and not records:
        raise ConfigError("no model is given: expected --features, a feature store of the ranked images, or --records.")
    models: list[tuple[str, FeatureStore | EvalRecord]] = [*_stored(features or ()), *_recorded(records or ())]
    _check_names([name for name, _ in models])
    read = ((name, _read(source)) for name, source in models)
    with working("comparing models"):
        found = compare(
            read, Rankings.load(rankings, split), k=k, resamples=resamples, seed=seed, where=f"{rankings} ({split})"
        )
    found.save(out)
    _models_table(found).print()
    _classes_table(found).print()
    for line in (_LEGEND.format(k=k), *_rests_on(found, models), *_remarks(found)):
        note(line)
    typer.echo(f"written to {out}")


_LEGEND = """\
high, low: accuracy on the {k} images of highest and of lowest spuriosity of each class; gap: high - low, 0 is best."""


def _rests_on(found: ModelComparison, models: Sequence[tuple[str, FeatureStore | EvalRecord]]) -> Iterator[str]:
    """Say on how many of each model's classes its accuracies are; it may name any of them."""
    of: dict[str, list[str]] = {}
    for name, source in models:
        total = len(source.config.class_ids) if isinstance(source, FeatureStore) else source.model_classes
        if total:
            measured = sum(not c.control for c in found.class_gaps)
            of.setdefault(of_classes(measured, total), []).append(name)
    for which, names in of.items():
        yield f"accuracies of {', '.join(names)}: on images of {which}, which it may take for any of them."


def _stored(given: Sequence[str]) -> Iterator[tuple[str, FeatureStore]]:
    for one in given:
        named = re.fullmatch(r"([\w.-]+)=(.+)", one)
        store = open_store(named[2] if named else one)
        yield named[1] if named else short_name(store.config.model), store


def _recorded(given: Sequence[Path]) -> Iterator[tuple[str, EvalRecord]]:
    found = [(path, EvalRecord.load(path)) for path in given]
    times = Counter(record.name for _, record in found)
    for path, record in found:
        # One model under several protocols or mitigations is told apart by its files.
        yield record.name if times[record.name] == 1 else path.stem, record


def _check_names(names: list[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise ConfigError(
                f"{times} models are named {name!r}: give their stores as NAME=DIR, or rename the record."
            )


def _read(source: FeatureStore | EvalRecord) -> Predictions:
    return predictions_of_store(source) if isinstance(source, FeatureStore) else source.read_predictions()


def _models_table(found: ModelComparison) -> Sheet:
    robustness = {r.model: f"{r.effective_robustness:+.3f}" for r in found.effective_robustness}
    headers = ("model", "high ↑", "low ↑", "gap", "95 %", *(["robust ↑"] if robustness else []))
    sheet = Sheet(headers, {"model"}, "spurious gap, mean over classes")
    for name, record in found.gaps.items():
        accuracies = f"{record.accuracy_high:.1%}", f"{record.accuracy_low:.1%}"
        more = [robustness[name]] if robustness else []
        sheet.row(name, *accuracies, f"{record.gap:+.3f}", _shown(record.gap_interval), *more)
    return sheet


def _classes_table(found: ModelComparison) -> Sheet:
    measured = sorted((c for c in found.class_gaps if not c.control), key=lambda c: (-c.gap, c.class_id))
    title = "spurious gap of each class" + (", mean over models" if len(found.models) > 1 else "")
    if len(measured) > _SHOWN:
        title += f" (the {_SHOWN} largest of {len(measured)})"
    sheet = Sheet(("class", "gap", "95 %"), {"class"}, title)
    controls = [c for c in found.class_gaps if c.control]
    for place, c in enumerate((*measured[:_SHOWN], *controls[:_SHOWN])):
        if place == len(measured[:_SHOWN]):
            sheet.section()
        name = f"{c.class_name} (control)" if c.control else c.class_name
        sheet.row(name, f"{c.gap:+.3f}", _shown(c.interval))
    return sheet


def _remarks(found: ModelComparison) -> Iterator[str]:
    record = next(iter(found.gaps.values()))
    for class_id, images in list(record.refused.items())[:_SHOWN]:
        yield f"{class_id} has {images} ranked images: {2 * record.k} are needed, it is in no mean."
    if len(record.refused) > _SHOWN:
        yield f"… and {len(record.refused) - _SHOWN} more classes have too few ranked images."
    controls = [c for c in found.class_gaps if c.control]
    apart = [c.class_name for c in controls if not c.interval.low <= 0 <= c.interval.high]
    if controls:
        yield f"{len(controls) - len(apart)} of {len(controls)} control classes have an interval that contains 0" + (
            f"; not {', '.join(apart[:_SHOWN])}: there the ranking follows something else that makes images hard."
            if apart
            else "."
        )
    if len(found.models) > 1:
        yield from _compared(found)


def _compared(found: ModelComparison) -> Iterator[str]:
    if found.robustness_slope is not None:
        line = f"{found.robustness_slope:.2f} x high {found.robustness_intercept or 0:+.2f}"
        yield f"robust: effective robustness, how far a model is above the line low = {line}."
    if found.mean_gap_correlation is not None:
        yield f"class-wise gaps of two models correlate by {found.mean_gap_correlation:.2f} on average (Pearson)."
    if found.variance_ratio is not None:
        yield f"gaps vary {found.variance_ratio:.1f} times as much across classes as across models."
    for d in found.differences[:_SHOWN]:
        yield f"{d.measure.replace('_', ' ')} of {d.first} and {d.second}: {d.sentence}."
    if len(found.differences) > _SHOWN:
        yield f"… and {len(found.differences) - _SHOWN} more pairs."
    for what, why in found.undefined.items():
        yield f"{what}: undefined, {why}"


def _shown(found: Interval) -> str:
    return f"{found.low:+.3f} to {found.high:+.3f}"
