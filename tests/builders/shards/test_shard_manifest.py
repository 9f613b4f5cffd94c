from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from spurious_imagenet.builders.shards import ShardManifest, ShardsConfig, pack_shards, verify_manifest
from spurious_imagenet.cli.shards import shards, verify_shards
from spurious_imagenet.errors import DataError


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    source = tmp_path / "src"
    for i in range(12):
        file = source / f"c{i % 2}" / f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.Random(i).randbytes(900))
    pack_shards(ShardsConfig(source=source, output=tmp_path / "out", images_per_shard=5))
    return tmp_path / "out"


def test_whole_shards_have_no_problem(packed: Path) -> None:
    seen: list[str] = []
    assert verify_manifest(packed, progress=lambda record: seen.append(record.name)) == []
    assert verify_manifest(packed / "shards.json") == []
    assert len(seen) == 3


def test_every_single_flipped_bit_is_noticed(packed: Path) -> None:
    rng = random.Random(7)
    tars = sorted(packed.glob("*.tar"))
    noticed = 0
    for _ in range(200):
        tar = rng.choice(tars)
        at, bit = rng.randrange(tar.stat().st_size), 1 << rng.randrange(8)
        descriptor = os.open(tar, os.O_RDWR)
        whole = os.pread(descriptor, 1, at)
        os.pwrite(descriptor, bytes([whole[0] ^ bit]), at)
        noticed += verify_manifest(packed) == [
            f"{tar.name}: its content has changed, the SHA-256 is not the manifest's."
        ]
        os.pwrite(descriptor, whole, at)
        os.close(descriptor)
    assert noticed == 200
    assert verify_manifest(packed) == []


def test_missing_cut_and_added_shards_are_named(packed: Path) -> None:
    (packed / "images-00000.tar").unlink()
    cut = packed / "images-00001.tar"
    cut.write_bytes(cut.read_bytes()[:-512])
    (packed / "more.tar").write_bytes(b"x")
    problems = verify_manifest(packed)
    assert [p.split(":")[0] for p in problems] == ["images-00000.tar", "images-00001.tar", "more.tar"]
    assert "cannot be read" in problems[0]
    assert "bytes, expected" in problems[1]


@pytest.mark.parametrize(
    "change", [("images-00000", "../images-00000"), ('"schema_version": 1', '"schema_version": 2')]
)
def test_a_manifest_that_leads_elsewhere_is_refused(packed: Path, change: tuple[str, str]) -> None:
    manifest = packed / "shards.json"
    manifest.write_text(manifest.read_text().replace(*change))
    with pytest.raises(DataError, match="not a shard manifest"):
        verify_manifest(packed)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shards\.json"):
        ShardManifest.load(tmp_path)


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("shards")(shards)
    app.command("verify-shards")(verify_shards)
    return app


def test_commands_pack_and_verify(packed: Path, tmp_path: Path, app: typer.Typer) -> None:
    (tmp_path / "src/c0/note.txt").write_text("x")
    (tmp_path / "meta.csv").write_text("ImageID,License\n1,by\n")
    arguments = ["shards", str(tmp_path / "src"), str(tmp_path / "out2"), "--metadata", str(tmp_path / "meta.csv")]
    result = CliRunner().invoke(app, [*arguments, "--images-per-shard", "5", "--prefix", "p"])
    assert result.exit_code == 0, result.output
    assert "12 images packed into 3 shards, 1 files skipped" in result.output
    assert "1 skipped: not an image file name" in result.output
    assert "11 of 12 images have no row" in result.output
    whole = CliRunner().invoke(app, ["verify-shards", str(tmp_path / "out2")])
    assert (whole.exit_code, "3 shards are as they were written" in whole.output) == (0, True)
    (tmp_path / "out2" / "p-00001.tar").write_bytes(b"")
    torn = CliRunner().invoke(app, ["verify-shards", str(tmp_path / "out2" / "shards.json")])
    assert torn.exit_code == 1
    assert "p-00001.tar: has 0 bytes" in torn.output
