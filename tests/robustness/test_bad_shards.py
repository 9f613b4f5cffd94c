"""Whatever a shard holds: a counted reject or one clear sentence, and the other shards are scored."""

from __future__ import annotations

import io
import pickle
import re
import struct
import tarfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_runs import Touch, World
from helpers import encoded, jpeg, labelled_shard, picture, weights_file, write_tar
from PIL import Image

from spurious_imagenet.features.store import FeatureStore

#: Members of the bad shard -> the reason of their reject, None for what is scored, "" for what is not a sample at all.
EXPECTED = {
    "truncated.jpg": "cannot be decoded",
    "text.jpg": "not an image",
    "cmyk.jpg": None,
    "deep.png": None,
    "deep-rgb.png": None,
    "palette.png": None,
    "transparent.png": None,
    "animated.gif": None,
    "rotated.jpg": None,
    "dot.png": "1x1 px",
    "bomb.png": "decompression bomb",
    "nothing.jpg": "empty file",
    "twin.jpg": None,
    "between.jpg": None,
    "twin.jpg#2": "duplicate key",
    "../evil.jpg": "unsafe member name",
    "/absolute.jpg": "unsafe member name",
    "armed.jpg": None,
    "armed.pkl": "",
    "armed.pth": "",
    "lonely.json": "no image",
    "lonely-code.pkl": "no image",
    "good.jpg": None,
}


def claimed_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def animation() -> bytes:
    frames = [picture(s).convert("P") for s in (20, 21, 22)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    return encoded(picture(30, (80, 64)), exif=exif)


def bad_members(marker: Path) -> dict[str, bytes]:
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (64, 64), dtype=np.uint16))
    transparent = picture(11).convert("P")
    transparent.info["transparency"] = 0
    torch_file = io.BytesIO()
    torch.save(Touch(marker), torch_file)
    return {
        "truncated.jpg": jpeg(1)[:-200],
        "text.jpg": b"It is a long way from here to the next picture.",
        "cmyk.jpg": encoded(picture(2).convert("CMYK"), "JPEG"),
        "deep.png": encoded(deep, "PNG"),
        "deep-rgb.png": encoded(picture(12).convert("RGBA"), "PNG"),
        "palette.png": encoded(picture(10).convert("P"), "PNG"),
        "transparent.png": encoded(transparent, "PNG", transparency=0),
        "animated.gif": animation(),
        "rotated.jpg": rotated(),
        "dot.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
        "bomb.png": claimed_png(20000, 20000),
        "nothing.jpg": b"",
        "twin.jpg": jpeg(3),
        "between.jpg": jpeg(4),
        "twin.jpg#2": jpeg(5),
        "../evil.jpg": jpeg(6),
        "/absolute.jpg": jpeg(7),
        "armed.jpg": jpeg(8),
        "armed.pkl": pickle.dumps(Touch(marker)),
        "armed.pth": torch_file.getvalue(),
        "lonely.json": b'{"class_id": "apple"}',
        "lonely-code.pkl": pickle.dumps(Touch(marker)),
        "good.jpg": jpeg(9),
    }


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, weights_file(tmp_path / "m.safetensors"))


def test_each_bad_member_is_scored_or_rejected_with_its_reason(world: World) -> None:
    marker = world.root / "code-was-run"
    members = bad_members(marker)
    assert members.keys() == EXPECTED.keys()
    shards = world.root / "shards"
    write_tar(shards / "bad.tar", [(name.removesuffix("#2"), data) for name, data in members.items()])
    write_tar(shards / "empty.tar", [])
    labelled_shard(shards / "good.tar", range(5))
    ran = world.features(shards=shards)
    assert ran.code == 0, ran.err
    parts = world.parts()
    bad = parts["bad"].receipt
    reasons = {reject.key: reject.reason for reject in bad.rejects}
    scored = set(parts["bad"].rows(["member"]).column("member").to_pylist())
    for name, reason in EXPECTED.items():
        member = name.removesuffix("#2")
        if reason is None:
            assert member in scored, f"{name}: {reasons}"
        elif reason:
            key = member if member in reasons else member.rpartition(".")[0]
            assert reasons.pop(key).startswith(reason), name
    assert not reasons
    assert bad.samples == sum(reason != "" for reason in EXPECTED.values()) == bad.scored + len(bad.rejects)
    assert parts["bad"].features().shape == (bad.scored, FeatureStore.open(world.root / "store").config.feature_dim)
    assert (parts["empty"].receipt.samples, len(parts["empty"].features())) == (0, 0)
    assert parts["good"].receipt.scored == 5
    assert not marker.exists()
    assert not list(world.root.glob("**/evil.jpg"))
    rejected = len(bad.rejects)
    assert f"{bad.scored + 5} images scored, {rejected} rejected in 3 shards" in ran.out
    counts = re.findall(r"^ +(\d+) rejected: (.+)$", ran.err, re.MULTILINE)
    assert Counter({reason: int(n) for n, reason in counts}).total() == rejected


