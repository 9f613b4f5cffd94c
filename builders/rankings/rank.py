"""The ranking stage: a bank and labelled features to the images of each class in the order of their spuriosity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from spurious_imagenet.builders.rankings._config import RankConfig
from spurious_imagenet.builders.rankings._write import write_rankings
from spurious_imagenet.builders.rankings.images import ClassImages, SplitImages
from spurious_imagenet.builders.rankings.judged import who_judged
from spurious_imagenet.builders.rankings.ranking import control_concepts, rank_class, ranked_splits
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.datasets.rankings import LeftOut, RankingsInfo
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.features.label_problems import LabelCount, labels_of_store
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.labels import imagenet_label_space
from spurious_imagenet.models.spec import public_spec

__all__ = ["RankResult", "rank"]

#: Called with (classes ranked, of all) for each split.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RankResult:
    """What was ranked.

    Attributes:
        path: The rankings folder.
        info: What it was made from, its counts, and what was left out.
        labels: Labels of each split's images that could not be used.
    """

    path: Path
    info: RankingsInfo
    labels: tuple[LabelCount, ...] = ()


def rank(config: RankConfig, out: str | Path, *, progress: Progress | None = None) -> RankResult:
    """Sort the images of each class by how strongly they show its spurious features, and write the order.

    Memory holds the rows of the splits and the features of a few classes at a time.

    Args:
        config: Which images, and which concepts.
        out: Folder to write, a Hugging Face dataset; appears whole, must not exist with content.
        progress: Called with (split, classes ranked, of all).

    Raises:
        ConfigError: No concept of the bank is wanted.
        StoreError: Another model, or other preprocessing, made the features; or ``out`` holds something.
        DataError: No image of a split can be ranked, more labels than allowed cannot be used, or pixels that were to be
            embedded are missing.
    """
    bank = ConceptBank.load(config.bank)
    chosen, judged = _choose(bank, config)
    stores = {split: [_store(path, bank) for path in paths] for split, paths in config.features.items()}
    labels = tuple(labels_of_store(found) for found in stores.values())
    for counted in labels:
        counted.check(config.max_label_problems, foreign=False)  # a bank names the classes that it ranks
    images = {split: SplitImages(found) for split, found in stores.items()}
    names = _class_names(bank, images.values(), next(iter(stores.values()))[0].config.label_space)
    splits = {
        split: _Split(split, found, chosen, names, config, progress or (lambda *_: None))
        for split, found in images.items()
    }

    def info() -> RankingsInfo:
        return RankingsInfo(
            model=public_spec(bank.info.model),
            weights_sha256=bank.info.weights_sha256,
            feature_config_sha256=bank.info.feature_config_sha256,
            concepts={c: tuple(of["concept_id"]) for c, of in chosen.table.groupby("class_id")},
            config=_settings(config),
            counts={f"{name}_{what}": n for name, s in splits.items() for what, n in sorted(s.counts.items())},
            judged=who_judged(bank.table) if judged else None,
            left_out=tuple(left for s in splits.values() for left in s.left_out),
        )

    return RankResult(Path(out), write_rankings(Path(out), splits, info, config, names), labels)


@dataclass
class _Split:
    """Ranks the classes of one split, and counts what it does."""

    name: str
    images: SplitImages
    bank: ConceptBank
    class_names: dict[str, str]
    config: RankConfig
    progress: Progress
    counts: Counter[str] = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Yield the rows of one class after another, by class id.

        Raises:
            DataError: No class of the split can be ranked.
        """
        groups = self.bank.table.groupby("class_id").indices
        rows_of = {str(class_id): np.asarray(rows) for class_id, rows in groups.items()}
        self.counts, self.left_out = Counter(unlabelled_images=self.images.unlabelled), []
        for class_id in sorted(set(rows_of) - set(self.images.class_ids)):
            self._leave_out(class_id, 0, "no image of the class is in the split")
        chosen = [c for c in self.images.class_ids if c in rows_of or self.config.controls]
        self.counts["classes_without_concept"] = len(self.images.class_ids) - len(chosen)
        for done, (class_id, images) in enumerate(zip(chosen, self.images.of_classes(chosen), strict=True), start=1):
            control = class_id not in rows_of
            concepts = self.bank if control else self.bank.select(rows_of[class_id])
            if (table := self._ranked(class_id, images, concepts, control=control)) is not None:
                yield table
            self.progress(self.name, done, len(chosen))
        if not self.counts["classes"]:
            raise DataError(
                f"no image of split {self.name!r} is of a class with a concept to rank by: the bank's concepts are of "
                f"{', '.join(sorted(rows_of)[:3])}, the images of {', '.join(self.images.class_ids[:3])} and so on."
            )

    def _ranked(self, class_id: str, images: ClassImages, bank: ConceptBank, *, control: bool) -> pd.DataFrame | None:
        ranked, count = rank_class(images, bank), len(images.names)
        if not ranked.varying.any():
            self._leave_out(class_id, count, f"no concept varies over its {count} images; not ranked")
            return None
        ends = self.config.ends(count)
        splits: list[str | None] = [None] * count
        if 0 < ends <= count // 2:
            splits = ranked_splits(count, ends)
        else:
            needed = f"{2 * ends} needed for ends of {ends}" if ends else f"a share of {self.config.share} is no image"
            self._leave_out(class_id, count, f"{count} images, {needed}; ranked, but in no ranked split")
        self.counts.update(
            classes=int(not control),
            controls=int(control),
            images=count,
            repeated_images=images.repeated,
            constant_concepts=0 if control else int((~ranked.varying).sum()),
        )
        shown = np.arange(len(bank))
        if control:
            shown = control_concepts(bank.table["class_id"].to_numpy(str), ranked.varying)
        ids = bank.table["concept_id"].iloc[shown].tolist()
        return ranked.table.assign(
            split=self.name,
            class_id=class_id,
            class_name=self.class_names.get(class_id, class_id),
            control=control,
            ranked_split=pd.Series(splits, dtype=object),
            concept_ids=pd.Series([ids] * count, dtype=object),
            concept_scores=pd.Series([scores[shown] for scores in ranked.table["concept_scores"]], dtype=object),
        )

    def _leave_out(self, class_id: str, images: int, reason: str) -> None:
        self.left_out.append(LeftOut(split=self.name, class_id=class_id, images=images, reason=reason))


