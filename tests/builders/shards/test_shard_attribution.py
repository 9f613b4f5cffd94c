from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from spurious_imagenet.builders.shards import AttributionTable, Coverage, ShardsConfig, pack_shards
from spurious_imagenet.errors import DataError
from spurious_imagenet.shards import expand_shards, index_shard, open_shard, read_metadata

OPENIMAGES = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    "Thumbnail300KURL,Rotation\n"
    "000a1249af2bc5f0,train,https://x/1.jpg,https://x/1,https://creativecommons.org/licenses/by/2.0/,https://x/p,"
    '"Doe, ""Jane""\nÅ",=HYPERLINK("a"),1,md5==,,0.0\n'
    "000595fe6fee6369,train,https://x/2.jpg,https://x/2,by,https://x/p,,,2,md5,,\n"
)


def images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "meta.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def packed(output: Path) -> dict[str, dict]:
    found = {}
    for url in expand_shards([str(output)]):
        with open_shard(url) as shard:
            for sample in index_shard(shard).samples:
                meta = read_metadata(shard.path, sample).meta
                found[meta["file_name"]] = meta
    return found


def test_openimages_rows_stand_in_the_json(tmp_path: Path) -> None:
    source = images(tmp_path / "src", "000a1249af2bc5f0.jpg", "000595fe6fee6369.jpg", "ffff.jpg")
    config = ShardsConfig(source=source, output=tmp_path / "out", metadata=table(tmp_path, OPENIMAGES))
    assert pack_shards(config).without_metadata == 1
    found = packed(tmp_path / "out")
    row = found["000a1249af2bc5f0.jpg"]
    assert row["Author"] == 'Doe, "Jane"\nÅ'
    assert row["Title"] == '=HYPERLINK("a")'
    assert row["OriginalSize"] == "1"
    assert found["000595fe6fee6369.jpg"]["Rotation"] == ""
    assert len(row) == 13
    assert found["ffff.jpg"] == dict.fromkeys(row, "") | {"file_name": "ffff.jpg"}
    assert sorted(f.name for f in config.output.iterdir()) == ["images-00000.tar", "shards.json", "skipped.jsonl"]


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [
        ("image_id", "a.b", "cat/a.b.jpg"),
        ("file_name", "cat/a.jpg", "cat/a.jpg"),
        ("file_name", "a.jpg", "cat/a.jpg"),
        ("filename", "a", "cat/a.jpg"),
    ],
)
def test_rows_match_by_path_name_or_stem(tmp_path: Path, column: str, value: str, name: str) -> None:
    source = images(tmp_path / "src", name, "dog/other.jpg")
    path = table(tmp_path, f"\ufeff{column},Author\r\n{value},me\r\n\r\n")
    manifest = pack_shards(ShardsConfig(source=source, output=tmp_path / "out", metadata=path))
    assert manifest.without_metadata == 1
    meta = packed(tmp_path / "out")[name]
    assert (meta["Author"], meta["file_name"], meta["class_id"]) == ("me", name, "cat")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ImageID,A\nx,1\ny,2\nx,3\nx,4\n", r"'x' 3 times \(rows 2, 4, 5\)"),
        ("ImageID,A\nx\n", "row 2: got 1 cells, expected 2"),
        ("ImageID,A\nx,1\ny,2,3\n", "row 3: got 3 cells, expected 2"),
        ("ImageID,A\n,1\n", "row 2: ImageID is empty"),
        ("Id,A\nx,1\n", "expected one of ImageID"),
        ("", "expected one of ImageID"),
        ("ImageID,A,A\nx,1,2\n", "column name twice"),
        ('ImageID,A\nx,"1\n', "row 2 cannot be read as CSV: unexpected end of data; is a quotation mark open"),
        (b"ImageID,A\nx,\xff\n", "cannot be read"),
        ("ImageID,A\nx," + "y" * (1 << 21), "field larger"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        AttributionTable(table(tmp_path, text))
    with pytest.raises(DataError, match="cannot be read"):
        AttributionTable(tmp_path / "none.csv")


def test_a_table_must_not_contradict_the_class_folders(tmp_path: Path) -> None:
    path = table(tmp_path, "ImageID,wnid\na,n1\n")
    config = ShardsConfig(source=images(tmp_path / "src", "cat/a.jpg"), output=tmp_path / "out", metadata=path)
    with pytest.raises(DataError, match="wnid"):
        pack_shards(config)
    flat = ShardsConfig(source=images(tmp_path / "flat", "a.jpg"), output=tmp_path / "out2", metadata=path)
    pack_shards(flat)
    assert packed(tmp_path / "out2")["a.jpg"]["wnid"] == "n1"


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    with path.open("w") as file:
        file.write("ImageID,Title\n")
        file.writelines(f"{i:016x},{'t' * 200}\n" for i in range(20_000))
    tracemalloc.start()
    with AttributionTable(path, scratch=tmp_path) as rows:
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()
        assert rows.match([f"{19_999:016x}.jpg", "nope.jpg"]).unused == 19_999
        assert rows.find(f"{19_999:016x}.jpg") == {"ImageID": f"{19_999:016x}", "Title": "t" * 200}
        assert rows.find("nope.jpg") is None
    assert [f.name for f in tmp_path.iterdir()] == ["big.csv"]


def test_cells_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    cells = ["=1+1", "@SUM(A1)", "1e999", "NaN", "true", "<script>", "\\ud800", "', '"]
    path = table(tmp_path, "image_id,cell\n" + "".join(f'{i},"{c}"\n' for i, c in enumerate(cells)))
    with AttributionTable(path) as rows:
        rows.match(f"{i}.jpg" for i in range(len(cells)))
        found = [rows.find(f"{i}.jpg")["cell"] for i in range(len(cells))]
    assert found == cells
    assert json.loads(json.dumps(found)) == cells


@pytest.mark.parametrize(
    ("rows", "files", "expected"),
    [
        ("cat/1.jpg,a\ndog/1.jpg,b", ("cat/1.jpg", "dog/1.jpg"), ("a", "b")),
        ("dog/1.jpg,b", ("cat/1.jpg", "dog/1.jpg"), ("", "b")),
        ("cat\\1.jpg,a\n./dog/1.jpg,b", ("cat/1.jpg", "dog/1.jpg"), ("a", "b")),
        ("cat/1,a\ndog/1,b", ("cat/1.jpg", "dog/1.png"), ("a", "b")),
        ("1.jpg,a\n1.png,b", ("cat/1.jpg", "dog/1.png"), ("a", "b")),
        ("cat/x/1.jpg,a\n1.jpg,b", ("cat/x/1.jpg", "dog/2.jpg"), ("a", "")),
    ],
)
def test_rows_are_of_the_image_whose_path_they_give(
    tmp_path: Path, rows: str, files: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    source = images(tmp_path / "src", *files)
    path = table(tmp_path, f"file_name,Author\n{rows}\n")
    pack_shards(ShardsConfig(source=source, output=tmp_path / "out", metadata=path))
    found = packed(tmp_path / "out")
    assert tuple(found[file]["Author"] for file in files) == expected


@pytest.mark.parametrize(
    ("rows", "files", "said"),
    [
        ("1.jpg,a", ("cat/1.jpg", "dog/1.jpg"), "row 2: '1.jpg' may be 'cat/1.jpg' or 'dog/1.jpg'"),
        ("1,a", ("cat/1.jpg", "dog/1.png"), "row 2: '1' may be 'cat/1.jpg' or 'dog/1.png'"),
        ("cat/1.jpg,a\n1.jpg,b", ("cat/1.jpg", "dog/1.jpg"), "row 3: '1.jpg' may be 'dog/1.jpg' or 'cat/1.jpg'"),
        ("cat/1,a", ("cat/1.jpg", "cat/1.png"), "row 2 may be of 'cat/1.jpg' or 'cat/1.png'"),
        ("1.jpg,a\nbird/1.jpg,b", ("cat/1.jpg",), "'cat/1.jpg' may be that of row 2, .* beside 'bird/1.jpg'"),
        ("cat/1.jpg,a\ncat\\1.jpg,b", ("cat/1.jpg",), r"'cat/1.jpg' 2 times \(rows 2, 3\)"),
        ("x,a\ny,b", ("cat/1.jpg", "dog/2.jpg"), "2 rows, but none of the 2 images .*'x', 'y'.*'cat/1.jpg'"),
        ("", ("cat/1.jpg",), "0 rows, but none of the 1 images"),
    ],
)
def test_a_row_that_may_be_of_two_images_or_of_none_stops_the_packing(
    tmp_path: Path, rows: str, files: tuple[str, ...], said: str
) -> None:
    path = table(tmp_path, f"file_name,Author\n{rows}\n")
    with pytest.raises(DataError, match=said):
        pack_shards(ShardsConfig(source=images(tmp_path / "src", *files), output=tmp_path / "out", metadata=path))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimageid;author\r\n007;NA\r\n;\r\n;;\r\n",
        "Image ID\tAuthor\r007\tNA\r",
        "sep=;\nIMAGEID;AUTHOR\n007;NA\n\n",
        'ImageID, Author\n007, "NA"\n,\n',
        "ImageID,Author,\n007,NA,,\n",
    ],
)
def test_a_table_is_read_as_spreadsheets_save_it(tmp_path: Path, text: str) -> None:
    with AttributionTable(table(tmp_path, text)) as rows:
        assert rows.match(["a/007.jpg"]).without_row == 0
        assert [*rows.find("a/007.jpg").values()] == ["007", "NA"]


def test_the_survey_comes_before_the_packing_and_counts_both_sides(tmp_path: Path) -> None:
    seen = []
    path = table(tmp_path, "image_id,Author\n1,me\nx,you\ny,you\n")
    config = ShardsConfig(source=images(tmp_path / "src", "1.jpg", "2.jpg"), output=tmp_path / "out", metadata=path)
    manifest = pack_shards(config, on_survey=lambda s: seen.append((s, [*config.output.glob("*.tar")])))
    ((survey, tars),) = seen
    assert (survey.types, tars) == ({"jpg": 2}, [])
    assert survey.coverage == Coverage(2, 1, ("2.jpg",), 3, 2, ("x", "y"))
    assert (manifest.without_metadata, manifest.unused_rows, manifest.types) == (1, 2, {"jpg": 2})
