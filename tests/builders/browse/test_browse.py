"""Datasets and candidates opened for browsing."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_store_helpers import empty_store
from fiftyone_helpers import App, picture, skip_without_fiftyone

from spurious_imagenet.builders.browse.browse import disagreeing
from spurious_imagenet.builders.browse.gallery import Gallery, feature_map
from spurious_imagenet.builders.mining._schema import CANDIDATES
from spurious_imagenet.builders.publish.schema import FEATURES
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore

N = 6
PICTURES = [picture((40 * i, 200 - 30 * i, 90)) for i in range(N)]
HASHES = [hashlib.sha256(data).hexdigest() for data in PICTURES]


def _row(i: int) -> dict[str, Any]:
    """Image ``i``: the second model differs on every third, the labelers on the last."""
    other = "n1" if i % 3 == 0 else "n0"
    opinions = [("wheel:lite0", "n0"), ("timm:resnet18?image_size=64", other)]
    return {
        "class_id": "n0",
        "class_name": "goldfish",
        "concept_id": f"npca/n0/{i % 2}",
        "component": i % 2,
        "alpha": float(i),
        "rank": i + 1,
        "votes": 1 if i % 3 == 0 else 2,
        "models": [{"model": m, "class_id": c, "class_name": c, "probability": 0.5} for m, c in opinions],
        "key": f"k{i}",
        "sha256": HASHES[i],
        "width": 64,
        "height": 64,
    }


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    (folder / "data").mkdir(parents=True)
    rows = [
        _row(i)
        | {"image": {"bytes": PICTURES[i], "path": f"k{i}.png"}}
        | {"verdicts": [{"labeler": n, "outcome": "reject" if i == N - 1 and n == "b" else "accept"} for n in "ab"]}
        for i in range(N)
    ]
    pq.write_table(pa.Table.from_pylist(rows, FEATURES.arrow_schema), folder / "data" / "test-0.parquet")
    return folder


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    folder, shard = tmp_path / "candidates", tmp_path / "pool.tar"
    with tarfile.open(shard, "w") as tar:
        for i, data in enumerate(PICTURES):
            member = tarfile.TarInfo(f"k{i}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with tarfile.open(shard) as tar:
        offsets = [member.offset_data for member in tar]
    place = [
        {"shard": str(shard), "member": f"k{i}.png", "offset": o, "size": len(PICTURES[i])}
        for i, o in enumerate(offsets)
    ]
    rows = [_row(i) | place[i] | {"status": "kept" if i else "too-few-votes"} for i in range(N)]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist([*rows, rows[0]], CANDIDATES), folder / "candidates.parquet")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Features of all images but the first, and of one that is not shown, on a line."""
    store = empty_store(tmp_path / "features", dim=3)
    hashes = [*HASHES[1:], "00" * 32]
    rows = [{"key": h[:4], "sha256": bytes.fromhex(h), "top5_index": [0] * 5} for h in hashes]
    features = np.outer(np.arange(len(hashes)), [3.0, 4.0, 0.0])
    store.write_part(
        shard="pool.tar",
        shard_sha256="0" * 64,
        shard_bytes=0,
        features=features.astype(np.float16),
        rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
        rejects=(),
        versions={},
    )
    return store


