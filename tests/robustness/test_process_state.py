"""What the product does for one run does not outlive the run: no function changes the process it is called in.

Every test of the suite is watched for it too, and every command that runs in the process of a test; see ``conftest.py``
and ``helpers.run_spurious``.
"""

from __future__ import annotations

import csv
import datetime
import json
import logging
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from card_helpers import make_dataset
from evaluation_helpers import dataset_folder
from helpers import encoded, labelled_shard, picture, spread_weights_file
from process_state import changes, process_state

from spurious_imagenet import evaluate, load_classifier
from spurious_imagenet.benchmark.report.style import drawing
from spurious_imagenet.builders.shards._attribution import AttributionTable
from spurious_imagenet.data_cards.croissant import write_croissant
from spurious_imagenet.data_cards.croissant_check import check_croissant
from spurious_imagenet.datasets.spurious import open_dataset
from spurious_imagenet.images import DecodeLimits, decode_image
from spurious_imagenet.leaderboard.worker._specs import load_public
from spurious_imagenet.models.open_clip_models import create_open_clip
from spurious_imagenet.planted.training import reproducible
from spurious_imagenet.process_state import Bars, environment, log_levels, no_warnings

_CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"timm_model_name": "test_resnet", "timm_model_pretrained": False, "timm_pool": "avg"}
    | {"timm_proj": "linear", "image_size": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("process")
    spread_weights_file(root / "model.safetensors")
    dataset_folder(root / "dataset")
    labelled_shard(root / "val.tar", range(12))
    (root / "attribution.csv").write_text("image_id,author\na,A. Author\n", encoding="utf-8")
    (root / "clip").mkdir()
    norm = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (root / "clip/open_clip_config.json").write_text(json.dumps({"model_cfg": _CLIP, "preprocess_cfg": norm}))
    return root


@pytest.fixture
def _conspicuous(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set what the product may touch to values that nobody chooses: setting the usual ones shows then."""
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    field, threads, timeout = csv.field_size_limit(131_077), torch.get_num_threads(), socket.getdefaulttimeout()
    torch.set_num_threads(3)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(29)
    socket.setdefaulttimeout(613.0)
    datasets.enable_progress_bars()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="^a warning that nobody gives$")
        yield
    socket.setdefaulttimeout(timeout)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    csv.field_size_limit(field)


def _evaluate(root: Path) -> object:
    spec = f"file:{root / 'model.safetensors'}"
    return evaluate(spec, str(root / "dataset"), root / "val.tar", backend="eager", workers=2, resamples=5)


def _classifier(root: Path) -> Any:
    return load_classifier(f"file:{root / 'model.safetensors'}")


def _describe(root: Path) -> None:
    made = make_dataset(root / "published") if not (root / "published").exists() else None
    if made is not None:
        write_croissant(made.folder, made.manifest, made=datetime.date(2026, 1, 2))
    assert check_croissant(root / "published") == []


def _draw(_: Path) -> None:
    with drawing():
        pass


def _train(_: Path) -> None:
    with reproducible(3):
        torch.rand(5)


def _read_attribution(root: Path) -> None:
    with AttributionTable(root / "attribution.csv") as table:
        assert len(table.columns) == 2


RUNS: dict[str, Callable[[Path], Any]] = {
    "evaluate": _evaluate,
    "load a model": _classifier,
    "load a public model": lambda root: load_public(f"file:{root / 'model.safetensors'}", ["file"]),
    "make an OpenCLIP model": lambda root: create_open_clip(f"local-dir:{root / 'clip'}", load_weights=False),
    "open a dataset": lambda root: open_dataset(str(root / "dataset"), split="test"),
    "describe and check a dataset": _describe,
    "decode": lambda _: decode_image(encoded(picture(1), "PNG"), DecodeLimits()),
    "draw": _draw,
    "train": _train,
    "read attributions": _read_attribution,
    "ONNX Runtime": lambda root: _classifier(root).backend("onnxruntime", batch_size=2),
    "OpenVINO": lambda root: _classifier(root).backend("openvino", batch_size=2),
}


@pytest.mark.usefixtures("_conspicuous")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_leaves_the_process_as_it_was(name: str, world: Path) -> None:
    before = process_state()
    RUNS[name](world)
    assert changes(before, process_state()) == []


def test_what_is_left_behind_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = process_state()
    monkeypatch.setenv("SOMEBODY_S", "setting")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 7)
    torch.rand(1)
    found = "\n".join(changes(before, process_state()))
    for what in ("environment variable SOMEBODY_S", "PIL.Image: most pixels", "random numbers of torch"):
        assert what in found
    assert found.count("\n") == 2


def test_runs_that_overlap_give_back_what_was_there_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOMEBODY_S", raising=False)
    first, second = environment({"SOMEBODY_S": "1"}), environment({"SOMEBODY_S": "2"})
    quiet, silent = log_levels(logging.ERROR, "somebody"), log_levels(logging.CRITICAL, "somebody")
    logger = logging.getLogger("somebody")
    for run in (first, quiet, second, silent):
        run.__enter__()
    assert (os.environ["SOMEBODY_S"], logger.level) == ("2", logging.CRITICAL)
    for run in (first, quiet):  # the first to begin ends first, as in two threads
        run.__exit__(None, None, None)
    assert (os.environ["SOMEBODY_S"], logger.level) == ("2", logging.CRITICAL)
    for run in (second, silent):
        run.__exit__(None, None, None)
    assert "SOMEBODY_S" not in os.environ
    assert logger.level == logging.NOTSET


def test_warnings_are_there_again_whichever_thread_ends_last() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        both_inside, first_is_out = threading.Barrier(2), threading.Event()

        def run(first: bool) -> None:
            with no_warnings(UserWarning, "a nuisance"):
                both_inside.wait()
                if not first:
                    first_is_out.wait()
                    warnings.warn("A nuisance that is hidden", stacklevel=1)
                    warnings.warn("another", stacklevel=1)
            first_is_out.set()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, [True, False]))
        assert list(warnings.filters) == before
        warnings.warn("a nuisance again", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["another", "a nuisance again"]


@pytest.mark.parametrize("hidden_before", [True, False])
def test_bars_are_as_their_owner_had_them(hidden_before: bool) -> None:
    shown = [not hidden_before]
    bars = Bars(lambda: not shown[0], lambda: shown.__setitem__(0, False), lambda: shown.__setitem__(0, True))
    with bars.hidden(), bars.hidden():
        assert not shown[0]
    assert shown[0] is not hidden_before
