from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import datasets
import imagehash
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import encoded, jpeg, picture, run_spurious, tree, weights_file
from PIL import Image

from spurious_imagenet.builders.imports import ImagesConfig, import_spurious_images
from spurious_imagenet.builders.imports._archive import ArchiveLimits
from spurious_imagenet.builders.publish.schema import FEATURES
from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.models.labels import imagenet_label_space

LABELS = imagenet_label_space("imagenet-1k")
#: Folders as the official archive names them: class index third, component last.
FOLDERS = ("spurious_class_94_hummingbird_comp_2", "spurious_class_8_comp_0", "spurious_class_94_hummingbird_comp_10")


def official(per_folder: int = 4) -> dict[str, bytes]:
    """Images by their path in the archive, of every kind of coding."""
    made = {}
    for n, folder in enumerate(FOLDERS):
        for i in range(per_folder):
            image = picture(10 * n + i, (40 + i, 32))
            kind = ("JPEG", "PNG", "WEBP", "JPEG")[i % 4]
            made[f"images/{folder}/{i:03d}.{kind.lower()}"] = encoded(image, kind)
    return made


def as_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def as_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def config(source: Path, **options: object) -> ImagesConfig:
    return ImagesConfig.model_validate({"source": str(source)} | options)


def rows(folder: Path) -> list[dict[str, object]]:
    return pq.read_table(folder / "data").to_pylist()


@pytest.mark.parametrize("form", [as_folder, as_zip])
def test_every_image_becomes_a_row_of_the_published_form(tmp_path: Path, form: Callable[..., Path]) -> None:
    files = official()
    result = import_spurious_images(config(form(tmp_path / "archive", files)), tmp_path / "out")
    table = pq.read_table(tmp_path / "out/data")
    assert table.schema.equals(FEATURES.arrow_schema)
    found = table.to_pylist()
    assert [(r["class_id"], r["component"]) for r in found[::4]] == [
        (LABELS.class_ids[8], 0), (LABELS.class_ids[94], 2), (LABELS.class_ids[94], 10),
    ]  # fmt: skip
    by_key = {name.partition("/")[2].rpartition(".")[0]: (name, data) for name, data in files.items()}
    assert {r["key"] for r in found} == set(by_key)
    known = {"image", "class_id", "class_name", "concept_id", "component", "key", "width", "height", "sha256"}
    for row in found:
        name, data = by_key[row["key"]]
        assert row["image"] == {"bytes": data, "path": name.rpartition("/")[2]}
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        image = Image.open(io.BytesIO(data))
        assert (row["width"], row["height"]) == image.size
        hashed = imagehash.hex_to_hash(row["perceptual_hash"]) - imagehash.phash(image)
        assert hashed <= 2  # decoders may round differently
        assert row["concept_id"] == f"npca/{row['class_id']}/{row['component']}"
        assert row["class_name"] in {"hen", "hummingbird"}
        assert {c for c, v in row.items() if v is not None} == known | {"perceptual_hash"}
    assert result.images == len(files)
    assert result.rejects == ()
    assert result.concepts["images"].tolist() == [4, 4, 4]


def test_two_images_of_one_name_have_keys_of_their_own(tmp_path: Path) -> None:
    where = f"images/{FOLDERS[0]}"
    files = {f"{where}/1.jpg": jpeg(1), f"{where}/1.jpeg": jpeg(2), f"{where}/2.jpg": jpeg(3)}
    import_spurious_images(config(as_zip(tmp_path / "a.zip", files)), tmp_path / "out")
    keys = sorted(str(row["key"]).rpartition("/")[2] for row in rows(tmp_path / "out"))
    assert keys == ["1.jpeg", "1.jpg", "2"]


def test_equal_archives_give_equal_bytes(tmp_path: Path) -> None:
    files = official() | {"README.txt": b"x", f"images/{FOLDERS[0]}/notes.txt": b"y"}
    turned = dict(reversed(files.items()))
    sources = [as_zip(tmp_path / "a.zip", files), as_zip(tmp_path / "b.zip", turned, zipfile.ZIP_STORED)]
    sources += [as_folder(tmp_path / "c", files), as_folder(tmp_path / "d", turned)]
    for n, source in enumerate(sources):
        import_spurious_images(config(source), tmp_path / f"out-{n}")
    first = tree(tmp_path / "out-0")
    assert len(first) == 4
    assert all(tree(tmp_path / f"out-{n}") == first for n in range(1, 4))


