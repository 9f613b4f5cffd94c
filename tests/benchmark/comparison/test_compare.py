from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.gaps import distance_from_line, pearson, sample_variance
from typer.testing import CliRunner

from spurious_imagenet.benchmark.comparison.compare import compare
from spurious_imagenet.benchmark.comparison.record import ModelComparison, ModelDifference
from spurious_imagenet.benchmark.evaluation.gaps import gap_record, gap_sample
from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.evaluation.values import Means
from spurious_imagenet.benchmark.metrics import spurious_ap, spurious_auc
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.cli import app
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, Rankings, RankingsInfo
from spurious_imagenet.errors import ConfigError, DataError, UndefinedMetricError
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig
from spurious_imagenet.images import Protocol

CLASSES = ("a", "b", "c", "d", "e")
IMAGES = 60
INFO = RankingsInfo(model="m", weights_sha256="", feature_config_sha256="", concepts={})


def digest(class_id: str, rank: int) -> bytes:
    return hashlib.sha256(f"{class_id}/{rank}".encode()).digest()


def ranking_table(classes: Sequence[str] = CLASSES, controls: Sequence[str] = ("e",)) -> pa.Table:
    rows = [
        {
            "split": "val",
            "name": f"{class_id}/{rank}",
            "sha256": digest(class_id, rank).hex(),
            "class_id": class_id,
            "class_name": class_id.upper(),
            "control": class_id in controls,
            "rank": rank,
            "of": IMAGES,
            "percentile": (rank - 0.5) / IMAGES,
        }
        for class_id in classes
        for rank in range(1, IMAGES + 1)
    ]
    return pa.Table.from_pylist(rows, schema=RANKINGS_SCHEMA)


def rankings(**options: Sequence[str]) -> Rankings:
    return Rankings(ranking_table(**options).to_pandas(), INFO)


def answers(seed: int, weakness: Sequence[float] = (0.9, 0.6, 0.3, 0.1, 0.0)) -> dict[str, np.ndarray]:
    """Draw a model that is the weaker on a class's images of low rank the greater its weakness there."""
    rng = np.random.default_rng(seed)
    rank = np.linspace(0, 1, IMAGES)
    return {c: rng.random(IMAGES) < 0.95 - w * (1 - rank) for c, w in zip(CLASSES, weakness, strict=True)}


def predictions(right: dict[str, np.ndarray], spurious: np.random.Generator | None = None) -> Predictions:
    rows = []
    for class_id, correct in right.items():
        for rank, one in enumerate(correct, 1):
            row = {"side": "validation", "class_id": class_id, "sha256": digest(class_id, rank).hex()}
            rows.append(row | {"predicted_id": class_id if one else "x", "probability": 0.9 if one else 0.2})
        for image in range(30 if spurious else 0):
            row = {"side": "spurious", "class_id": class_id, "concept_id": f"{class_id}/0", "predicted_id": "x"}
            probability = float(np.round(spurious.random(), 2)) if spurious else 0.0
            rows.append(row | {"sha256": digest(class_id, -image).hex(), "probability": probability})
    return Predictions.from_rows(rows)


@pytest.fixture(scope="module")
def four() -> dict[str, Predictions]:
    return {f"model {i}": predictions(answers(i), np.random.default_rng(100 + i)) for i in range(4)}


@pytest.fixture(scope="module")
def found(four: dict[str, Predictions]) -> ModelComparison:
    return compare(four.items(), rankings(), k=20)


def difference(found: ModelComparison, measure: str, first: str, second: str) -> ModelDifference:
    matching = [d for d in found.differences if (d.measure, d.first, d.second) == (measure, first, second)]
    assert len(matching) == 1
    return matching[0]


def test_gaps_are_those_of_each_model_by_itself(found: ModelComparison, four: dict[str, Predictions]) -> None:
    assert found.models == tuple(four)
    for name, model in four.items():
        assert found.gaps[name] == gap_record(model, rankings(), k=20, where="the rankings")


def test_what_is_made_of_gaps_equals_its_definition(found: ModelComparison) -> None:
    records = list(found.gaps.values())
    table = np.array([[c.gap for c in record.classes if not c.control] for record in records])
    assert table.shape == (4, 4)
    expected = distance_from_line([r.accuracy_high for r in records], [r.accuracy_low for r in records])
    assert [r.effective_robustness for r in found.effective_robustness] == pytest.approx(expected)
    for i in range(4):
        for j in range(4):
            assert found.gap_correlations[i][j] == pytest.approx(pearson(table[i], table[j]))
    pairs = [pearson(table[i], table[j]) for i in range(4) for j in range(i)]
    assert found.mean_gap_correlation == pytest.approx(np.mean(pairs))
    assert found.class_variance == pytest.approx(sample_variance(table.mean(axis=0)))
    assert found.model_variance == pytest.approx(sample_variance(table.mean(axis=1)))
    assert found.variance_ratio == pytest.approx(
        sample_variance(table.mean(axis=0)) / sample_variance(table.mean(axis=1))
    )
    # All models were drawn with the same weakness of each class.
    assert found.mean_gap_correlation > 0.7
    assert found.variance_ratio > 3
    assert found.undefined == {}


