"""A sound submission passes in every form, and is worth exactly what its evaluation found."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from leaderboard_helpers import random_submission, random_table, submission_info, tiny_version
from safetensors.numpy import save_file

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.evaluation.summary import summarise
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.images import Protocol
from spurious_imagenet.leaderboard.submission import (
    Submission,
    SubmissionError,
    as_predictions,
    check_submission,
    make_submission,
    read_submission,
    write_submission,
)
from spurious_imagenet.leaderboard.submission.make import submission_of
from spurious_imagenet.leaderboard.submission.write import information_bytes
from spurious_imagenet.leaderboard.version import BenchmarkVersion

VERSION = tiny_version()
ABOUT: dict[str, Any] = {
    "authors": ["Ada", "名前"],
    "training_data": "ImageNet-1k",
    "licence": "MIT",
    "dataset_version": VERSION.info.version,
}


def evaluated(version: BenchmarkVersion, seed: int) -> EvalRecord:
    """Return the record that evaluation would leave of random predictions, its rows in the order of evaluation."""
    lookup = {(r.side, r.class_id, r.sha256): r for r in random_table(version, seed).itertuples()}
    rows = []
    for image in version.images.itertuples():
        r = lookup[image.side, image.class_id, image.sha256]
        own = {"probability": r.probability, "top5_id": r.top5_id, "top5_probability": r.top5_probability}
        where = {n: getattr(image, n) for n in ("side", "class_id", "name", "sha256")}
        where["concept_id"] = image.concept_id if image.side == "spurious" else None
        rows.append({**where, **own, "predicted_id": r.top5_id[0]})
    rows.sort(key=lambda r: (r["side"] == "spurious", r["class_id"], r["concept_id"] or "", r["sha256"], r["name"]))
    predictions = Predictions.from_rows(rows)
    info = version.info
    record = EvalRecord(
        code_version="0.1.0",
        model="timm:resnet18.a1_in1k",
        weights_sha256="e" * 64,
        label_space="imagenet",
        protocol=Protocol.STANDARD,
        validation_transform={},
        spurious_transform={},
        backend="eager",
        dataset="dataset",
        dataset_sha256=info.dataset_sha256,
        validation="val",
        validation_sha256=info.validation_sha256,
        name=f"resnet {seed}",
        parameters=11_000_000,
        **vars(summarise(predictions, info.class_names, info.resamples, info.seed)),
    )
    return record.carrying(predictions)


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_bit_identical_to_the_records(seed: int, tmp_path: Path) -> None:
    record = evaluated(VERSION, seed)
    path = make_submission(record, tmp_path / "mine.zip", **ABOUT)
    checked = check_submission(path, VERSION)
    assert checked.problems == ()
    assert checked.submission is not None
    found = as_predictions(checked.submission.table, VERSION)
    again = summarise(found, VERSION.info.class_names, VERSION.info.resamples, VERSION.info.seed)
    for field, value in vars(again).items():
        assert value == getattr(record, field), field
    pd.testing.assert_frame_equal(
        found.table[["side", "class_id", "sha256", "name", "probability", "predicted_id"]],
        record.read_predictions().table[["side", "class_id", "sha256", "name", "probability", "predicted_id"]],
        check_dtype=False,
        check_exact=True,
    )
    info = checked.submission.info
    assert (info.spec, info.architecture, info.weights_sha256) == ("timm:resnet18.a1_in1k", "resnet18", "e" * 64)


def test_bytes_are_the_same_whatever_the_order(tmp_path: Path) -> None:
    sound = random_submission(VERSION, 3)
    shuffled = Submission(sound.info, sound.table.sample(frac=1, random_state=0))
    first, second = write_submission(sound, tmp_path / "a.zip"), write_submission(shuffled, tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    pd.testing.assert_frame_equal(read_submission(first).table, read_submission(second).table, check_exact=True)


def test_directory_zip_and_zipped_folder_agree(tmp_path: Path) -> None:
    sound = random_submission(VERSION, 4)
    folder = write_submission(sound, tmp_path / "mine")
    forms = [folder, write_submission(sound, tmp_path / "mine.zip")]
    forms.append(Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "mine")))
    with zipfile.ZipFile(tmp_path / "deflated.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    forms.append(tmp_path / "deflated.zip")
    read = [check_submission(form, VERSION) for form in forms]
    assert [r.problems for r in read] == [()] * 4
    for other in read[1:]:
        assert other.submission is not None
        assert read[0].submission is not None
        assert other.submission.info == read[0].submission.info == sound.info
        pd.testing.assert_frame_equal(other.submission.table, read[0].submission.table, check_exact=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float16, 5e-3)])
def test_logits_give_what_their_probabilities_give(dtype: Any, tolerance: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = VERSION.images[["side", "sha256"]].drop_duplicates().sample(frac=1, random_state=1)
    class_ids = [*sorted(set(VERSION.images["class_id"])), *(f"n9999000{i}" for i in range(9))]
    logits = rng.normal(scale=3, size=(len(images), len(class_ids))).astype(np.float32)
    tensors = {
        "logits": logits.astype(dtype),
        "sha256": np.stack([np.frombuffer(bytes.fromhex(s), np.uint8) for s in images["sha256"]]),
        "side": (images["side"] == "spurious").to_numpy(np.uint8),
    }
    folder = tmp_path / "logits"
    folder.mkdir()
    save_file(tensors, folder / "predictions.safetensors", metadata={"class_ids": json.dumps(class_ids)})
    (folder / "submission.yaml").write_bytes(information_bytes(submission_info(VERSION)))
    checked = check_submission(folder, VERSION)
    assert checked.problems == ()
    assert checked.submission is not None

    row = {key: i for i, key in enumerate(zip(images["side"], images["sha256"], strict=True))}
    table = checked.submission.table
    assert len(table) == len(VERSION.images.drop_duplicates(["side", "class_id", "sha256"]))
    for r in table.itertuples():
        exponential = np.exp(logits[row[r.side, r.sha256]].astype(np.float64))
        probability = exponential / exponential.sum()
        assert abs(r.probability - probability[class_ids.index(r.class_id)]) < tolerance
        best = np.argsort(-probability)[:5]
        np.testing.assert_allclose(r.top5_probability, probability[best], atol=tolerance)
        if dtype is np.float32:
            assert list(r.top5_id) == [class_ids[i] for i in best]


def test_logits_need_their_version(tmp_path: Path) -> None:
    from hostile_logits import sound_logits
    from hostile_submissions import Maker

    make = Maker(1, VERSION, tmp_path)
    path = make.directory({"submission.yaml": make.yaml(), "predictions.safetensors": sound_logits(make)})
    with pytest.raises(SubmissionError, match="together with the version"):
        read_submission(path)
    assert len(read_submission(path, version=VERSION).table) == len(VERSION.images) - 1  # one image is there twice


def test_a_wheels_model_is_named_with_its_architecture(tmp_path: Path) -> None:
    record = evaluated(VERSION, 1).model_copy(update={"model": "wheel:efficientnet_lite0"})
    info = submission_of(record, authors=["A"], training_data="d", licence="MIT", dataset_version="1.0.0").info
    assert (info.spec, info.architecture) == ("wheel:efficientnet_lite0", "tf_efficientnet_lite0")


def test_a_local_model_is_not_named(tmp_path: Path) -> None:
    record = evaluated(VERSION, 1).model_copy(update={"model": "file:/home/ada/secret.safetensors"})
    record = record.carrying(evaluated(VERSION, 1).read_predictions())
    path = make_submission(record, tmp_path / "mine", **ABOUT)
    assert read_submission(path).info.spec is None
    assert b"secret" not in (path / "submission.yaml").read_bytes()
    (warning,) = check_submission(path, VERSION).warnings
    assert "no one can verify" in warning.message


def test_what_would_be_refused_is_not_written(tmp_path: Path) -> None:
    for changes, field in (
        ({"link": "http://x.y"}, "link"),
        ({"notes": "a\u202eb"}, "notes"),
        ({"authors": []}, "authors"),
    ):
        with pytest.raises(SubmissionError, match=f"field {field}"):
            make_submission(evaluated(VERSION, 0), tmp_path / "mine.zip", **(ABOUT | changes))
    assert list(tmp_path.iterdir()) == []


def test_rows_that_do_not_cover_the_version_are_no_predictions() -> None:
    table = random_table(VERSION, 0)
    with pytest.raises(SubmissionError, match=r"no row for 1 image, where each needs one: validation n00000000 "):
        as_predictions(table.iloc[1:], VERSION)
    with pytest.raises(SubmissionError, match="an image that an earlier row has already in 1 row"):
        as_predictions(pd.concat([table, table.iloc[:1]]), VERSION)
