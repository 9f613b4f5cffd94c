"""The leaderboard's store where several processes share no disk: on a Hub, and on S3."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hub_stand_in import WRITER, HubStandIn

from spurious_imagenet.leaderboard.store.object_store import ObjectStore

TESTS = Path(__file__).parent
pytestmark = pytest.mark.slow

_PREPARE = """
import sys
from leaderboard_helpers import random_submission, tiny_version
from spurious_imagenet.leaderboard.store.store import Store

store = Store(sys.argv[1], create=True)
version = tiny_version()
store.add_version(version)
"""
_ADD = """
import sys
from leaderboard_helpers import random_submission, tiny_version
from spurious_imagenet.leaderboard.store.store import Store

store, version = Store(sys.argv[1]), tiny_version()
for seed in map(int, sys.argv[2:]):
    print(seed, store.add(random_submission(version, seed)).id)
"""
_READ = """
import sys
from leaderboard_helpers import tiny_version
from spurious_imagenet.leaderboard.store.store import Store

store = Store(sys.argv[1])
assert len(store.version("latest").images) == len(tiny_version().images)
for entry in store.entries():
    print(entry.info.model, entry.id, len(store.submitted(entry.id)))
"""


def start(code: str, env: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "AWS_"))}
    paths = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=kept | env | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> list[list[str]]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert WRITER not in out + err
    return [line.split(" ") for line in out.splitlines()]


def none_is_lost(url: str, env: dict[str, str]) -> None:
    finished(start(_PREPARE, env, url))
    # Both add number 2, at about the same time.
    writers = [start(_ADD, env, url, *seeds) for seeds in ((0, 1, 2), (3, 2, 4))]
    added = dict(pair for writer in writers for pair in map(tuple, finished(writer)))
    assert len(added) == 5
    read = finished(start(_READ, env, url))
    assert sorted(row[2] for row in read) == sorted(added.values())
    assert len({row[-1] for row in read}) == 1


@pytest.fixture
def hub_env(tmp_path: Path) -> Iterator[tuple[HubStandIn, dict[str, str]]]:
    with HubStandIn() as hub:
        hub.make("org/results")
        own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": WRITER}
        yield hub, own


def test_two_processes_add_to_a_store_on_the_hub(hub_env: tuple[HubStandIn, dict[str, str]]) -> None:
    hub, env = hub_env
    none_is_lost("hf://datasets/org/results", env)
    files = hub.files("org/results")
    assert sum(path.startswith("entries/") and path.endswith(".json") for path in files) == 5
    assert hub.leaks == []


def test_a_commit_that_another_one_overtook_is_tried_again(hub_env: tuple[HubStandIn, dict[str, str]]) -> None:
    hub, env = hub_env
    hub.fail("POST", "/commit/", 412, times=2, message="A commit has happened since. Please refresh and try again.")
    finished(start(_PREPARE, env, "hf://datasets/org/results"))
    assert hub.faults[0].times == 0


def test_of_writers_that_meet_on_the_hub_one_wins_and_none_overwrites(
    hub_env: tuple[HubStandIn, dict[str, str]],
) -> None:
    hub, _ = hub_env
    at_once = threading.Barrier(4)

    def write(number: int) -> tuple[bool, bytes]:
        options = {"endpoint": hub.endpoint, "token": WRITER, "skip_instance_cache": True}
        place, data = ObjectStore("hf://datasets/org/results", options), b"%d" % number
        at_once.wait()
        own = place.write_once(f"requests/{number}.json", data)
        assert own
        at_once.wait()
        return place.write_once("requests/the.claim-1.json", data), data

    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(write, range(4)))
    assert sum(won for won, _ in written) == 1
    place = ObjectStore("hf://datasets/org/results", {"endpoint": hub.endpoint, "token": WRITER})
    assert (True, place.read("requests/the.claim-1.json")) in written
    assert len(place.files("requests")) == 5


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    if not all(map(importlib.util.find_spec, ("moto", "s3fs", "flask"))):
        pytest.skip("moto[server] and s3fs are not installed")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "FSSPEC_S3_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


def test_two_processes_add_to_a_store_on_s3(bucket: dict[str, str]) -> None:
    finished(start("import fsspec; fsspec.filesystem('s3').mkdir('board')", bucket))
    none_is_lost("s3://board/results", bucket)
