from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from feature_store_helpers import add_part, bank_for, empty_store
from reference.topn import exact_scores, top_of_images

from spurious_imagenet.builders.mining import scoring
from spurious_imagenet.builders.mining.scoring import TopCandidates, top_of_assigned
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError, DataError, StoreError
from spurious_imagenet.features.store import FeaturePart, FeatureStore

DIM, CLASSES = 40, 3


class Pool:
    """Images whose keys sort like their ids, in parts whose names sort like their order."""

    def __init__(self, path: Path, features: np.ndarray, cuts: tuple[int, ...] = (300, 300, 317)) -> None:
        self.features = features.astype(np.float16)
        self.keys = [f"{i:06d}" for i in range(len(features))]
        self.assigned = np.random.default_rng(4).integers(0, CLASSES, len(features))
        self.store = empty_store(path, features.shape[1])
        bounds = [0, *cuts, len(features)]
        for i in reversed(range(len(bounds) - 1)):
            rows = slice(bounds[i], bounds[i + 1])
            add_part(self.store, f"{i}.tar", self.keys[rows], self.features[rows], assigned=self.assigned[rows])

    def expected(self, bank: ConceptBank, n: int) -> tuple[list[list[float]], list[list[str]]]:
        scores = exact_scores(self.features, bank.directions, bank.offsets)
        counts = self.assigned[:, None] == bank.table["class_index"].to_numpy()
        return top_of_images(self.keys, scores, counts, n)


def found(store: FeatureStore, top: TopCandidates) -> tuple[list[list[float]], list[list[str]]]:
    """Scores and keys by concept, without padding."""
    keys = {part.path.name: part.rows()["key"].to_pylist() for part in store.parts}
    assert list(top.parts) == sorted(keys)
    best, names = [], []
    for scores, part, row in zip(top.scores, top.part, top.row, strict=True):
        real = part >= 0
        assert (np.isneginf(scores) == ~real).all()
        assert (row[~real] == -1).all()
        best.append(scores[real].tolist())
        names.append([keys[top.parts[p]][r] for p, r in zip(part[real], row[real], strict=True)])
    return best, names


def a_bank(store: FeatureStore, concepts: int = 7, seed: int = 0) -> ConceptBank:
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((concepts, store.config.feature_dim))
    return bank_for(store, directions, rng.standard_normal(concepts), rng.integers(0, CLASSES, concepts))


def features(count: int, dim: int = DIM, seed: int = 1) -> np.ndarray:
    return np.maximum(np.random.default_rng(seed).standard_normal((count, dim)), 0)


@pytest.mark.parametrize("n", [1, 20, 1000])
def test_equals_scoring_and_sorting_everything(tmp_path: Path, n: int) -> None:
    pool = Pool(tmp_path / "s", features(900))
    bank = a_bank(pool.store)
    assert found(pool.store, top_of_assigned(bank, pool.store, n)) == pool.expected(bank, n)


def test_neither_blocks_nor_threads_nor_the_order_of_parts_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(tmp_path / "s", features(700))
    bank = a_bank(pool.store)
    expected = top_of_assigned(bank, pool.store, 30)
    threads = torch.get_num_threads()

    class Reversed(FeatureStore):
        @property
        def parts(self) -> tuple[FeaturePart, ...]:
            return super().parts[::-1]

    try:
        for rows, count in ((1, 1), (7, 2), (256, 1), (100_000, 2)):
            monkeypatch.setattr(scoring, "_BLOCK_ROWS", rows)
            torch.set_num_threads(count)
            top = top_of_assigned(bank, Reversed(pool.store.path, pool.store.config), 30)
            assert top.parts == expected.parts
            for name in ("scores", "part", "row"):
                np.testing.assert_array_equal(getattr(top, name), getattr(expected, name))
    finally:
        torch.set_num_threads(threads)


def test_other_parts_of_the_same_images_give_the_same_images(tmp_path: Path) -> None:
    images = features(800)
    pools = [Pool(tmp_path / "one", images, cuts=()), Pool(tmp_path / "many", images, cuts=tuple(range(9, 800, 9)))]
    results = [found(pool.store, top_of_assigned(a_bank(pool.store), pool.store, 25)) for pool in pools]
    assert results[0] == results[1]


def test_equal_images_rank_by_id_however_many_there_are(tmp_path: Path) -> None:
    images = features(900)
    images[np.random.default_rng(2).permutation(900)[:500]] = 3 * features(1, seed=9)
    pool = Pool(tmp_path / "s", images)
    bank = a_bank(pool.store, concepts=12)
    bank = ConceptBank(
        np.vstack([bank.directions[:-1], np.zeros((1, DIM), np.float32)]), bank.offsets, bank.table, bank.info
    )
    assert found(pool.store, top_of_assigned(bank, pool.store, 15)) == pool.expected(bank, 15)


def test_order_is_exact_where_float32_products_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large = 1000 * rng.random((600, 256))  # met by a direction and its opposite, so that only rounding remains of it
    pool = Pool(tmp_path / "s", np.hstack([large, large, rng.random((600, 1)) / 512]), cuts=(250,))
    one_way = rng.standard_normal((4, 256))
    bank = bank_for(pool.store, np.hstack([one_way, -one_way, np.ones((4, 1))]), classes=[0, 1, 2, 0])
    scores, names = pool.expected(bank, 5)
    shortlist = np.argsort(-bank.score(pool.features), axis=0, kind="stable")[:40]
    assert any(int(key) not in shortlist[:, m] for m, keys in enumerate(names) for key in keys)
    assert found(pool.store, top_of_assigned(bank, pool.store, 5)) == (scores, names)


def test_an_image_counts_only_for_concepts_of_its_assigned_class(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "s", features(400))
    pool_bank = a_bank(pool.store)
    bank = bank_for(pool.store, pool_bank.directions[:3], classes=[2, 0, 2])
    top = top_of_assigned(bank, pool.store, 300)
    for m, k in enumerate([2, 0, 2]):
        assert sorted(found(pool.store, top)[1][m]) == [pool.keys[i] for i in np.flatnonzero(pool.assigned == k)]


def test_progress_ends_at_all_images(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "s", features(400))
    calls: list[tuple[int, int]] = []
    top_of_assigned(a_bank(pool.store), pool.store, 3, progress=lambda *call: calls.append(call))
    assert calls == [(300, 400), (317, 400), (400, 400)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    images = features(400)
    images[305, 3] = value
    pool = Pool(tmp_path / "s", images)
    name = sorted(part.path.name for part in pool.store.parts)[2]  # the second part is empty
    with pytest.raises(DataError, match=f"row 5 of part {name}"):
        top_of_assigned(a_bank(pool.store), pool.store, 3)


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    pool, other = Pool(tmp_path / "s", features(400)), Pool(tmp_path / "t", features(400, dim=9))
    bank = a_bank(pool.store)
    with pytest.raises(StoreError, match="other preprocessing"):
        top_of_assigned(bank, other.store, 3)
    with pytest.raises(ConfigError, match="n of at least 1"):
        top_of_assigned(bank, pool.store, 0)
    with pytest.raises(StoreError, match="holds 0 images"):
        top_of_assigned(a_bank(store := empty_store(tmp_path / "u", DIM)), store, 3)
