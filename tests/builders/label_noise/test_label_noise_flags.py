"""Flags, mean gaps and collisions against naive implementations and known cases."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.label_noise import flagged as naive_flags

from spurious_imagenet.benchmark.evaluation.gaps import gap_record
from spurious_imagenet.builders.label_noise import FlagRule
from spurious_imagenet.builders.label_noise._collisions import find_collisions
from spurious_imagenet.builders.label_noise._flags import FLAGGED_SCHEMA, flag_images
from spurious_imagenet.builders.label_noise._gaps import mean_gaps
from spurious_imagenet.builders.label_noise._votes import LEAST_PROBABILITY, ranked_images, votes_on
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import Rankings, RankingsInfo
from spurious_imagenet.errors import ConfigError, DataError

CLASSES = ("a", "b", "c")
#: Probabilities of three classes and what is left for others.
_Probabilities = st.tuples(*[st.integers(1, 50)] * 3).map(lambda p: [v / (sum(p) + 1) for v in p])


def ranked(labels: list[str]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for class_id in sorted(set(labels)):
        of = labels.count(class_id)
        for i in range(of):
            sha256 = hashlib.sha256(f"{class_id}/{i}".encode()).hexdigest()
            rows.append({"split": "val", "name": f"{class_id}/{i}.jpg", "sha256": sha256, "class_id": class_id})
            rows[-1] |= {"class_name": class_id.upper(), "control": False, "spuriosity": float(i), "rank": i + 1}
            rows[-1] |= {"of": of, "percentile": (i + 0.5) / of, "ranked_split": None, "concept_scores": None}
    return pd.DataFrame(rows)


def predictions(images: pd.DataFrame, probabilities: list[list[float]]) -> Predictions:
    rows = []
    for image, p in zip(images.to_dict("records"), probabilities, strict=True):
        order = np.argsort(p)[::-1]
        rows.append(
            {"side": "validation", "class_id": image["class_id"], "concept_id": None, "name": image["name"]}
            | {"sha256": image["sha256"], "probability": p[CLASSES.index(image["class_id"])]}
            | {"predicted_id": CLASSES[order[0]], "top5_id": [CLASSES[i] for i in order]}
            | {"top5_probability": [p[i] for i in order]}
        )
    return Predictions.from_rows(rows)


@st.composite
def cases(draw: st.DrawFn) -> tuple[pd.DataFrame, dict[str, list[list[float]]]]:
    images = ranked(draw(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=14)))
    models = draw(st.integers(1, 4))
    each = st.lists(_Probabilities, min_size=len(images), max_size=len(images))
    return images, {f"m{i}": draw(each) for i in range(models)}


def flags_of(images: pd.DataFrame, said: dict[str, list[list[float]]], rule: FlagRule) -> list[tuple[Any, ...]]:
    votes = votes_on(images, {m: predictions(images, p) for m, p in said.items()})
    found = flag_images(images, votes, rule, {}, {})
    return list(found[["sha256", "suggested_id", "agree", "score"]].itertuples(index=False, name=None))


@settings(max_examples=15, deadline=None)
@given(cases(), st.sampled_from([0.1, 0.5, 1.0]), st.randoms())
def test_flags_are_the_naive_ones_in_any_order(case: Any, share: float, random: Any) -> None:
    images, said = case
    rule = FlagRule(top_share=share)
    answers = []
    for row, image in enumerate(images.to_dict("records")):
        answers.append({})
        for model, given_p in said.items():
            p = given_p[row]
            # top five are kept as float32
            best = int(np.argsort(p)[::-1][0])
            answers[-1][model] = (CLASSES[best], float(np.float32(p[best])), p[CLASSES.index(image["class_id"])])
    expected = naive_flags(images.to_dict("records"), answers, share, (len(said) + 1) // 2)
    found = flags_of(images, said, rule)
    assert [f[:3] for f in found] == [e[:3] for e in expected]
    assert [f[3] for f in found] == pytest.approx([e[3] for e in expected], abs=1e-9)
    order = list(range(len(images)))
    random.shuffle(order)
    models = list(said)
    random.shuffle(models)
    mixed = flags_of(images.iloc[order].reset_index(drop=True), {m: [said[m][i] for i in order] for m in models}, rule)
    assert [f[:3] for f in mixed] == [f[:3] for f in found]


def test_the_table_has_its_columns_and_names() -> None:
    images = ranked(["a"] * 4)
    votes = votes_on(images, {"m": predictions(images, [[0.1, 0.8, 0.05]] * 4)})
    found = flag_images(images, votes, FlagRule(), {"a": -0.25}, {"b": "Bird"})
    assert list(found.columns) == FLAGGED_SCHEMA.names
    assert list(found["percentile"]) == [0.625, 0.875] or list(found["percentile"]) == [0.875, 0.625]
    assert set(found["suggested_name"]) == {"Bird"}
    assert set(found["class_gap"]) == {-0.25}
    assert found["score"].to_numpy() == pytest.approx(np.log(8), rel=1e-6)


def test_more_models_than_there_are_cannot_be_asked_for() -> None:
    images = ranked(["a"] * 4)
    votes = votes_on(images, {"m": predictions(images, [[0.1, 0.8, 0.05]] * 4)})
    with pytest.raises(ConfigError, match="--agree 2 asks for more models than the 1"):
        flag_images(images, votes, FlagRule(agree=2), {}, {})


def test_a_label_below_the_fifth_class_is_given_the_most_it_can_have() -> None:
    images = ranked(["a"])
    row = predictions(images, [[0.0, 0.5, 0.2]]).table.iloc[0].to_dict() | {"concept_id": None}
    for five, most in (([0.5, 0.2, 0.1, 0.1, 0.05], 0.05), ([0.5, 0.3, 0.1, 0.06, 0.03], 0.01)):
        below = Predictions.from_rows([row | {"top5_id": list("bcdef"), "top5_probability": five, "probability": 0.0}])
        assert votes_on(images, {"m": below}).log_odds[0, 0] == pytest.approx(np.log(0.5 / most), abs=1e-4)
    sure = Predictions.from_rows([row | {"top5_id": list("bcdef"), "top5_probability": [1.0, 0, 0, 0, 0]}])
    assert votes_on(images, {"m": sure}).log_odds[0, 0] == pytest.approx(-np.log(LEAST_PROBABILITY))


def test_ranked_images_without_prediction_are_counted() -> None:
    images = ranked(["a"] * 4)
    found = predictions(images, [[0.1, 0.8, 0.05]] * 4)
    with pytest.raises(DataError, match=r"m has no prediction of 3 of 4 ranked images, such as 'a/1\.jpg' of class a"):
        votes_on(images, {"m": Predictions(found.table.iloc[:1])})


def test_rankings_of_controls_alone_are_refused() -> None:
    info = RankingsInfo(model="m", weights_sha256="0", feature_config_sha256="0", concepts={})
    with pytest.raises(DataError, match="controls only"):
        ranked_images(Rankings(ranked(["a"]).assign(control=True), info))


def test_the_mean_gap_of_one_model_is_its_gap_and_of_two_their_mean() -> None:
    images = ranked(["a"] * 30 + ["b"] * 25 + ["c"] * 5)
    rng = np.random.default_rng(0)
    # Images of a that show its cue look like b: a negative gap.
    said = []
    for _ in range(2):
        p = rng.dirichlet([1, 1, 1], len(images))
        hurt = ((images["class_id"] == "a") & (images["rank"] > 20)).to_numpy()
        p[hurt] = p[hurt] * 0.1 + [0, 0.9, 0]
        said.append(predictions(images, p.tolist()))
    info = RankingsInfo(model="m", weights_sha256="0", feature_config_sha256="0", concepts={})
    alone = [gap_record(p, Rankings(images, info), k=10, resamples=200, seed=3, where="r") for p in said]
    one, refused = mean_gaps(images, votes_on(images, {"m": said[0]}), {}, k=10, resamples=200, seed=3)
    assert refused == alone[0].refused == {"c": 5}
    for gap in one:
        own = next(c for c in alone[0].classes if c.class_id == gap.class_id)
        assert (gap.gap, gap.accuracy_high) == pytest.approx((own.gap, own.accuracy_high))
        assert (gap.interval.low, gap.interval.high) == pytest.approx((own.interval.low, own.interval.high))
    both, _ = mean_gaps(images, votes_on(images, {"m": said[0], "n": said[1]}), {"b": "Bird"}, k=10, resamples=200)
    for gap in both:
        expected = [next(c.gap for c in record.classes if c.class_id == gap.class_id) for record in alone]
        assert list(gap.models.values()) == pytest.approx(expected)
        assert gap.gap == pytest.approx(np.mean(expected))
    worst = both[0]
    assert worst.class_id == "a"
    assert worst.interval.high < 0
    assert worst.absorbing is not None
    assert (worst.absorbing.class_name, worst.absorbing.share) == ("Bird", 1.0)
    assert sum(a.share for a in worst.absorbed_top_k) == pytest.approx(1 - worst.accuracy_high)


def concepts(*rows: tuple[str, str, int, str | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["class_id", "kind", "component", "verdict"], dtype=object)


def test_a_neural_feature_collides_where_it_is_core_for_another_class() -> None:
    table = concepts(
        ("wheel", "neuron", 7, "spurious"),
        ("car", "neuron", 7, "core"),
        ("bus", "neuron", 7, "spurious"),
        ("fish", "neuron", 8, "spurious"),
        ("fish", "neuron", 9, "core"),
        ("boat", "neuron", 8, None),
        ("boat", "residual", 9, "spurious"),
    )
    found = find_collisions(table, None, 0.5)
    assert (found.concepts, found.core_elsewhere, found.core_concepts) == (2, 1, 2)
    assert [c.class_id for c in found.rows] == ["bus", "wheel"]
    assert [c.class_id for c in found.rows[1].core_for] == ["car"]
    assert [c.class_id for c in found.rows[1].spurious_for] == ["bus"]


def test_a_feature_that_is_core_for_its_own_class_alone_does_not_collide() -> None:
    table = concepts(("a", "neuron", 1, "spurious"), ("a", "neuron", 2, "core"))
    found = find_collisions(table, None, 0.5)
    assert (found.concepts, found.core_elsewhere, found.rows) == (1, 0, ())


def test_components_collide_by_the_cosine_of_their_directions() -> None:
    table = concepts(
        ("a", "npca", 0, "spurious"), ("b", "npca", 3, "core"), ("c", "npca", 0, "core"), ("d", "npca", 0, "spurious")
    )
    directions = np.array([[1, 0], [3, 1], [-1, 0], [0, 0]], dtype=np.float32)
    found = find_collisions(table, directions, 0.9)
    assert (found.concepts, found.core_elsewhere) == (2, 1)
    (row,) = found.rows
    assert [(c.class_id, c.component) for c in row.core_for] == [("b", 3)]
    assert row.core_for[0].cosine == pytest.approx(3 / np.sqrt(10))
    assert find_collisions(table, directions, 0.99).core_elsewhere == 0
    assert find_collisions(table, None, 0.1).concepts == 0


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)))
def test_collisions_do_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    rng = np.random.default_rng(1)
    table = concepts(
        *(("abc"[i % 3], "npca", i, "core" if i % 2 else "spurious") for i in range(4)),
        ("a", "neuron", 5, "spurious"),
        ("b", "neuron", 5, "core"),
    )
    directions = rng.standard_normal((6, 3)).astype(np.float32)
    assert find_collisions(table.iloc[order], directions[order], 0.1) == find_collisions(table, directions, 0.1)