@pytest.mark.parametrize("prefix", ["", "images/", "spurious_imagenet/images/"])
def test_the_folder_of_images_may_lie_anywhere(tmp_path: Path, prefix: str) -> None:
    files = {name.replace("images/", prefix): data for name, data in official(1).items()}
    assert import_spurious_images(config(as_folder(tmp_path / "a", files)), tmp_path / "out").images == 3
    assert import_spurious_images(config(as_zip(tmp_path / "a.zip", files)), tmp_path / "zip").images == 3


def test_datasets_and_evaluate_read_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_spurious("import", "spurious-imagenet", as_zip(tmp_path / "a.zip", official()), "--out", out).code == 0
    opened = datasets.load_dataset(str(out), split="test", cache_dir=str(tmp_path / "cache"))
    assert len(opened) == 12
    assert opened[1]["image"].size == (41, 32)
    assert opened[0]["alpha"] is None
    ids = [LABELS.class_ids[i] for i in (8, 94)]
    val = as_folder(
        tmp_path / "val", {f"{c}/{i}.jpg": jpeg(99 + 10 * k + i) for k, c in enumerate(ids) for i in range(3)}
    )
    record = tmp_path / "record.json"
    model = weights_file(tmp_path / "m.safetensors", classes=(*ids, "n01440764"))
    ran = run_spurious(
        "evaluate", "--model", model, "--dataset", out, "--val", val, "--out", record, "--protocol", "paper"
    )
    assert ran.code == 0, ran
    found = json.loads(record.read_text())
    assert {c["class_id"]: c["spurious_images"] for c in found["classes"]} == {ids[0]: 4, ids[1]: 8}


def test_the_card_and_the_count_of_rejects_are_written(tmp_path: Path) -> None:
    files = official() | {
        "README.md": b"#",
        "images/stray.jpg": jpeg(0),
        "images/spurious_class_x_comp_1/a.jpg": jpeg(0),
        "images/spurious_class_1000_comp_1/a.jpg": jpeg(0),
        "images/class_comp_1/a.jpg": jpeg(0),
        f"images/{FOLDERS[0]}/text.jpg": b"not an image",
        f"images/{FOLDERS[0]}/half.jpg": jpeg(0, (200, 200))[:-900],
        f"images/{FOLDERS[0]}/tiny.png": encoded(picture(0, (4, 4)), "PNG"),
        f"images/{FOLDERS[0]}/.hidden.jpg": jpeg(0),
        f"__MACOSX/images/{FOLDERS[0]}/._000.jpeg": b"\0",
    }
    out = tmp_path / "out"
    ran = run_spurious(
        "import", "spurious-imagenet", as_zip(tmp_path / "a.zip", files), "--out", out, "--name", "A *b*"
    )
    assert ran.code == 0, ran
    assert "12 images of 3 components of 2 classes; 10 files rejected." in ran.out
    assert ran.err.count("rejected: ") == 10
    written = json.loads((out / "import.json").read_text())
    assert written["images"] == 12
    reasons = {r["name"].rpartition("/")[2]: r["reason"] for r in written["rejects"]}
    assert {r["name"] for r in written["rejects"]} == set(files) - set(official())
    assert reasons["README.md"] == "not in the folder of a component"
    assert reasons["text.jpg"].startswith("not an image")
    assert reasons["half.jpg"].startswith("cannot be decoded")
    assert reasons["tiny.png"].startswith("4x4 px: expected sides")
    assert [r["reason"] for r in written["rejects"] if "1000" in r["name"]] == [
        "class 1000 is unknown: expected an index below 1000"
    ]
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["configs"][0]["data_files"][0]["path"].startswith("data/test-00000-of-00001-")
    assert "# A \\*b\\*" in card
    assert "\n10 other files of the archive" in card
    assert "| hen | n01514859 | npca/n01514859/0 | 4 |" in card


