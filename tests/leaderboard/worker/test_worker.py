"""A worker turns requests into entries, and finds out entries that are not what they say."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_helpers import dataset_folder
from helpers import CLASSES, labelled_shard, run_spurious, spread_weights_file
from pydantic import ValidationError

from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.leaderboard.entry import Entry
from spurious_imagenet.leaderboard.store.making import make_version
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.check import check_submission
from spurious_imagenet.leaderboard.submission.read import Submission
from spurious_imagenet.leaderboard.submission.write import write_submission
from spurious_imagenet.leaderboard.worker.queue import ModelRequest, Queue
from spurious_imagenet.leaderboard.worker.run import Workplace, work
from spurious_imagenet.leaderboard.worker.verify import verify_entry
from spurious_imagenet.models import label_space_for


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("worker")
    dataset_folder(root / "dataset")
    labelled_shard(root / "val.tar", range(24))
    spread_weights_file(root / "model.safetensors", seed=1)
    spread_weights_file(root / "other.safetensors", seed=2)
    labels = label_space_for(len(CLASSES), class_ids=CLASSES)
    made, pictures = make_version(root / "dataset", root / "val.tar", version="1.0.0", labels=labels, resamples=20)
    Store(root / "board", create=True).add_version(made, pictures)
    return root


@pytest.fixture(scope="module")
def workplace(prepared: Path) -> Workplace:
    return Workplace(str(prepared / "dataset"), str(prepared / "val.tar"), ("file",), device="cpu", backend="eager")


def request(folder: Path, file: str = "model", **about: object) -> ModelRequest:
    fields = {
        "spec": f"file:{folder / file}.safetensors",
        "protocol": "paper",
        "model": file,
        "authors": ("A. Author",),
        "training_data": "pictures",
        "licence": "MIT",
    }
    return ModelRequest(**{**fields, **about})


@pytest.fixture(scope="module")
def entry(prepared: Path, workplace: Workplace) -> Entry:
    store = Store(prepared / "board")
    queue = Queue(store.place)
    queue.add(request(prepared))
    ((queued, outcome),) = work(queue, store, workplace)
    assert outcome.reason is None
    assert queued.request.model == "model"
    return store.entry(str(outcome.entry))


@pytest.fixture
def folder(prepared: Path, entry: Entry, tmp_path: Path) -> Path:
    """A copy of all of it with the entry on its board: what one test adds there, no other finds."""
    return Path(shutil.copytree(prepared, tmp_path / "worker"))


def test_a_request_becomes_a_scored_and_verified_entry(folder: Path, entry: Entry, workplace: Workplace) -> None:
    store = Store(folder / "board")
    assert entry.info.spec is None  # a local path is nobody's business
    assert store.scored(entry.id) is not None
    assert store.verifications(entry.id)[0].verified
    assert list(work(Queue(store.place), store, workplace)) == []


def test_requests_that_cannot_be_run_fail_with_the_reason_and_the_next_is_run(
    folder: Path, entry: Entry, workplace: Workplace
) -> None:
    store = Store(folder / "board")
    queue = Queue(store.place)
    refused = queue.add(request(folder, spec="python:os:system")).request.id
    missing = queue.add(request(folder, "missing")).request.id
    fine = queue.add(request(folder, "other", model="fine")).request.id
    outcomes = {q.request.id: o for q, o in work(queue, store, workplace)}
    assert "files and code of others are not run" in str(outcomes[refused].reason)
    assert "there is no file" in str(outcomes[missing].reason)
    assert store.entry(str(outcomes[fine].entry)).info.model == "fine"


def test_requests_with_text_that_hides_something_are_refused(folder: Path) -> None:
    with pytest.raises(ValidationError, match=r"U\+202E"):
        request(folder, notes="\u202egnp.exe")
    with pytest.raises(ValidationError, match="control character"):
        request(folder, authors=("A\x07",))
    assert request(folder, notes="two\nlines").notes == "two\nlines"


def test_an_entry_that_says_what_its_model_says_is_verified(folder: Path, entry: Entry, workplace: Workplace) -> None:
    store = Store(folder / "board")
    spec = f"file:{folder / 'model.safetensors'}"
    said = verify_entry(store, entry.id, workplace, images=8, model=spec)
    assert (said.verified, said.images, said.agreeing, said.reason) == (True, 8, 8, None)
    assert said.largest_difference < 1e-5
    again = verify_entry(store, entry.id, workplace, images=8, model=spec, seed=said.seed)
    assert again.seed == said.seed
    another = verify_entry(store, entry.id, workplace, images=8, model=spec)
    assert another.seed != said.seed
    assert {v.seed for v in store.verifications(entry.id)} >= {said.seed, another.seed}


def test_other_weights_are_found_out(folder: Path, entry: Entry, workplace: Workplace) -> None:
    said = verify_entry(Store(folder / "board"), entry.id, workplace, model=f"file:{folder / 'other.safetensors'}")
    assert not said.verified
    assert said.images == 0
    assert f"the entry gives {entry.info.weights_sha256[:12]}" in str(said.reason)


def test_improved_probabilities_are_found_out(folder: Path, entry: Entry, workplace: Workplace) -> None:
    store = Store(folder / "board")
    table = store.submitted(entry.id)
    better = table["probability"].where(table["side"] == "validation", table["probability"] / 2)
    forged = store.add(Submission(entry.info, table.assign(probability=better)))
    said = verify_entry(store, forged.id, workplace, images=12, model=f"file:{folder / 'model.safetensors'}")
    assert not said.verified
    assert said.agreeing < said.images == 12
    assert "another probability of their class, or another most probable class, than was submitted" in str(said.reason)


def test_improved_predictions_of_the_right_probabilities_are_found_out(
    folder: Path, entry: Entry, workplace: Workplace
) -> None:
    store = Store(folder / "board")
    table = store.submitted(entry.id)
    wrong = [best[0] != class_id for best, class_id in zip(table["top5_id"], table["class_id"], strict=True)]
    assert sum(wrong) > len(wrong) / 2
    # The class is always predicted, with the probability that it has: the others are said to be less probable.
    table["top5_id"] = [[c] for c in table["class_id"]]
    table["top5_probability"] = [[np.float32(p)] for p in table["probability"]]
    forged = Submission(entry.info, table)
    checked = check_submission(write_submission(forged, folder / "forged.zip"), store.version())
    assert checked.problems == ()
    said = verify_entry(store, store.add(forged).id, workplace, images=24, model=f"file:{folder / 'model.safetensors'}")
    assert not said.verified
    assert said.agreeing < said.images == 24


def test_entries_that_cannot_be_run_again_say_so(folder: Path, entry: Entry, workplace: Workplace) -> None:
    store = Store(folder / "board")
    with pytest.raises(ConfigError, match="has no spec"):
        verify_entry(store, entry.id, workplace)
    info = entry.info.model_copy(update={"mitigation": "SpuFix"})
    mended = store.add(Submission(info, store.submitted(entry.id)))
    with pytest.raises(ConfigError, match="the mitigation 'SpuFix'"):
        verify_entry(store, mended.id, workplace, model=f"file:{folder / 'model.safetensors'}")


def test_other_images_are_no_ground_for_a_verdict(folder: Path, entry: Entry, workplace: Workplace) -> None:
    other = labelled_shard(folder / "other.tar", range(100, 124))
    before = Store(folder / "board").verifications(entry.id)
    with pytest.raises(DataError, match="validation images that were drawn are not among those given"):
        verify_entry(
            Store(folder / "board"),
            entry.id,
            replace(workplace, val=str(other)),
            model=f"file:{folder / 'model.safetensors'}",
        )
    assert Store(folder / "board").verifications(entry.id) == before


def test_command_line_asks_and_lists_and_refuses(folder: Path, entry: Entry, tmp_path: Path) -> None:
    board = shutil.copytree(folder / "board", tmp_path / "board")  # what is asked for waits there for good
    about = ["--protocol", "paper", "--name", "m", "--authors", "A", "--training-data", "d", "--licence", "MIT"]
    asked = run_spurious("leaderboard", "request", board, "--model", "timm:resnet18.a1_in1k", *about)
    assert "m: waiting" in asked.out
    again = run_spurious("leaderboard", "request", board, "--model", "timm:resnet18.a1_in1k", *about)
    assert again.out == asked.out
    refused = run_spurious("leaderboard", "request", board, "--model", "file:x.safetensors", *about)
    assert refused.code == 1
    assert "files and code of others are not run" in refused.the_error()
    assert "waiting" in run_spurious("leaderboard", "requests", board).out