@pytest.mark.parametrize("kind", ["dataset", "candidates"])
def test_the_images_bytes_are_extracted_once(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    gallery = Gallery.open(request.getfixturevalue(kind))
    assert gallery.kind == kind
    counts: list[int] = []
    files = gallery.extract(tmp_path / "cache", progress=counts.append)
    assert {h: path.read_bytes() for h, path in files.items()} == dict(zip(HASHES, PICTURES, strict=True))
    assert {path.suffix for path in files.values()} == {".png"}
    assert counts == list(range(1, N + 1))
    missing = files[HASHES[2]]
    missing.unlink()
    counts.clear()
    assert gallery.extract(tmp_path / "cache", progress=counts.append) == files
    assert counts == [N]
    assert missing.read_bytes() == PICTURES[2]


def test_what_changed_since_is_refused(candidates: Path, tmp_path: Path) -> None:
    shard = tmp_path / "pool.tar"
    shard.write_bytes(shard.read_bytes().replace(PICTURES[3][-20:], b"x" * 20))
    with pytest.raises(DataError, match=r"k3\.png"):
        Gallery.open(candidates).extract(tmp_path / "cache")


def test_another_content_has_another_identity(dataset: Path, candidates: Path) -> None:
    before = Gallery.open(dataset).identity
    assert before == Gallery.open(dataset).identity != Gallery.open(candidates).identity
    table = dataset / "data" / "test-0.parquet"
    pq.write_table(pq.read_table(table).slice(1), table)
    assert Gallery.open(dataset).identity != before


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a published dataset"):
        Gallery.open(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        Gallery.open(tmp_path).rows()
    pq.write_table(pa.table({"class_id": ["n0"]}), tmp_path / "data" / "a.parquet")
    with pytest.raises(DataError, match="sha256"):
        Gallery.open(tmp_path).rows()


def test_who_disagrees(dataset: Path) -> None:
    found = [disagreeing(row) for row in Gallery.open(dataset).rows()]
    assert [f["models_disagree"] for f in found] == [i % 3 == 0 for i in range(N)]
    assert [f["labelers_disagree"] for f in found] == [False] * (N - 1) + [True]
    assert "labelers_disagree" not in disagreeing(_row(0))


def test_the_map_is_the_plane_of_greatest_variance(store: FeatureStore) -> None:
    found, places = feature_map(store, HASHES)
    assert found == HASHES[1:]
    np.testing.assert_allclose(np.abs(np.diff(places[:, 0])), 5.0, rtol=1e-5)
    np.testing.assert_allclose(places[:, 1], 0.0, atol=1e-5)
    with pytest.raises(DataError, match="features of 1 of these images"):
        feature_map(store, [HASHES[1], "ff" * 32])


# Says what was built before the App is served.
_BROWSE = """
import json, typer
from spurious_imagenet.cli import browse
build = browse.build
def reported(*args):
    data = build(*args)
    found = {name: data.load_saved_view(name).values("rank") for name in data.list_saved_views() if " by " not in name
             and not name.startswith("By c")}
    groups = {name: len(data.load_saved_view(name)) for name in ("By class", "By concept")}
    fields = sorted(data.get_field_schema())
    brain = data.load_brain_results("features").points.shape if data.list_brain_runs() else None
    print(json.dumps({"views": found, "groups": groups, "fields": fields, "map": brain}), flush=True)
    return data
browse.build = reported
app = typer.Typer()
app.command()(browse.command)
app()
"""


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[App]]:
    skip_without_fiftyone()
    apps: list[App] = []
    yield apps
    for app in apps:
        if app.process.poll() is None:
            app.stop()  # which stops its server too; a kill would leave that running


def _browse(opened: list[App], *arguments: object) -> tuple[App, dict[str, Any]]:
    opened.append(App([*map(str, arguments), "--no-browser"], _BROWSE))
    app = opened[-1].wait()
    report: dict[str, Any] = json.loads(next(line for line in app.output.splitlines() if line.startswith("{")))
    return app, report


@pytest.mark.slow
def test_a_dataset_opens_with_views_and_a_map(
    dataset: Path, store: FeatureStore, tmp_path: Path, opened: list[App]
) -> None:
    before = sorted(dataset.rglob("*"))
    app, report = _browse(opened, dataset, "--features", store.path, "--cache", tmp_path / "cache")
    assert report["views"]["By alpha"] == [6, 5, 4, 3, 2, 1]
    assert report["views"]["Models disagree"] == [4, 1]
    assert report["views"]["Labelers disagree"] == [6]
    assert report["views"]["Class: goldfish"] == [6, 5, 4, 3, 2, 1]
    assert report["groups"] == {"By class": 1, "By concept": 2}
    assert report["map"] == [N - 1, 2]
    assert {"model_lite0", "model_resnet18", "labeler_a", "labeler_b", "alpha", "class"} <= set(report["fields"])

    image = next((tmp_path / "cache").rglob(f"{HASHES[1]}.png"))
    assert app.get(f"/media?filepath={image}")[1] == PICTURES[1]
    assert app.get("/media?filepath=/etc/passwd")[0] == 403
    assert b"<title>FiftyOne</title>" in app.get(app.url.removeprefix(app.base))[1]
    app.stop()
    assert sorted(dataset.rglob("*")) == before, "browsing left something in the dataset's folder"


@pytest.mark.slow
def test_candidates_open_by_status_and_a_second_time_from_the_cache(
    candidates: Path, tmp_path: Path, opened: list[App]
) -> None:
    app, report = _browse(opened, candidates, "--cache", tmp_path / "cache")
    assert report["views"]["Status: kept"] == [2, 3, 4, 5, 6]
    assert report["views"]["Status: too-few-votes"] == [1, 1]
    assert report["map"] is None
    assert "labelers_disagree" not in report["fields"]
    app.stop()
    (tmp_path / "pool.tar").unlink()
    assert _browse(opened, candidates, "--cache", tmp_path / "cache")[1] == report
