"""Small real things that several tests build on: images, tars, weight files."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from process_state import changes, process_state

from spurious_imagenet.cli import main
from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.weights_file import WeightsFileInfo, save_weights

CLASSES = ("apple", "bird", "cup", "dog")

# Tests run side by side: with more threads than processors torch's threads mostly wait for each other.
torch.set_num_threads(1)


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Return a smooth random picture of (width, height), different for every seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Return the image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(seed: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """Return a random picture as JPEG."""
    return encoded(picture(seed, size), quality=90)


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Write a tar of regular files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def labelled_shard(path: Path, seeds: Sequence[int], classes: Sequence[str] = CLASSES) -> Path:
    """Write a shard of random pictures, labelled in turn with the classes."""
    members: list[tuple[str, bytes]] = []
    for i, seed in enumerate(seeds):
        key, class_id = f"{path.stem}-{i:04d}", classes[i % len(classes)]
        members += [(f"{key}.jpg", jpeg(seed)), (f"{key}.json", json.dumps({"class_id": class_id}).encode())]
    return write_tar(path, members)


def weights_file(
    path: Path, arch: str = "test_resnet", seed: int = 0, classes: Sequence[str] = CLASSES, size: int = 64
) -> str:
    """Write a small random classifier; return its spec."""
    torch.manual_seed(seed)
    model = timm.create_model(arch, pretrained=False, num_classes=len(classes))
    info = WeightsFileInfo(arch=arch, class_ids=tuple(classes), image_size=size, crop_pct=1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, model, info)
    return f"file:{path}"


def spread_weights_file(
    path: Path, seed: int = 0, classes: Sequence[str] = CLASSES, names: Sequence[str] | None = None, size: int = 64
) -> str:
    """Write a small random classifier that spreads random pictures over all its classes; return its spec."""
    spec = weights_file(path, seed=seed, classes=classes, size=size)
    classifier = load_classifier(spec)
    features, _ = classifier.predict(np.stack([classifier.preprocess.apply(np.asarray(picture(s))) for s in range(64)]))
    weight = np.random.default_rng(seed).standard_normal((len(classes), features.shape[1]))
    weight /= (features @ weight.T).std(axis=0)[:, None]
    model = timm.create_model("test_resnet", pretrained=False, num_classes=len(classes))
    state = dict(classifier.network.core.model.state_dict())
    state["fc.weight"] = torch.from_numpy(weight).float()
    state["fc.bias"] = -torch.from_numpy(features.mean(axis=0) @ weight.T).float()
    model.load_state_dict(state)
    named = tuple(names) if names else None
    info = WeightsFileInfo(
        arch="test_resnet", class_ids=tuple(classes), class_names=named, image_size=size, crop_pct=1.0
    )
    save_weights(path, model, info)
    return spec


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    def the_error(self) -> str:
        """Return the one sentence that a failed run ends with."""
        assert self.code == 1, self
        *before, last = self.err.strip().splitlines()
        assert last.startswith("error: "), self.err
        assert not any("error: " in line or "Traceback" in line for line in before), self.err
        return last.removeprefix("error: ")


def run_spurious(*arguments: object) -> Ran:
    """Run the ``spurious`` command in this process, which it must leave as it was.

    An exception that the command line lets through passes here too.
    """
    out, err, argv, code = io.StringIO(), io.StringIO(), sys.argv, 0
    before = process_state()
    sys.argv = ["spurious", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = argv
    assert not (left := changes(before, process_state())), f"spurious {arguments[0]} leaves behind: {left}"
    return Ran(code, out.getvalue(), err.getvalue())


def tree(root: Path) -> dict[str, bytes | None]:
    """Return every path below ``root``, hidden ones too, with its bytes; None for directories."""
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


def random_bank(
    store: FeatureStore, path: Path, per_class: int = 2, names: Sequence[str] | None = None, seed: int = 0
) -> ConceptBank:
    """Write a bank of random components of every class, and a residual row each."""
    config, rng = store.config, np.random.default_rng(seed)
    rows = [
        {"concept_id": f"random/{class_id}/{i}", "kind": "random", "class_index": c, "class_id": class_id}
        | {"class_name": (names or config.class_ids)[c], "component": i, "name": ""}
        for c, class_id in enumerate(config.class_ids)
        for i in (*range(per_class), -1)
    ]
    info = BankInfo(
        model=config.model,
        weights_sha256=config.weights_sha256,
        feature_dim=config.feature_dim,
        feature_config_sha256=config.sha256,
    )
    directions = rng.standard_normal((len(rows), config.feature_dim)).astype(np.float32)
    bank = ConceptBank(directions, rng.standard_normal(len(rows)).astype(np.float32), pd.DataFrame(rows), info)
    bank.save(path)
    return bank