def test_robustness_has_intervals_that_hold_its_value(found: ModelComparison) -> None:
    for r in found.effective_robustness:
        assert r.interval is not None
        assert r.interval.low <= r.effective_robustness <= r.interval.high


def test_class_gaps_are_means_over_models_with_narrower_intervals(found: ModelComparison) -> None:
    records = list(found.gaps.values())
    assert [c.class_id for c in found.class_gaps] == list(CLASSES)
    assert [c.control for c in found.class_gaps] == [False] * 4 + [True]
    for place, c in enumerate(found.class_gaps):
        gaps = [record.classes[place] for record in records]
        assert c.gap == pytest.approx(np.mean([g.gap for g in gaps]))
        assert c.interval.low <= c.gap <= c.interval.high
        widths = [g.interval.high - g.interval.low for g in gaps]
        assert c.interval.high - c.interval.low < max(widths)
    control = found.class_gaps[-1]
    assert control.interval.low <= 0 <= control.interval.high


def test_differences_are_of_every_pair_and_measure(found: ModelComparison, four: dict[str, Predictions]) -> None:
    assert len(found.differences) == 3 * 6
    gap = difference(found, "spurious_gap", "model 0", "model 2")
    assert gap.difference == pytest.approx(found.gaps["model 0"].gap - found.gaps["model 2"].gap)
    for measure, metric in (("spurious_ap", spurious_ap), ("spurious_auc", spurious_auc)):
        means = []
        for model in (four["model 1"], four["model 3"]):
            sides = [(model.of("validation", c), model.of("spurious", c)) for c in CLASSES]
            means.append(np.mean([metric(v["probability"], s["probability"]) for v, s in sides]))
        assert difference(found, measure, "model 1", "model 3").difference == pytest.approx(means[0] - means[1])


def test_models_of_one_kind_cannot_be_told_apart_and_unlike_ones_can() -> None:
    models = {
        "one": predictions(answers(1, (0.7,) * 5)),
        "like": predictions(answers(2, (0.7,) * 5)),
        "robust": predictions(answers(3, (0.0,) * 5)),
    }
    found = compare(models.items(), rankings(), k=25)
    like = difference(found, "spurious_gap", "one", "like")
    assert not like.distinguishable
    assert like.detectable is not None
    assert 0.05 < like.detectable < 0.4
    apart = difference(found, "spurious_gap", "one", "robust")
    assert apart.distinguishable
    assert apart.interval.low > 0


def test_the_interval_of_these_classes_resamples_images_alone(four: dict[str, Predictions]) -> None:
    found = compare(four.items(), rankings(), k=20, resamples=200)
    first, second = list(four)[:2]
    samples = [
        gap_sample(four[name], rankings(), k=20, resamples=200, seed=0, where="r").measured for name in (first, second)
    ]
    by_hand = [sum(c.resampled_gap[r] for c in classes) / len(classes) for classes in samples for r in range(200)]
    expected = np.quantile(np.subtract(by_hand[:200], by_hand[200:]), [0.025, 0.975])
    own = difference(found, "spurious_gap", first, second).interval_of_these_classes
    np.testing.assert_allclose([own.low, own.high], expected, atol=1e-12)


def test_a_model_and_its_copy_do_not_differ_in_any_resample(four: dict[str, Predictions]) -> None:
    model = four["model 0"]
    shuffled = Predictions(model.table.sample(frac=1, random_state=0))
    found = compare([("it", model), ("copy", shuffled)], rankings(), k=20)
    for d in found.differences:
        assert d.difference == pytest.approx(0, abs=1e-12)
        assert d.standard_error < 1e-12
        assert d.detectable is None


def test_of_one_model_and_of_two_what_needs_more_is_said_to_be_undefined() -> None:
    one = compare([("one", predictions(answers(1)))], rankings(), k=10)
    assert one.effective_robustness == ()
    assert one.variance_ratio is None
    assert one.mean_gap_correlation is None
    assert set(one.undefined) == {"effective_robustness", "variance ratio", "mean gap correlation"}
    assert one.differences == ()
    two = compare([("one", predictions(answers(1))), ("two", predictions(answers(2)))], rankings(), k=10)
    assert set(two.undefined) == {"effective_robustness"}
    assert "below three models" in two.undefined["effective_robustness"]


