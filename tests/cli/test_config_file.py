"""Options from a file, the level of what is said, the version, completion, and that every config field is an option."""

from __future__ import annotations

import ast
import logging
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import labelled_shard, run_spurious, tree, weights_file

import spurious_imagenet
from spurious_imagenet.cli.remarks import show_from, shown_remarks
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.records import Record

CLI = Path(__file__).parents[2] / "spurious_imagenet" / "cli"
#: Config → fields that no option sets, and why.
NO_OPTION = {
    "CardOptions": {"authors", "citation", "contact", "gated_fields", "gated_prompt", "languages", "license_link"}
    | {"license_name", "published", "source_datasets", "tags"},  # keys of the file that --card names
    "ImagesConfig": {"limits"},  # what a hostile archive may cost: safe for everyone, and not for the command line
    "WorldConfig": {"pairs"},  # the world itself: what is planted where
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model": weights_file(folder / "m.safetensors"),
        "shards": str(labelled_shard(folder / "s.tar", range(12))),
    }


@pytest.mark.parametrize("form", ["yaml", "toml", "yml"])
def test_a_file_gives_options_and_the_command_line_wins(form: str, inputs: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / f"run.{form}"
    if form == "toml":
        file.write_text(
            f'model = "{inputs["model"]}"\nshards = ["{inputs["shards"]}"]\nbatch-size = 5\nmin_side = 1000\n'
        )
    else:
        file.write_text(yaml.safe_dump({**inputs, "shards": [inputs["shards"]], "--batch-size": 5, "min_side": 1000}))
    ran = run_spurious("features", "--config", file, "--out", tmp_path / "none")
    assert ran.code == 1
    assert "12 of 12 samples were rejected" in ran.the_error()
    ran = run_spurious("features", "--min-side", 8, "--config", file, "--out", tmp_path / "store")
    assert ran.code == 0, ran.err
    assert "12 images scored" in ran.out


def test_what_a_run_saves_repeats_it(inputs: dict[str, str], tmp_path: Path) -> None:
    saved = tmp_path / "run.yaml"
    given = ("--model", inputs["model"], "--shards", inputs["shards"], "--batch-size", 3, "--backend", "eager")
    assert run_spurious("features", *given, "--out", tmp_path / "a", "--save-config", saved).code == 0
    content = yaml.safe_load(saved.read_text())
    assert content["batch_size"] == 3
    assert content["shards"] == [inputs["shards"]]
    assert run_spurious("features", "--config", saved, "--out", tmp_path / "b").code == 0
    first, second = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert first == second


def test_groups_of_commands_take_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "world.yaml").write_text("tiny: true\nseed: 3\nprocesses: 1\n")
    assert run_spurious("planted", "world", tmp_path / "w", "--config", tmp_path / "world.yaml").code == 0
    assert run_spurious("planted", "world", tmp_path / "v", "--tiny", "--seed", 3).code == 0
    assert tree(tmp_path / "w") == tree(tmp_path / "v")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("toop: 5", "toop"),
        ("top: many", "top: "),
        ("top: 0", "top: "),
        ("- 5", "holds list: expected options and values"),
        ("a: [", "cannot be read as YAML"),
        ("top: 1\ntop: 2", "top"),
        ("agree: {a: 1}\ntop: x", "top: "),
    ],
)
def test_a_wrong_file_is_one_sentence_that_names_it(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    ran = run_spurious("mine", "--config", file, "--bank", "b", "--features", "f", "--out", "o")
    assert ran.code in (1, 2)
    assert str(file) in ran.the_error()
    assert said in ran.the_error()


def test_a_missing_file_and_a_name_that_is_not_yaml_are_named(tmp_path: Path) -> None:
    assert "nowhere.yaml" in run_spurious("mine", "--config", tmp_path / "nowhere.yaml").the_error()
    ran = run_spurious("shards", tmp_path, tmp_path / "o", "--save-config", tmp_path / "x.txt")
    assert "ends in .yaml" in ran.the_error()


def _calls() -> list[tuple[str, type[Record], set[str | None]]]:
    """Return for each command's configuration the fields that its options set."""
    found = []
    for path in sorted(CLI.glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        homes = {a.name: n.module for n in ast.walk(module) if isinstance(n, ast.ImportFrom) for a in n.names}
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "validated":
                name = ast.unparse(node.args[0])
                if name in homes:
                    config = getattr(import_module(str(homes[name])), name)
                    found.append((f"{path.name}:{node.lineno}", config, _keywords(node, module)))
    return found


def _keywords(call: ast.Call, module: ast.Module) -> set[str | None]:
    """Return the keywords of a call; of ``**`` every key and option in the file."""
    names = {k.arg for k in call.keywords}
    if None in names:
        keys = [key for n in ast.walk(module) if isinstance(n, ast.Dict) for key in n.keys]
        names |= {k.value for k in keys if isinstance(k, ast.Constant)}
        names |= {k.arg for n in ast.walk(module) if isinstance(n, ast.Call) for k in n.keywords}
        names |= {a.arg for n in ast.walk(module) if isinstance(n, ast.FunctionDef) for a in n.args.args}
    return names


def test_every_field_of_a_configuration_is_an_option() -> None:
    calls = _calls()
    assert len(calls) > 20
    for where, config, given in calls:
        missing = set(config.model_fields) - given - NO_OPTION.get(config.__name__, set())
        assert not missing, f"{where}: {config.__name__} has fields that no option sets: {sorted(missing)}"


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", "dcwe"), ("info", "cwe"), ("warning", "we"), ("error", "e")],
)
def test_what_is_said_follows_the_level(level: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("spurious_imagenet.somewhere")
    with shown_remarks():
        show_from(level)
        logger.debug("d")
        logger.info("c")
        logger.warning("w")
        logger.error("e")
    said = [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert "".join(said) == shown
    with pytest.raises(ConfigError, match="'loud': expected one of debug, info, warning, error"):
        show_from("loud")


def test_the_level_is_taken_from_the_command_line_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "'loud'" in run_spurious("--log", "loud", "shards", tmp_path, tmp_path / "o").the_error()
    monkeypatch.setenv("SPURIOUS_LOG", "shout")
    assert "'shout'" in run_spurious("shards", tmp_path, tmp_path / "o").the_error()
    assert "'shout'" not in run_spurious("-v", "shards", tmp_path, tmp_path / "o").err


def test_the_version_is_said_and_importable() -> None:
    ran = run_spurious("--version")
    assert (ran.code, ran.out) == (0, f"spurious-imagenet {spurious_imagenet.__version__}\n")
    assert spurious_imagenet.__version__.count(".") == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [("spurious mi", "mine"), ("spurious features --mod", "--model"), ("spurious review op", "open")],
)
def test_the_shell_completes_commands_and_options(words: str, expected: str) -> None:
    environment: dict[str, Any] = {**os.environ, "_SPURIOUS_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(words.count(" "))
    code = "from spurious_imagenet.cli import program; program()"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert expected in ran.stdout.split()


def test_the_list_of_commands_is_shown_before_anything_slow_is_imported() -> None:
    code = "import sys; from spurious_imagenet.cli import main; sys.argv = ['spurious', '--help']\ntry: main()\n"
    code += "except SystemExit: print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"importlib.metadata", "numpy", "pydantic", "torch", "yaml"} & set(ran.stdout.split())


def test_a_pool_may_hold_no_cue_beside_its_object(tmp_path: Path) -> None:
    given = ("planted", "world", tmp_path / "w", "--tiny", "--processes", 1)
    assert run_spurious(*given, "--pool-cue-own", 0).code == 0
    assert "--pool-neither" in run_spurious(*given, "--pool-neither", 0).the_error()
