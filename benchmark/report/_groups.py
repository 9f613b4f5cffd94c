"""Records that may stand in one table: of the same images, prepared alike, ranked alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.errors import DataError
from spurious_imagenet.io import canonical_json


@dataclass(frozen=True, eq=False)
class MeasuredModel:
    """A record and the per-image predictions beside it.

    Attributes:
        record: What was measured.
        predictions: What the model said of every image.
        label: Its name in tables and figures; unique within a group.
    """

    record: EvalRecord
    predictions: Predictions
    label: str

    @cached_property
    def by_class(self) -> dict[str, pd.DataFrame]:
        """Class id -> the predictions of its images, of both sides."""
        return {str(key): rows for key, rows in self.predictions.table.groupby("class_id", sort=True)}

    @property
    def mitigation(self) -> str:
        """What was done to the logits, in words; empty if nothing."""
        return self.record.mitigation.words if self.record.mitigation else ""

    @property
    def network(self) -> tuple[str, str]:
        """What a mitigation leaves as it is: the weights and how their images are prepared."""
        return self.record.weights_sha256, canonical_json(self.record.validation_transform)

    @property
    def gap_key(self) -> tuple[str, str, int] | None:
        """What the record's gaps were measured on; None where it has none."""
        gaps = self.record.gaps
        return None if gaps is None else (gaps.rankings_sha256, gaps.split, gaps.k)


@dataclass(frozen=True, eq=False)
class Group:
    """Records that can be compared with each other.

    Attributes:
        members: At least one; unmitigated models by descending spurious AUC, each followed by its mitigations.
    """

    members: tuple[MeasuredModel, ...]

    @property
    def first(self) -> EvalRecord:
        """A record, for what all have in common."""
        return self.members[0].record

    @property
    def pairs(self) -> list[tuple[MeasuredModel, MeasuredModel]]:
        """(a model as it is, the same weights mitigated), for each mitigated record whose base is here."""
        bases = {m.network: m for m in self.members if m.record.mitigation is None}
        return [(bases[m.network], m) for m in self.members if m.record.mitigation and m.network in bases]

    @property
    def with_gaps(self) -> tuple[MeasuredModel, ...]:
        """The members whose spurious gaps were measured."""
        return tuple(m for m in self.members if m.record.gaps is not None)


def load_measured(paths: Iterable[str | Path]) -> list[MeasuredModel]:
    """Read records, each with the predictions that it names.

    Args:
        paths: Record files, or folders of them.

    Raises:
        DataError: A path holds no record, its predictions are missing or not the ones it was written with, or two
            records are of the same model, images, protocol and mitigation.
    """
    found: dict[tuple[str, ...], Path] = {}
    measured = []
    for path in _files(paths):
        record = EvalRecord.load(path)
        identity = _identity(record)
        if identity in found:
            raise DataError(
                f"{path} and {found[identity]} hold the same model under the same protocol and mitigation, on the same "
                "images: expected one record of each."
            )
        found[identity] = path
        measured.append(MeasuredModel(record, record.read_predictions(), record.name))
    return measured


def _files(paths: Iterable[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path} holds no record: expected files ending in .json.")
        files += [file for file in inside if file not in files]
    return files


def _identity(record: EvalRecord) -> tuple[str, ...]:
    mitigation = record.mitigation.sha256 if record.mitigation else ""
    images = (record.dataset_sha256, record.validation_sha256)
    network = (record.weights_sha256, canonical_json(record.validation_transform), record.protocol.value)
    rankings = record.gaps.model_dump_json(include={"rankings_sha256", "split", "k"}) if record.gaps else ""
    return (*network, mitigation, *images, rankings)


def group_records(measured: Sequence[MeasuredModel]) -> list[Group]:
    """Separate records that must not be compared: of other images, another protocol, other rankings.

    Records without gaps stand beside those with gaps, unless gaps of different rankings (or k) are there.

    Returns:
        Groups by descending number of records.
    """
    by_images: dict[tuple[str, ...], list[MeasuredModel]] = defaultdict(list)
    for item in measured:
        record = item.record
        by_images[record.dataset_sha256, record.validation_sha256, record.protocol.value].append(item)
    groups = []
    for key in sorted(by_images):
        items = by_images[key]
        rankings = sorted({m.gap_key for m in items if m.gap_key is not None})
        if len(rankings) <= 1:
            groups.append(_group(items))
            continue
        parts = [[m for m in items if m.gap_key == one] for one in (*rankings, None)]
        groups += [_group(part) for part in parts if part]
    return sorted(groups, key=lambda g: -len(g.members))


def _group(items: Sequence[MeasuredModel]) -> Group:
    ordered = sorted(items, key=lambda m: (-m.record.mean.spurious_auc, m.record.name, m.record.weights_sha256))
    bases = [m for m in ordered if m.record.mitigation is None]
    members: list[MeasuredModel] = []
    for base in bases:
        members += [base, *(m for m in ordered if m.record.mitigation and m.network == base.network)]
    members += [m for m in ordered if m not in members]
    return Group(tuple(_labelled(members)))


def _labelled(members: Sequence[MeasuredModel]) -> list[MeasuredModel]:
    """Give each member a name that no other has: its network's, what was done to it, and as much hash as it takes."""
    bases = {m.network: m.record.name for m in members if m.record.mitigation is None}
    names = [_name(m, bases) for m in members]
    twice = {name for name, n in Counter(names).items() if n > 1}
    labels = [f"{name} ({_mark(m)})" if name in twice else name for name, m in zip(names, members, strict=True)]
    return [
        replace(m, label=label if labels.count(label) == 1 else f"{label} #{place + 1}")
        for place, (m, label) in enumerate(zip(members, labels, strict=True))
    ]


def _name(member: MeasuredModel, bases: dict[tuple[str, str], str]) -> str:
    if member.record.mitigation is None or member.network not in bases:
        return member.record.name
    return f"{bases[member.network]} + {member.mitigation}"


def _mark(member: MeasuredModel) -> str:
    """Tell apart what has the same name: by the mitigation's file, or by the weights."""
    mitigation = member.record.mitigation
    return Path(mitigation.file).stem if mitigation else member.record.weights_sha256[:8]