def test_a_model_without_gaps_has_no_correlation_and_no_zero_takes_its_place() -> None:
    never_wrong = {c: np.ones(IMAGES, bool) for c in CLASSES}
    models = {"one": predictions(answers(1)), "two": predictions(answers(2)), "never wrong": predictions(never_wrong)}
    found = compare(models.items(), rankings(), k=10)
    assert found.gap_correlations[0][2] is None
    assert found.gap_correlations[2][2] is None
    assert found.gap_correlations[0][1] is not None
    assert found.mean_gap_correlation is None
    assert "on each of 4 classes" in found.undefined["gap correlation of one and never wrong"]
    assert found.undefined["mean gap correlation"].startswith("1 of 3 pairs")


def test_models_that_never_err_with_cues_have_no_line() -> None:
    def right(seed: int) -> dict[str, np.ndarray]:
        drawn = answers(seed)
        return {c: correct | (np.arange(IMAGES) >= IMAGES // 2) for c, correct in drawn.items()}

    found = compare([(str(i), predictions(right(i))) for i in range(3)], rankings(), k=20)
    assert found.effective_robustness == ()
    assert "all have accuracy 1.000" in found.undefined["effective_robustness"]


def test_ap_and_auc_are_compared_without_rankings(four: dict[str, Predictions]) -> None:
    found = compare(four.items())
    assert found.gaps == {}
    assert {d.measure for d in found.differences} == {"spurious_ap", "spurious_auc"}


def test_other_images_are_refused(four: dict[str, Predictions]) -> None:
    other = Predictions(four["model 1"].table.iloc[1:])
    with pytest.raises(DataError, match="other and model 0 were not evaluated on the same images"):
        compare([("model 0", four["model 0"]), ("other", other)])
    only_spurious = Predictions(four["model 1"].of("spurious"))
    with pytest.raises(DataError, match="no predictions of validation images of class a"):
        compare([("it", only_spurious)])
    with pytest.raises(DataError, match="without has no predictions of spurious images"):
        compare([("with", four["model 0"]), ("without", Predictions(four["model 1"].of("validation")))])


def test_models_that_share_the_ranked_images_alone_are_compared_by_gaps(four: dict[str, Predictions]) -> None:
    models = [("with", four["model 0"]), ("without", Predictions(four["model 1"].of("validation")))]
    found = compare(models, rankings(), k=10)
    assert {d.measure for d in found.differences} == {"spurious_gap"}
    assert "without has no predictions" in found.undefined["spurious AP and AUC"]


def test_nothing_to_compare_is_refused(four: dict[str, Predictions]) -> None:
    with pytest.raises(ConfigError, match="no models"):
        compare([])
    with pytest.raises(ConfigError, match="two models are named 'it'"):
        compare([("it", four["model 0"]), ("it", four["model 1"])])
    with pytest.raises(UndefinedMetricError, match="nothing to compare by"):
        compare([("it", Predictions(four["model 0"].of("validation")))])


def test_models_are_read_one_after_another() -> None:
    alive: list[int] = []

    def models():  # type: ignore[no-untyped-def]
        for i in range(3):
            alive.append(i)
            yield f"m{i}", predictions(answers(i))

    assert compare(models(), rankings(), k=10).models == ("m0", "m1", "m2")
    assert alive == [0, 1, 2]


def test_a_comparison_is_read_back_as_it_was_written(found: ModelComparison, tmp_path: Path) -> None:
    found.save(tmp_path / "c.json")
    assert ModelComparison.load(tmp_path / "c.json") == found
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(DataError, match="not a comparison of models"):
        ModelComparison.load(tmp_path / "c.json")


# --- the command ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rankings" / "data").mkdir(parents=True)
    table = pa.concat_tables([ranking_table(), ranking_table(classes=["f"], controls=()).slice(0, 7)])
    pq.write_table(table, tmp_path / "rankings" / "data" / "val.parquet")
    (tmp_path / "rankings" / "rankings.json").write_text(INFO.model_dump_json())
    for i in range(3):
        write_store(tmp_path / f"store{i}", f"file:models/net{i}.safetensors", answers(i))
    return tmp_path


def write_store(path: Path, model: str, right: dict[str, np.ndarray]) -> None:
    ids = (*CLASSES, "f")
    rows = []
    for label, class_id in enumerate(ids):
        for rank, correct in enumerate(right.get(class_id, np.ones(7, bool)), 1):
            top = [label if correct else (label + 1) % len(ids), -1, -1, -1, -1]
            row = {"key": f"{class_id}/{rank}", "sha256": digest(class_id, rank), "class_id": class_id, "label": label}
            rows.append(row | {"top5_index": top, "top5_probability": [1.0, 0, 0, 0, 0]})
    config = StoreConfig(
        model=model, weights_sha256="", label_space="custom", class_ids=ids, feature_dim=1, preprocess={}
    )
    FeatureStore.create(path, config).write_part(
        shard="0.tar",
        shard_sha256="",
        shard_bytes=0,
        features=np.zeros((len(rows), 1), np.float16),
        rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
        rejects=(),
        versions={},
    )


def run(folder: Path, *stores: str, k: int = 20) -> tuple[int, str, BaseException | None]:
    given = [part for store in stores for part in ("--features", store)]
    arguments = ["gaps", "--rankings", str(folder / "rankings"), *given, "--k", str(k), "--out", str(folder / "g.json")]
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, arguments)
    return result.exit_code, result.output, result.exception


def test_command_prints_and_writes_what_the_library_finds(folder: Path) -> None:
    code, output, error = run(folder, *(str(folder / f"store{i}") for i in range(3)))
    assert code == 0, error
    written = ModelComparison.load(folder / "g.json")
    assert written.models == ("net0", "net1", "net2")
    expected = gap_record(predictions(answers(1)), rankings(), k=20, where="x")
    assert written.gaps["net1"].gap == expected.gap
    assert f"{expected.gap:+.3f}" in output
    assert written.gaps["net0"].refused == {"f": 7}
    assert "f has 7 ranked images: 40 are needed" in output
    assert "E (control)" in output
    assert output.index("A ") < output.index("D ") < output.index("E (control)")
    assert "1 of 1 control classes have an interval that contains 0." in output
    assert "spurious gap of net0 and net1:" in output
    assert "times as much across classes as across models" in output


def test_command_of_one_model_prints_its_classes(folder: Path) -> None:
    code, output, error = run(folder, f"mine={folder / 'store0'}")
    assert code == 0, error
    assert "mine" in output
    assert "mean over models" not in output
    assert json.loads((folder / "g.json").read_text())["models"] == ["mine"]


def record(name: str, of: Predictions) -> EvalRecord:
    nothing = dict.fromkeys(Means.model_fields, 0.5)
    return EvalRecord(
        code_version="0",
        model=name,
        weights_sha256="",
        label_space="custom",
        protocol=Protocol.STANDARD,
        validation_transform={},
        spurious_transform={},
        backend="eager",
        dataset="d",
        dataset_sha256="",
        validation="v",
        validation_sha256="",
        name=name,
        classes=(),
        concepts=(),
        mean=Means(**nothing),
        mean_intervals={},
        accuracy=0.5,
        accuracy_interval=Interval(low=0, high=1),
        accuracy_images=1,
    ).carrying(of)


def test_command_reads_the_predictions_beside_records_and_names_equal_ones_by_file(
    folder: Path, four: dict[str, Predictions]
) -> None:
    table = pa.Table.from_pandas(rankings().table, schema=RANKINGS_SCHEMA, preserve_index=False)
    pq.write_table(table, folder / "rankings" / "data" / "val.parquet")
    for file, name, model in (("one", "net", 0), ("two", "net", 1), ("three", "other", 2)):
        record(name, four[f"model {model}"]).save(folder / f"{file}.json")
    given = [part for file in ("one", "two", "three") for part in ("--records", str(folder / f"{file}.json"))]
    arguments = ["gaps", "--rankings", str(folder / "rankings"), *given, "--k", "20", "--out", str(folder / "g.json")]
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    written = ModelComparison.load(folder / "g.json")
    assert written.models == ("one", "two", "other")
    expected = compare([(name, four[f"model {i}"]) for i, name in enumerate(written.models)], rankings(), k=20)
    assert written.differences == expected.differences
    assert "spurious ap of one and two:" in result.output
    (folder / "two.predictions.parquet").unlink()
    assert isinstance(CliRunner().invoke(app, arguments).exception, DataError)


def test_command_refuses_what_it_cannot_use(folder: Path) -> None:
    store = str(folder / "store0")
    assert isinstance(run(folder)[2], ConfigError)
    code, _, error = run(folder, store, store)
    assert code != 0
    assert "2 models are named 'net0'" in str(error)
    assert "no class with a spurious concept has 800 ranked images" in str(run(folder, store, k=400)[2])
    assert not (folder / "g.json").exists()