def test_what_decoding_leaves_open_is_as_documented(world: World) -> None:
    members = bad_members(world.root / "unused")
    images = {
        "rotated.jpg": members["rotated.jpg"],
        "upright.jpg": encoded(picture(30, (80, 64))),
        "animated.gif": members["animated.gif"],
        "first.png": encoded(Image.open(io.BytesIO(members["animated.gif"])).convert("RGB"), "PNG"),
    }
    world.features(shards=write_tar(world.root / "s.tar", images.items()))
    part = world.parts()["s"]
    assert part.rows(["width", "height"]).to_pylist()[0] == {"width": 80, "height": 64}
    turned, upright, moving, still = part.features()
    assert np.array_equal(turned, upright), "EXIF orientation is not applied"
    assert np.array_equal(moving, still), "of an animation the first frame counts"


def damaged(data: bytes) -> dict[str, tuple[bytes, int]]:
    """Damage a tar of labelled images; name → bytes, and images that lie whole before the damage."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    sixth = members[10]  # the sixth image; every image is followed by its JSON
    corrupt = bytearray(data)
    corrupt[sixth.offset : sixth.offset + 100] = b"\xff" * 100
    return {
        "inside": (data[: sixth.offset_data + sixth.size // 2], 5),
        "boundary": (data[: sixth.offset], 5),
        "header": (bytes(corrupt), 5),
        "unended": (data[: members[-1].offset_data + 512], 12),
    }


def test_damaged_shards_are_named_and_the_others_scored(world: World) -> None:
    good = labelled_shard(world.root / "shards" / "m-good.tar", range(12))
    cases = damaged(good.read_bytes())
    for name, (data, _) in cases.items():
        (world.root / "shards" / f"{name}.tar").write_bytes(data)
    ran = world.features(shards=world.root / "shards")
    error = ran.the_error()
    assert error.startswith(f"{len(cases)} shards could not be read and have no part, the first: ")
    assert world.parts().keys() == {"m-good"}
    assert len(world.parts()["m-good"]) == 12
    for name in cases:
        path = world.root / "shards" / f"{name}.tar"
        said = re.search(rf"^  failed: {path}: (.*)$", ran.err, re.MULTILINE)
        assert said, name
        assert said[1].startswith(f"shard {path} is damaged at byte "), name


def test_salvage_scores_what_lies_before_the_damage(world: World) -> None:
    good = labelled_shard(world.root / "shards" / "m-good.tar", range(12))
    cases = damaged(good.read_bytes())
    for name, (data, _) in cases.items():
        (world.root / "shards" / f"{name}.tar").write_bytes(data)
    assert world.features("--salvage", shards=world.root / "shards").code == 0
    parts = world.parts()
    whole = parts["m-good"].features()
    for name, (_, images) in cases.items():
        receipt = parts[name].receipt
        assert (receipt.scored, len(receipt.rejects)) == (images, 1), name
        assert "is damaged at byte" in receipt.rejects[0].reason
        assert np.array_equal(parts[name].features(), whole[:images])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\x1f\x8b" + bytes(600), "is compressed"),
        (b"plain text " * 60, "is damaged at byte 0"),
    ],
    ids=["zero-bytes", "gzip", "text"],
)
def test_what_is_no_tar_is_said_to_be_none(world: World, content: bytes, said: str) -> None:
    path = world.root / "x.tar"
    path.write_bytes(content)
    assert said in world.features(shards=path).the_error()


def test_too_many_rejects_are_an_error_but_keep_the_receipts(world: World) -> None:
    shard = write_tar(world.root / "s.tar", [(f"{i}.jpg", b"no image") for i in range(3)] + [("good.jpg", jpeg(1))])
    assert (
        "3 of 4 samples were rejected, more than the allowed share of 0.5" in world.features(shards=shard).the_error()
    )
    assert len(world.parts()["s"].receipt.rejects) == 3
    assert world.features("--max-reject-fraction", 0.75, shards=shard).code == 0
