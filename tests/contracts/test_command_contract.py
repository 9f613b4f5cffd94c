"""What every command keeps to: wrong use and missing files are one sentence, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers import run_spurious

from spurious_imagenet.cli import app

#: Values of options that name no file.
WORDS = {
    **{"authors": "A. Person", "entry": "0" * 64, "image": "0" * 64, "images": "0" * 64, "item": "0", "labeler": "ann"},
    **{"labelers": "ann", "licence": "MIT", "name": "a model", "protocol": "paper", "reason": "said so"},
    **{"sha256": "0" * 64, "training_data": "ImageNet-1k", "version": "1.0"},
}
#: What a command needs besides what it always requires.
BESIDES = {
    "evaluate": "--model file:MISSING --protocol paper",
    "export-results": "MISSING --out OUT --dataset-id org/name",
    "features": "--shards MISSING",
    "gaps": "--features MISSING",
    "label-noise": "--features MISSING",
    "leaderboard request": "--model timm:resnet50",
    "mine": "--min-agree 1",
    "planted train": "--processes 1",
    "publish": "--candidates MISSING --out OUT --version 1.0.0 --unreviewed",
    "review answer": "--clear",
    "review create": "--boards MISSING",
    "spufix": "--bank MISSING",
    "submit make": "--record MISSING",
}
#: Commands that read nothing that a user names.
READS_NOTHING = {"planted world"}
OUTPUTS = {"out", "output", "target"}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "list_commands"):
        yield " ".join(path), command
        return
    for name in command.list_commands(None):
        yield from leaves(command.get_command(None, name), (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


def with_missing_files(name: str, root: Path) -> list[str]:
    """Return arguments that a command takes, every file of which is not there."""
    besides = BESIDES.get(name, "").replace("MISSING", str(root / "missing")).replace("OUT", str(root / "out"))
    arguments = besides.split()
    for parameter in COMMANDS[name].params:
        if not parameter.required or parameter.opts[0] in arguments:
            continue
        place = root / ("out" if parameter.name in OUTPUTS else "missing")
        said = f"file:{place}" if parameter.name == "model" else WORDS.get(parameter.name, str(place))
        arguments += [said] if parameter.param_type_name == "argument" else [parameter.opts[0], said]
    return arguments


def test_the_exceptions_name_commands() -> None:
    assert READS_NOTHING | set(BESIDES) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
class TestCommand:
    def test_its_help_says_what_it_does_and_requires(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        ran = run_spurious(*name.split(), "--help")
        assert (ran.code, ran.err) == (0, "")
        assert f"Usage: spurious {name}" in ran.out
        command = COMMANDS[name]
        assert " ".join(command.help.split())[:40] in " ".join(ran.out.split())
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or parameter.opts[0] in ran.out

    def test_what_it_requires_is_asked_for_in_one_sentence(self, name: str) -> None:
        ran = run_spurious(*name.split())
        assert (ran.out, ran.code) == ("", 2 if any(p.required for p in COMMANDS[name].params) else ran.code)
        assert ran.code in (1, 2)
        (line,) = ran.err.strip().splitlines()
        assert line.startswith("error: ")

    def test_an_unknown_option_is_one_sentence(self, name: str) -> None:
        ran = run_spurious(*name.split(), "--no-such-option")
        assert (ran.code, ran.out) == (2, "")
        (line,) = ran.err.strip().splitlines()
        assert line.startswith("error: No such option: --no-such-option")
        assert f"`spurious {name} --help`" in line

    def test_a_missing_file_is_named_in_one_sentence(self, name: str, tmp_path: Path) -> None:
        if name in READS_NOTHING:
            return
        ran = run_spurious(*name.split(), *with_missing_files(name, tmp_path))
        assert str(tmp_path / "missing") in ran.the_error()
        assert not [*tmp_path.iterdir()]
