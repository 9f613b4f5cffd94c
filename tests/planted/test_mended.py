from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spurious_imagenet.benchmark.comparison.record import ClassMeanGap, ModelComparison
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.errors import DataError
from spurious_imagenet.planted import PlantedTruth, WorldConfig, write_world
from spurious_imagenet.planted.config import WRONG_LABELS, class_id_of
from spurious_imagenet.planted.mended import (
    MendedCheck,
    Statement,
    _gaps,
    _label_noise,
    _tuning,
    precision_at_recall,
)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 10), st.floats(0.05, 1))
def test_precision_is_that_of_the_shortest_head_that_reaches_the_recall(
    hits: list[bool], missed: int, recall: float
) -> None:
    wrong = sum(hits) + missed
    heads = [n for n in range(1, len(hits) + 1) if sum(hits[:n]) >= recall * wrong]
    expected = sum(hits[: heads[0]]) / heads[0] if heads else None
    assert precision_at_recall(hits, wrong, recall) == (None if expected is None else pytest.approx(expected))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mended") / "world"
    tiny = WorldConfig.tiny().model_dump() | {"mislabelled": WRONG_LABELS}
    write_world(root, WorldConfig.model_validate(tiny))
    return root


def _comparison(gaps: dict[str, float], width: float = 0.1) -> ModelComparison:
    classes = [
        ClassMeanGap(
            class_id=class_id_of(name),
            class_name=name,
            control=name in {"crescent", "hourglass"},
            gap=gap,
            interval=Interval(low=gap - width, high=gap + width),
        )
        for name, gap in gaps.items()
    ]
    return ModelComparison(models=("m",), class_gaps=tuple(classes))


def test_gaps_hold_where_planted_classes_lead_and_controls_may_be_zero(world: Path) -> None:
    truth = PlantedTruth.load(world)

    def of(gaps: dict[str, float], width: float = 0.1) -> tuple[list[bool], list[bool]]:
        """Return what holds of what is required and of what is told for information."""
        statements = _gaps(truth, _comparison(gaps, width))
        return [s.holds for s in statements if s.required], [s.holds for s in statements if not s.required]

    good = {"star": 0.4, "ring": 0.3, "crescent": 0.05, "hourglass": -0.02}
    assert of(good) == ([True, True], [True, True, True])
    assert of(good | {"ring": 0.05, "crescent": 0.2}) == ([True, True], [False, False, True])
    assert of(good | {"ring": -0.05}) == ([False, True], [False, True, True])
    assert of(good | {"hourglass": -0.35}) == ([True, True], [True, True, False])
    assert of(good | {"ring": 0.05, "crescent": 0.28}, width=0.3) == ([True, False], [False, True, True])
    with pytest.raises(DataError, match="--controls"):
        _gaps(truth, _comparison({"star": 0.4}))


def _method(name: str, gap: float, accuracy: float) -> SimpleNamespace:
    def change(before: float, after: float) -> SimpleNamespace:
        return SimpleNamespace(before=SimpleNamespace(value=before), after=SimpleNamespace(value=after))

    return SimpleNamespace(method=name, gap=change(0.2, gap), accuracy=change(0.9, accuracy), closed=1 - gap / 0.2)


@pytest.mark.parametrize(
    ("low_gap", "low_accuracy", "random_gap", "holds"),
    [(0.05, 0.89, 0.16, True), (0.05, 0.87, 0.16, False), (0.16, 0.9, 0.05, False), (0.1, 0.9, 0.1, False)],
)
def test_tuning_holds_where_low_spuriosity_closes_more_than_chance_and_costs_little(
    low_gap: float, low_accuracy: float, random_gap: float, holds: bool
) -> None:
    methods = (_method("low", low_gap, low_accuracy), _method("random", random_gap, 0.9))
    (statement,) = _tuning(SimpleNamespace(methods=methods))
    assert statement.holds is holds
    with pytest.raises(DataError, match="--baselines"):
        _tuning(SimpleNamespace(methods=methods[:1]))


def test_only_what_is_required_decides_the_verdict() -> None:
    told = Statement(what="a", measured="1", holds=False, required=False)
    kept = Statement(what="b", measured="2", holds=True)
    check = MendedCheck(statements=(told, kept))
    assert check.passed
    assert "1 of 1 required statements hold: passed" in check.markdown()
    assert "| a | 1 | (no) |" in check.markdown()
    broken = MendedCheck(statements=(told, kept.model_copy(update={"holds": False})))
    assert not broken.passed
    assert "| b | 2 | **no** |" in broken.markdown()
    assert "FAILED" in broken.summary()


def test_flagged_images_are_compared_with_the_wrong_labels(world: Path, tmp_path: Path) -> None:
    truth = PlantedTruth.load(world)
    val = truth.table[truth.table["split"] == "val"]
    wrong = val.index[val["class_id"] != val["shown_class_id"]].tolist()
    right = val.index[val["class_id"] == val["shown_class_id"]].tolist()
    assert wrong

    def flagged(hashes: list[str]) -> Path:
        pq.write_table(pa.table({"sha256": hashes}), tmp_path / "flagged.parquet")
        return tmp_path / "flagged.parquet"

    assert _label_noise(truth, flagged(wrong)).holds
    assert not _label_noise(truth, flagged(right[: len(wrong)] + wrong)).holds
    assert not _label_noise(truth, flagged(wrong[: len(wrong) // 4 - 1])).holds
    with pytest.raises(DataError, match="not a table of flagged images"):
        _label_noise(truth, tmp_path / "missing.parquet")


def test_a_world_without_wrong_labels_is_refused(tmp_path: Path) -> None:
    write_world(tmp_path / "w", WorldConfig.tiny(seed=3))
    with pytest.raises(DataError, match="--wrong-labels"):
        _label_noise(PlantedTruth.load(tmp_path / "w"), tmp_path / "f")
