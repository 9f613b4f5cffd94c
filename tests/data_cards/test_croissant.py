"""Croissant files have no error and no warning, and read what the parquet files hold."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from card_helpers import OPTIONS, REVIEW, SPURIOUS, TEXT, Dataset, make_dataset, rows, write_file
from datasets import Features, List, Value
from PIL import Image

from spurious_imagenet.data_cards import CardOptions
from spurious_imagenet.data_cards.croissant import CROISSANT, write_croissant
from spurious_imagenet.data_cards.croissant_check import check_croissant
from spurious_imagenet.datasets.manifest import DatasetManifest
from spurious_imagenet.errors import ConfigError, DataError

mlcroissant = pytest.importorskip("mlcroissant")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = make_dataset(tmp_path / "dataset")
    write_croissant(made.folder, made.manifest, review=REVIEW, options=OPTIONS)
    return made


def change(folder: Path, **entries: Any) -> None:
    path = folder / CROISSANT
    found = json.loads(path.read_text(encoding="utf-8"))
    for key, value in entries.items():
        found.pop(key) if value is None else found.update({key: value})
    path.write_text(json.dumps(found), encoding="utf-8")


def as_parquet(value: Any) -> Any:
    """Bring a value that mlcroissant read into the form in which pyarrow reads it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {key.rsplit("/", 1)[-1]: as_parquet(part) for key, part in value.items()}
    if isinstance(value, list):
        return [as_parquet(part) for part in value]
    return value.item() if hasattr(value, "item") else value


def test_there_is_no_error_and_no_warning(dataset: Dataset) -> None:
    issues = mlcroissant.Dataset(jsonld=str(dataset.folder / CROISSANT)).metadata.ctx.issues
    assert issues.errors == issues.warnings == set()
    assert check_croissant(dataset.folder) == []


@pytest.mark.parametrize("config", ["spurious", "concepts", "retired"])
def test_records_are_the_rows_of_the_parquet_files(dataset: Dataset, config: str) -> None:
    files = [f for f in dataset.manifest.files if f.config == config]
    files.sort(key=lambda f: f.path)
    expected = [row for file in files for row in pq.read_table(dataset.folder / file.path).to_pylist()]
    found = list(mlcroissant.Dataset(jsonld=str(dataset.folder / CROISSANT)).records(config))
    assert len(found) == len(expected)
    for record, row in zip(found, expected, strict=True):
        if "image" in row:
            pixels = Image.open(io.BytesIO(row.pop("image")["bytes"])).tobytes()
            assert record.pop(f"{config}/image").tobytes() == pixels
        read = {key.rsplit("/", 1)[-1]: as_parquet(value) for key, value in record.items()}
        if row.get("votes", 0) is None:  # mlcroissant has no null for a list of structs
            assert read.pop("votes") == [{"labeler": None, "sure": None}]
            row.pop("votes")
        assert read == row


def test_the_words_are_the_cards(dataset: Dataset) -> None:
    found = json.loads((dataset.folder / CROISSANT).read_text(encoding="utf-8"))
    assert found["datePublished"] == "2026-03-07"
    assert found["version"] == "1.2.3"
    assert "7919" in found["rai:dataCollection"]
    assert "Cohen's κ 0.613" in found["rai:dataAnnotationAnalysis"]
    wanted = (
        "dataCollectionType",
        "dataAnnotationProtocol",
        "annotatorDemographics",
        "annotationsPerItem",
        "dataBiases",
    )
    also = ("dataLimitations", "dataUseCases", "personalSensitiveInformation", "dataReleaseMaintenancePlan")
    assert {f"rai:{name}" for name in (*wanted, *also, "machineAnnotationTools")} <= set(found)
    hashes = {entry["contentUrl"]: entry["sha256"] for entry in found["distribution"] if "sha256" in entry}
    assert hashes == {file.path: file.sha256 for file in dataset.manifest.files}


def test_equal_inputs_give_equal_bytes_and_no_local_path(tmp_path: Path, dataset: Dataset) -> None:
    again = make_dataset(tmp_path / "elsewhere")
    write_croissant(again.folder, again.manifest, review=REVIEW, options=OPTIONS)
    text = (again.folder / CROISSANT).read_bytes()
    assert text == (dataset.folder / CROISSANT).read_bytes()
    assert str(tmp_path).encode() not in text


def test_the_latest_verdict_dates_a_version_and_nothing_else_does(tmp_path: Path) -> None:
    made = make_dataset(tmp_path / "a")
    write_croissant(made.folder, made.manifest, review=REVIEW)
    assert json.loads((made.folder / CROISSANT).read_text())["datePublished"] == "2026-01-06"
    undated = make_dataset(tmp_path / "b", rows(reviewed=False))
    with pytest.raises(ConfigError, match="needs the date"):
        write_croissant(undated.folder, undated.manifest)
    assert not (undated.folder / CROISSANT).exists()
    write_croissant(undated.folder, undated.manifest, made=datetime.date(2026, 1, 2))
    assert json.loads((undated.folder / CROISSANT).read_text())["datePublished"] == "2026-01-02"
    write_croissant(made.folder, made.manifest, made=datetime.date(2026, 1, 2))
    assert json.loads((made.folder / CROISSANT).read_text())["datePublished"] == "2026-01-06"