def _choose(bank: ConceptBank, config: RankConfig) -> tuple[ConceptBank, bool]:
    """Return the concepts to rank by, and whether verdicts chose them."""
    ids = bank.table["concept_id"]
    if config.concepts:
        unknown = sorted(set(config.concepts) - set(ids))
        if unknown:
            raise ConfigError(f"bank {config.bank} has no concept {unknown[0]!r}.")
        return bank.choose(concept_ids=config.concepts), False
    if "verdict" not in bank.table:
        if config.verdict is not None:
            raise ConfigError(f"bank {config.bank} has no verdicts: put them on it with `spurious annotate` first.")
        return bank, False
    verdict = config.verdict or "spurious"
    chosen = bank.choose(verdict=verdict)
    if not len(chosen):
        raise ConfigError(f"bank {config.bank} has no concept with the verdict {verdict!r}.")
    return chosen, True


def _store(path: str, bank: ConceptBank) -> FeatureStore:
    store = FeatureStore.open(path)
    bank.check_features(store.config.weights_sha256, store.config.sha256, str(store.path))
    return store


def _class_names(bank: ConceptBank, splits: Iterable[SplitImages], space: str) -> dict[str, str]:
    """Name classes as the bank does; those that it lacks as ImageNet does, where the labels are ImageNet's."""
    rows = zip(bank.table["class_id"], bank.table["class_name"], strict=True)
    names = {str(class_id): str(name) for class_id, name in rows if name}
    lacking = {class_id for images in splits for class_id in images.class_ids} - set(names)
    if lacking and space.startswith("imagenet"):
        labels = imagenet_label_space(space)
        names |= {c: n for c, n in zip(labels.class_ids, labels.class_names, strict=True) if c in lacking}
    return names


def _settings(config: RankConfig) -> dict[str, object]:
    """Return the options that decide the ranks: where a publisher keeps the inputs is nobody's business."""
    kept = {"verdict", "concepts", "controls", "share", "name", "image_license"}
    return config.model_dump(mode="json", include=kept) | {"k": None if config.share else config.ends(0)}
