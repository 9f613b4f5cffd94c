"""What an installation promises: locks that name no place, hashes for every platform, and a choice of torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = {name: (ROOT / "install" / name).read_text("utf-8") for name in ("lock.txt", "lock-torch.txt")}
ENTRIES = {
    name: re.findall(r"^([\w.-]+)==(\S+)([^\n]*(?:\n    --hash[^\n]*)+)", text, re.MULTILINE)
    for name, text in LOCKS.items()
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_locked_once_and_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    names = {canonical(re.match(r"[\w.-]+", r)[0]) for r in wanted} - {"spurious-imagenet"}  # type: ignore[index]
    locked = [canonical(name) for entries in ENTRIES.values() for name, *_ in entries]
    assert names <= set(locked), f"run `make lock`: {sorted(names - set(locked))} are not locked"
    for name, text in LOCKS.items():
        lines = [line for line in text.splitlines() if re.match(r"[\w.-]+==", line)]
        assert len(lines) == len(ENTRIES[name]), "an entry without a hash"


def test_locks_name_no_host_and_no_path() -> None:
    for text in LOCKS.values():
        assert not re.search(r"://|file:|^-|index-url", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["numpy", "pillow", "simplejpeg", "pyarrow", "scipy", "pydantic-core", "safetensors"])
def test_compiled_packages_have_hashes_of_many_platforms(name: str) -> None:
    (found,) = [rest for package, _, rest in ENTRIES["lock.txt"] if canonical(package) == name]
    assert found.count("--hash=sha256:") >= 8  # Linux, macOS and Windows on two processors each, and more


def test_torch_and_its_build_are_apart() -> None:
    apart = {canonical(name) for name, *_ in ENTRIES["lock-torch.txt"]}
    assert {"torch", "torchvision", "triton"} <= apart
    rest = {canonical(name) for name, *_ in ENTRIES["lock.txt"]}
    assert not [n for n in rest if n in apart or n.startswith(("nvidia-", "cuda-"))]


@pytest.mark.skipif(shutil.which("bash") is None, reason="a shell script")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"TORCH": "gpu"}, "install: TORCH=gpu: expected auto, cpu or cuda."),
        ({"LOCKED": "1"}, "install: LOCKED=1 needs uv: pip install uv, or leave it out."),
        ({"TORCH": "none"}, "install: TORCH=none: expected auto, cpu or cuda."),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_makes_nothing(settings: dict[str, str], said: str, tmp_path: Path) -> None:
    tools = tmp_path / "tools"  # all that the script runs before it refuses, and no uv
    tools.mkdir()
    for name in ("bash", "dirname", "uname"):
        (tools / name).symlink_to(str(shutil.which(name)))
    ran = subprocess.run(
        ["bash", ROOT / "install" / "environment.sh", tmp_path / "venv"],
        env=os.environ | {"TORCH": "cpu", "PATH": str(tools)} | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.strip().splitlines()[-1].startswith(said)
    assert not (tmp_path / "venv").exists()