@pytest.mark.parametrize("key", ["license", "datePublished", "version", "citeAs"])
def test_what_is_only_a_warning_counts(dataset: Dataset, key: str) -> None:
    change(dataset.folder, **{key: None})
    assert any(key in problem for problem in check_croissant(dataset.folder))


def test_another_file_than_described_is_found(dataset: Dataset) -> None:
    other = make_dataset(dataset.folder.parent / "other", rows(("x", "y")))
    path = dataset.folder / "spurious/test.parquet"
    path.write_bytes((other.folder / "spurious/test.parquet").read_bytes())
    assert check_croissant(dataset.folder) == [
        "file 'spurious/test.parquet' has another SHA-256 than croissant.json says."
    ]
    path.unlink()
    assert check_croissant(dataset.folder) == ["file 'spurious/test.parquet' is missing."]


@pytest.mark.parametrize("url", ["/etc/passwd", "https://evil.example/x.parquet", "../x.parquet"])
def test_files_elsewhere_are_refused(dataset: Dataset, url: str) -> None:
    found = json.loads((dataset.folder / CROISSANT).read_text())
    found["distribution"][0]["contentUrl"] = url
    change(dataset.folder, distribution=found["distribution"])
    assert check_croissant(dataset.folder) == [
        f"file {url!r} has an address of its own: expected a path inside the dataset."
    ]


def test_a_column_that_no_file_has_is_found(dataset: Dataset) -> None:
    found = json.loads((dataset.folder / CROISSANT).read_text())
    found["recordSet"][0]["field"][1]["source"]["extract"]["column"] = "nothing"
    change(dataset.folder, recordSet=found["recordSet"])
    (problem,) = check_croissant(dataset.folder)
    assert "record set 'spurious' cannot be read" in problem
    (dataset.folder / CROISSANT).write_text("{", encoding="utf-8")
    assert len(check_croissant(dataset.folder)) == 1


def test_only_a_few_rows_are_held(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from spurious_imagenet.data_cards import croissant_check as croissant

    seen = []
    read = croissant._first_rows
    monkeypatch.setattr(croissant, "_first_rows", lambda path: seen.append(read(path)) or seen[-1])
    many = rows() * 50
    file = write_file(dataset.folder, "spurious", "test", SPURIOUS, many)
    manifest = dataset.manifest.model_copy(update={"files": (file, *dataset.manifest.files[1:])})
    write_croissant(dataset.folder, manifest, options=OPTIONS)
    assert check_croissant(dataset.folder) == []
    assert max(len(table) for table in seen) == 5


def test_a_type_without_a_word_is_refused(tmp_path: Path) -> None:
    made = make_dataset(tmp_path)
    odd = write_file(tmp_path, "odd", "test", Features({"x": List(List(Value("int8")))}), [{"x": [[1]]}])
    manifest = made.manifest.model_copy(update={"files": (odd,)})
    with pytest.raises(DataError, match=r"column 'x' of config 'odd' is .*Croissant has no type"):
        write_croissant(tmp_path, manifest, options=OPTIONS)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = '</script><script>alert(1)</script> "}],{"@id":"x" \u202e' + "n" * 500
    made = make_dataset(tmp_path, rows(licences=[name, "https://evil.example/\n x"], author=name), name=name)
    write_croissant(tmp_path, made.manifest, review=REVIEW | {"agreement": name}, options=OPTIONS)
    assert check_croissant(tmp_path) == []
    assert json.loads((tmp_path / CROISSANT).read_text())["name"] == name.replace("\u202e", "")


@pytest.mark.parametrize("kind", ["rankings", "concept-annotations"])
def test_other_kinds_are_described_too(tmp_path: Path, kind: str) -> None:
    files = tuple(
        write_file(
            tmp_path, "rows", split, Features({"class_id": TEXT, "share": Value("float64")}), [{"class_id": split}]
        )
        for split in ("train", "val")
    )
    manifest = DatasetManifest(kind=kind, name="Rows", version="0.1.0", code_version="1", files=files)
    write_croissant(tmp_path, manifest, options=CardOptions(published="2026-01-01", license="cc-by-4.0"))
    assert check_croissant(tmp_path) == []
    found = json.loads((tmp_path / CROISSANT).read_text())
    assert found["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert len(list(mlcroissant.Dataset(jsonld=str(tmp_path / CROISSANT)).records("rows"))) == 2
