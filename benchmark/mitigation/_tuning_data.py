"""Which images a head is tuned on, and the halves of those that stop the tuning and that it is reported on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.metrics.gaps import top_and_bottom_k
from spurious_imagenet.benchmark.mitigation.tuning_record import Method
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import DataError, UndefinedMetricError
from spurious_imagenet.features.labelled import Indices, LabelledFeatures
from spurious_imagenet.features.store import FeaturePart, FeatureStore

#: Half of the validation images that an image is in.
Half = NDArray[np.int8]
LEFT_OUT = -1
HALVES = (0, 1)

_K, _SMALLEST_K = 10, 5
_REPLAY = 1 << 20  # keeps the draws of replayed classes apart from those of tuned ones


class _Labelled:
    """The images of a store that have a label, ordered by class and hash: nothing depends on where they lie."""

    def __init__(self, store: FeatureStore) -> None:
        parts = store.parts
        rows = pd.concat([_rows(part) for part in parts], ignore_index=True) if parts else _EMPTY.copy()
        self.where = str(store.path)
        self._stored = LabelledFeatures(store, class_ids=store.config.class_ids, label=rows["label"].to_numpy())
        rows["image"] = np.arange(len(rows), dtype=np.int64)
        rows = rows[rows["label"] >= 0]
        if rows.empty:
            raise DataError(f"{store.path} has no labelled image: expected images with the classes of the model.")
        self.table = rows.sort_values(["label", "sha256", "image"], ignore_index=True)

    def ranked(self, rankings: Rankings, class_ids: tuple[str, ...], where: str) -> pd.DataFrame:
        """Find the ranked images of classes with a spurious concept, by class and hash.

        Returns:
            Columns label, class_name, sha256, rank, percentile, row (in ``table``), by label and rank.

        Raises:
            DataError: A ranked image is not in the store, or no class has a spurious concept.
        """
        table = rankings.table[~rankings.table["control"].astype(bool)]
        table = table[["class_id", "class_name", "sha256", "rank", "percentile"]]
        label_of = {class_id: label for label, class_id in enumerate(class_ids)}
        unknown = sorted(set(table["class_id"]) - set(label_of))
        if unknown or table.empty:
            raise DataError(
                f"{where} ranks class {unknown[0]!r}, which is not one of the model's {len(class_ids)} classes."
                if unknown
                else f"{where} ranks no class that has a spurious concept: expected one at least."
            )
        first = self.table.drop_duplicates(["label", "sha256"])
        keys = first[["label", "sha256"]].assign(row=first.index)
        found = table.assign(label=table["class_id"].map(label_of)).merge(keys, how="left", on=["label", "sha256"])
        missing = found["row"].isna()
        if missing.any():
            class_id = found["class_id"].iloc[int(missing.argmax())]
            raise DataError(
                f"{int(missing.sum())} of {len(found)} images ranked in {where} are not in {self.where}, the first of "
                f"class {class_id}: expected features of the images that were ranked."
            )
        found = found.astype({"row": np.int64}).drop(columns="class_id")
        return found.sort_values(["label", "rank", "sha256"], ignore_index=True)

    def features_of(self, rows: Indices) -> NDArray[np.float16]:
        """Read the (n, D) features of rows of ``table``, in the order given."""
        return self._stored.features_in_order(self.table["image"].to_numpy()[rows])


class TrainingImages(_Labelled):
    """The images that a head may be tuned on.

    Args:
        store: Features of the training images, with the model's predictions.
        rankings: The training images, ranked.
        where: Where the rankings are, for errors.
        exclude: Hashes of images that must not be tuned on: those it is measured on.
    """

    def __init__(self, store: FeatureStore, rankings: Rankings, where: str, exclude: Iterable[str] = ()) -> None:
        super().__init__(store)
        banned = self.table["sha256"].isin(set(exclude))
        self.excluded = int(banned.sum())
        ranked = self.ranked(rankings, store.config.class_ids, where)
        self._low_first: dict[int, Indices] = {
            int(str(label)): group["row"].to_numpy()[~banned.to_numpy()[group["row"]]]
            for label, group in ranked.groupby("label", sort=True)
        }
        if not any(len(rows) for rows in self._low_first.values()):
            raise DataError(
                f"{store.path} leaves no ranked image to tune on, as {self.excluded} of its images are measured on: "
                "expected training and validation images apart."
            )
        self._label = self.table["label"].to_numpy(np.int64)
        self._wrong = self._label != self.table["assigned"].to_numpy(np.int64)
        kept = np.flatnonzero(~banned.to_numpy())
        self.others = {
            int(k): kept[self._label[kept] == k] for k in np.unique(self._label[kept]) if int(k) not in self._low_first
        }

    @property
    def classes(self) -> dict[int, int]:
        """Class index -> its ranked images, of the classes that have a spurious concept."""
        return {label: len(rows) for label, rows in self._low_first.items()}

    def choose(self, method: Method, per_class: int, replay: int, seed: int) -> tuple[Indices, NDArray[np.int64]]:
        """Choose the images to tune on.

        Args:
            method: ``low``: those of lowest spuriosity; ``random``: any ranked ones; ``errors``: those that the model
                got wrong, any of them where there are more, filled up with any others where there are fewer.
            per_class: Images of each class with a spurious concept; all where it has fewer.
            replay: Images of each other class, drawn alike for every method.
            seed: Of what is drawn.

        Returns:
            (n,) rows of ``table``, ordered by class and hash, and their (n,) labels.
        """
        chosen = [self._of_class(method, k, rows, per_class, seed) for k, rows in self._low_first.items()]
        chosen += [_draw(rows, replay, (seed, _REPLAY + k)) for k, rows in self.others.items()]
        rows = np.sort(np.concatenate(chosen))
        return rows, self._label[rows]

    def _of_class(self, method: Method, label: int, rows: Indices, count: int, seed: int) -> Indices:
        if method == "low":
            return rows[:count]
        by_hash = np.sort(rows)
        if method == "random":
            return _draw(by_hash, count, (seed, label))
        wrong = by_hash[self._wrong[by_hash]]
        errors = _draw(wrong, count, (seed, label, 1))
        return np.concatenate([errors, _draw(np.setdiff1d(by_hash, wrong), count - len(errors), (seed, label, 2))])


class ValidationImages(_Labelled):
    """The images that stop a tuning, and those that it is reported on.

    Args:
        store: Features of the validation images.
        rankings: The validation images, ranked.
        where: Where the rankings are, for errors.
        tuned: Class indices that are tuned on; the ranks of others do not count.

    Raises:
        DataError: A ranked image is not in the store, or no class is ranked and tuned on.
    """

    def __init__(self, store: FeatureStore, rankings: Rankings, where: str, tuned: Iterable[int]) -> None:
        super().__init__(store)
        ranks = self.ranked(rankings, store.config.class_ids, where)
        self.ranks = ranks[ranks["label"].isin(list(tuned))]
        if self.ranks.empty:
            raise DataError(f"{where} ranks no class in both training and validation images: expected one.")
        self.label = self.table["label"].to_numpy(np.int64)
        self.half = split_halves(self.label, self.table["sha256"].to_numpy(str))

    def rows_of(self, half: int | None) -> Indices:
        """Return the rows of ``table`` that are in one half, or all of them."""
        return np.flatnonzero(self.half == half) if half is not None else np.arange(len(self.label))

    def ranks_of(self, half: int | None) -> pd.DataFrame:
        """Return the ranked images that are in one half, or all of them."""
        return self.ranks if half is None else self.ranks[self.half[self.ranks["row"].to_numpy()] == half]


@dataclass(frozen=True, eq=False)
class ClassEnds:
    """The images of one class between which its gap is measured.

    Attributes:
        label: The class.
        high: (k,) rows of the validation table of highest spuriosity.
        low: (k,) rows of lowest.
    """

    label: int
    high: Indices
    low: Indices


Ends = tuple[ClassEnds, ...]


def split_halves(label: NDArray[np.int64], sha256: NDArray[np.str_]) -> Half:
    """Split the images of each class into two halves, the same wherever they lie.

    The distinct hashes of a class are put in order; the first half of them is one, and the rest, one more where their
    number is odd, the other. A hash says nothing of an image, so each half is a random one. An image
    that lies in two classes is left out, so no image can be in both halves.

    Args:
        label: (N,) classes.
        sha256: (N,) hexadecimal hashes of the images.

    Returns:
        (N,) int8: 0 first, 1 second, -1 left out.
    """
    table = pd.DataFrame({"label": label, "sha256": sha256})
    shared = table.groupby("sha256")["label"].transform("nunique") > 1
    place = table.groupby("label")["sha256"].rank(method="dense")
    distinct = table.groupby("label")["sha256"].transform("nunique")
    half = np.where(place <= distinct // 2, *HALVES)
    return np.where(shared, LEFT_OUT, half).astype(np.int8)


def resolve_k(images: ValidationImages, k: int | None) -> int:
    """Choose how many images on either side of a class's gap: as given, or 10, or 5 to 9 where a class has few."""
    if k is not None:
        return k
    sizes = [images.ranks_of(half).groupby("label").size().min() for half in HALVES]
    return int(np.clip(np.nan_to_num(np.min(sizes)) // 2, _SMALLEST_K, _K))


def class_ends(images: ValidationImages, halves: Sequence[int | None], k: int) -> tuple[list[Ends], dict[str, int]]:
    """Find the k images of highest and of lowest spuriosity of each class within each half.

    Returns:
        For each half its classes in order, the same ones; and name -> ranked images of the classes that are refused,
        because they have fewer than 2k in a half.

    Raises:
        UndefinedMetricError: No class has as many.
    """
    counts = pd.concat([images.ranks_of(half).groupby("label").size() for half in halves], axis=1)
    fewest = counts.reindex(images.ranks["label"].unique()).fillna(0).min(axis=1).astype(int)
    names = images.ranks.groupby("label")["class_name"].first().to_dict()
    too_few = {label: int(count) for label, count in fewest.items() if count < 2 * k}
    shared = {name for name, n in Counter(names[label] for label in too_few).items() if n > 1}
    refused = {
        f"{names[label]} (class {label})" if names[label] in shared else str(names[label]): count
        for label, count in too_few.items()
    }
    if len(too_few) == len(fewest):
        shown = ", ".join(f"{name}: {count}" for name, count in list(refused.items())[:3])
        raise UndefinedMetricError(
            f"no class has {2 * k} ranked images in each half of {images.where}, as a gap with k {k} needs ({shown}): "
            "expected a smaller k or more validation images."
        )
    enough = fewest[fewest >= 2 * k].index
    return [tuple(_ends(images, half, int(label), k) for label in enough) for half in halves], refused


def _ends(images: ValidationImages, half: int | None, label: int, k: int) -> ClassEnds:
    ranks = images.ranks_of(half)
    ranks = ranks[ranks["label"] == label]
    rows = ranks["row"].to_numpy()
    high, low = top_and_bottom_k(ranks["rank"].to_numpy(), ranks["sha256"].to_numpy(str), k)
    return ClassEnds(label, rows[high], rows[low])


_EMPTY = pd.DataFrame({"label": np.empty(0, np.int64), "sha256": np.empty(0, str), "assigned": np.empty(0, np.int64)})


def _rows(part: FeaturePart) -> pd.DataFrame:
    rows = part.rows(["label", "sha256", "top5_index"])
    top5 = rows.column("top5_index").combine_chunks()
    assigned = [None if best is None else best[0] for best in top5.to_pylist()]
    return pd.DataFrame(
        {
            "label": rows.column("label").fill_null(-1).to_numpy(),
            "sha256": [None if h is None else h.hex() for h in rows.column("sha256").to_pylist()],
            "assigned": pd.Series(assigned, dtype="float64").fillna(-1).astype(np.int64),
        }
    )


def _draw(rows: Indices, count: int, seed: tuple[int, ...]) -> Indices:
    rng = np.random.default_rng(list(seed))
    return rows if len(rows) <= count else np.sort(rng.choice(rows, count, replace=False))