def test_too_many_rejects_or_no_image_is_an_error(tmp_path: Path) -> None:
    bad = {f"images/{FOLDERS[0]}/{i}.jpg": b"no" for i in range(13)}
    source = as_zip(tmp_path / "a.zip", official() | bad)
    with pytest.raises(DataError, match="13 of 25 files are not images of a component, more than 50%; the first is"):
        import_spurious_images(config(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert import_spurious_images(config(source, max_reject_fraction=0.6), tmp_path / "out").images == 12
    with pytest.raises(DataError, match="13 of 13 files are not images"):
        import_spurious_images(config(as_zip(tmp_path / "b.zip", bad), max_reject_fraction=1.0), tmp_path / "none")
    with pytest.raises(DataError, match="no files of components"):
        import_spurious_images(config(as_zip(tmp_path / "c.zip", {"a.jpg": jpeg(0)})), tmp_path / "none")
    with pytest.raises(StoreError, match="already exists"):
        import_spurious_images(config(source, max_reject_fraction=0.6), tmp_path / "out")
    twice = official(1) | {f"old/{name}": data for name, data in official(1).items()}
    with pytest.raises(DataError, match="in both 'images' and 'old/images'"):
        import_spurious_images(config(as_folder(tmp_path / "twice", twice)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def link(name: str, target: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    info.comment = target.encode()
    return info


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"../{FOLDERS[0]}/a.jpg", "relative to the zip"),
        (f"images/{FOLDERS[0]}/../../../../a.jpg", "relative to the zip"),
        (f"/{FOLDERS[0]}/a.jpg", "relative to the zip"),
        (f"C:/{FOLDERS[0]}/a.jpg", "relative to the zip"),
        (f"images/{FOLDERS[0]}\\..\\a.jpg", "relative to the zip"),
        (f"images/{FOLDERS[0]}/a\x1b[2J.jpg", "printable"),
        (link(f"images/{FOLDERS[0]}/a.jpg", "/etc/passwd"), "a link or device"),
        (f"images/{FOLDERS[0]}/000.jpeg", "twice"),
    ],
)
def test_a_zip_with_a_hostile_name_is_refused(tmp_path: Path, name: str | zipfile.ZipInfo, words: str) -> None:
    source = as_zip(tmp_path / "a.zip", official())
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(name, jpeg(0))
    before = tree(tmp_path)
    error = run_spurious("import", "spurious-imagenet", source, "--out", tmp_path / "out").the_error()
    assert words in error
    assert "\x1b" not in error
    assert tree(tmp_path) == before


def test_links_and_devices_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    secret = as_folder(tmp_path / "elsewhere", {"spurious_class_1_comp_1/secret.jpg": jpeg(7)})
    root = as_folder(tmp_path / "a", official(1))
    (root / "images" / FOLDERS[0] / "link.jpg").symlink_to(secret / "spurious_class_1_comp_1/secret.jpg")
    (root / "images/spurious_class_1_comp_1").symlink_to(secret / "spurious_class_1_comp_1")
    os.mkfifo(root / "images" / FOLDERS[0] / "pipe.jpg")
    as_folder(root, {f"images/x/y/{FOLDERS[0]}/deep.jpg": jpeg(1)})
    result = import_spurious_images(config(root, max_reject_fraction=1.0), tmp_path / "out")
    assert result.images == 3
    assert {name.rpartition("/")[2]: reason for name, reason in result.rejects} == {
        "link.jpg": "link: links are not followed",
        "spurious_class_1_comp_1": "link: links are not followed",
        "pipe.jpg": "no regular file, or a second one of this name",
        FOLDERS[0]: "folder below 3 others",
    }


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is large and ends soon after."""
    data = bytearray(encoded(picture(0, (16, 16)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


BOMBS = {"pixels": (60_000, 60_000), "many": (8000, 8000)}


def test_bombs_are_rejects_and_the_rest_is_imported(tmp_path: Path) -> None:
    good = official()
    where = f"images/{FOLDERS[1]}"
    source = as_zip(tmp_path / "a.zip", good | {f"{where}/{n}.png": png_header(*s) for n, s in BOMBS.items()})
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(f"{where}/zeros.bmp", bytes(20 << 20), zipfile.ZIP_DEFLATED)
        archive.writestr(f"{where}/large.bmp", os.urandom(33 << 20), zipfile.ZIP_STORED)
        archive.writestr(f"{where}/other.jpg", jpeg(3), zipfile.ZIP_LZMA)
        archive.writestr(f"{where}/locked.jpg", jpeg(3))
        archive.writestr(f"{where}/liar.jpg", jpeg(3))
        archive.writestr(f"{where}/broken.jpg", jpeg(3))
    data = bytearray(source.read_bytes())
    entry = {n: data.rindex(f"{where}/{n}.jpg".encode()) - 46 for n in ("locked", "liar", "broken")}
    data[entry["locked"] + 8] |= 1
    data[entry["liar"] + 24 : entry["liar"] + 28] = struct.pack("<I", 100)
    data[data.index(f"{where}/broken.jpg".encode()) + 60] ^= 0xFF
    source.write_bytes(data)
    result = import_spurious_images(config(source), tmp_path / "out")
    assert result.images == len(good)
    reasons = {name.rpartition("/")[2].partition(".")[0]: reason for name, reason in result.rejects}
    expected = {
        "pixels": "decompression bomb: expected at most 50000000 pixels",
        "many": "8000x8000 px: expected at most 50000000 pixels",
        "zeros": "expected at most 100 times as many",
        "large": "34603008 bytes: expected at most 33554432",
        "other": "compression 14: expected stored or deflated",
        "locked": "encrypted",
        "liar": "cannot be unpacked: ",
        "broken": "cannot be unpacked: ",
    }
    assert set(reasons) == set(expected)
    assert all(words in reasons[name] for name, words in expected.items()), reasons


def test_zips_that_are_too_much_as_a_whole_are_refused(tmp_path: Path) -> None:
    source = as_zip(tmp_path / "a.zip", official())
    for limits, words in (
        (ArchiveLimits(max_files=11), "holds 12 files: expected at most 11"),
        (ArchiveLimits(max_total_bytes=100), "bytes: expected at most 100"),
    ):
        with pytest.raises(DataError, match=words):
            import_spurious_images(config(source, limits=limits), tmp_path / "out")
    as_folder(tmp_path / "a", official())
    with pytest.raises(DataError, match="more than 11 files"):
        import_spurious_images(config(tmp_path / "a", limits=ArchiveLimits(max_files=11)), tmp_path / "out")
    names = as_zip(tmp_path / "names.zip", {f"{i:03d}" + "x" * 60_000: b"" for i in range(300)})
    with pytest.raises(DataError, match=r"table of contents of 1\d{7} bytes: expected at most 16777216"):
        import_spurious_images(config(names), tmp_path / "out")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "half.zip").write_bytes(as_zip(tmp_path / "a.zip", official()).read_bytes()[:-30])
    for name in ("text.zip", "half.zip"):
        with pytest.raises(DataError, match="is not a zip that can be read"):
            import_spurious_images(config(tmp_path / name), tmp_path / "out")
    with pytest.raises(DataError, match="there is no folder or zip"):
        import_spurious_images(config(tmp_path / "missing"), tmp_path / "out")


def test_damaged_zips_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = as_zip(tmp_path / "a.zip", official(1)).read_bytes()
    start = whole.index(b"PK\x01\x02")
    outcomes = set()
    for n in range(120):
        data = bytearray(whole)
        for _ in range(3):
            data[int(rng.integers(start if n % 2 else 0, len(data)))] = int(rng.integers(256))
        (tmp_path / "b.zip").write_bytes(data)
        try:
            result = import_spurious_images(config(tmp_path / "b.zip", max_reject_fraction=1.0), tmp_path / f"o{n}")
            outcomes.add(result.images)
        except DataError:
            outcomes.add(-1)
    assert {-1, 2, 3} <= outcomes


def test_row_groups_are_bounded_in_rows_and_bytes(tmp_path: Path) -> None:
    folder = f"images/{FOLDERS[1]}"
    many = {f"{folder}/{i:03d}.png": encoded(picture(i, (8, 8)), "PNG") for i in range(230)}
    import_spurious_images(config(as_folder(tmp_path / "many", many)), tmp_path / "out")
    large = encoded(Image.new("RGB", (3000, 3000)), "BMP")
    few = {f"{folder}/{i}.bmp": large for i in range(5)}
    import_spurious_images(config(as_folder(tmp_path / "few", few)), tmp_path / "out2")
    for out, wanted in (("out", [100, 100, 30]), ("out2", [2, 2, 1])):
        with pq.ParquetFile(next((tmp_path / out / "data").iterdir())) as file:
            assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == wanted
