"""A worker that is killed while it runs a model loses nothing: another one takes the request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from evaluation_helpers import dataset_folder
from helpers import CLASSES, labelled_shard, run_spurious, spread_weights_file

from spurious_imagenet.leaderboard.store.making import make_version
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.worker.queue import ModelRequest, Queue
from spurious_imagenet.models import label_space_for

_LEASE = 3
_START = "import sys; from spurious_imagenet.cli import main; sys.exit(main())"


@pytest.mark.slow
def test_a_request_of_a_killed_worker_is_run_once_by_the_next(tmp_path: Path) -> None:
    dataset_folder(tmp_path / "dataset")
    labelled_shard(tmp_path / "val.tar", range(24))
    spec = spread_weights_file(tmp_path / "model.safetensors", seed=1)
    labels = label_space_for(len(CLASSES), class_ids=CLASSES)
    made, pictures = make_version(
        tmp_path / "dataset", tmp_path / "val.tar", version="1.0.0", labels=labels, resamples=20
    )
    store = Store(tmp_path / "board", create=True)
    store.add_version(made, pictures)
    queue = Queue(store.place, lease=_LEASE)
    wanted = ModelRequest(
        spec=spec, protocol="paper", model="m", authors=("A",), training_data="pictures", licence="MIT"
    )
    queue.add(wanted)
    how = ("leaderboard", "worker", str(tmp_path / "board"), "--dataset", str(tmp_path / "dataset"), "--val")
    command = [*how, str(tmp_path / "val.tar"), "--allow-scheme", "file", "--lease", str(_LEASE), "--once"]

    killed = subprocess.Popen([sys.executable, "-c", _START, *command], env=os.environ | {"OMP_NUM_THREADS": "1"})
    while queue.get(wanted.id).claim is None:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    left = queue.get(wanted.id)
    assert left.outcome is None
    assert left.claim is not None
    assert store.entries() == []

    assert left.state(left.claim.expires - 0.1) == "running"  # it is held until the claim expires
    time.sleep(max(0.0, left.claim.expires - time.time()) + 0.1)
    ran = run_spurious(*command)
    assert ran.code == 0, ran
    outcome = queue.get(wanted.id).outcome
    assert outcome is not None
    assert outcome.reason is None
    assert [e.id for e in Store(tmp_path / "board").entries()] == [outcome.entry]
    assert store.scored(str(outcome.entry)) is not None
    assert store.broken == ()
