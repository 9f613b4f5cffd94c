"""Images whose EXIF orientation others apply: read as stored, counted, and said on the card."""

from __future__ import annotations

from pathlib import Path

import datasets
from helpers import encoded, picture, run_spurious, weights_file, write_tar
from PIL import Image

from spurious_imagenet.data_cards._responsible import responsible
from spurious_imagenet.datasets.manifest import DatasetManifest
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.images import DecodeLimits, decode_image


def _tagged(seed: int, orientation: int | None) -> bytes:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    return encoded(picture(seed, (90, 60)), exif=exif)


def test_a_run_counts_them_and_says_so(tmp_path: Path) -> None:
    model = weights_file(tmp_path / "m.safetensors")
    tags = [None, 1, 3, 6, 8, 0]
    shard = write_tar(tmp_path / "s.tar", [(f"{i}.jpg", _tagged(i, tag)) for i, tag in enumerate(tags)])
    ran = run_spurious("features", "--model", model, "--shards", shard, "--out", tmp_path / "store")
    assert ran.code == 0, ran.err
    (part,) = FeatureStore.open(tmp_path / "store").parts
    assert (part.receipt.scored, part.receipt.turned) == (6, 3)
    assert "3 scored as stored: their EXIF orientation, which viewers apply, is not applied here" in ran.err


def test_a_receipt_of_before_still_opens(tmp_path: Path) -> None:
    model = weights_file(tmp_path / "m.safetensors")
    shard = write_tar(tmp_path / "s.tar", [("0.jpg", _tagged(0, 6))])
    run_spurious("features", "--model", model, "--shards", shard, "--out", tmp_path / "store")
    (receipt,) = tmp_path.glob("store/parts/*/receipt.json")
    lines = [line for line in receipt.read_text().splitlines() if '"turned"' not in line]
    receipt.write_text("\n".join(lines), encoding="utf-8")
    (part,) = FeatureStore.open(tmp_path / "store").parts
    assert part.receipt.turned is None


def test_what_the_card_says_of_datasets_is_so(tmp_path: Path) -> None:
    """The Image feature applies the tag, and our decoder does not: the reason for the sentence on the card."""
    (tmp_path / "a.jpg").write_bytes(_tagged(1, 6))
    loaded = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.jpg")]}).cast_column("image", datasets.Image())
    assert loaded[0]["image"].size == (60, 90)
    assert decode_image((tmp_path / "a.jpg").read_bytes(), DecodeLimits()).shape == (60, 90, 3)


def _limits(counts: dict[str, int]) -> str:
    manifest = DatasetManifest(
        kind="spurious-images", name="n", version="1.0.0", code_version="0", files=(), counts=counts
    )
    return " ".join(responsible(manifest, review=None, sources=None).limitations)


def test_the_card_gives_their_number() -> None:
    assert "No image has an EXIF orientation tag" in _limits({"turned": 0})
    assert "1 image has an EXIF orientation tag" in _limits({"turned": 1})
    assert "12 images have an EXIF orientation tag" in _limits({"turned": 12})
    assert "An image may have an EXIF orientation tag" in _limits({})
