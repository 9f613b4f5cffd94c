"""The folder of a Space."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.leaderboard.app._server import ServeConfig
from spurious_imagenet.leaderboard.app.space import write_space

BOARD = "hf://datasets/org/results"


def test_a_space_is_three_files_around_the_server(tmp_path: Path) -> None:
    path = write_space(tmp_path / "space", BOARD, title='A "title": yes')
    assert sorted(p.name for p in path.iterdir()) == ["README.md", "app.py", "requirements.txt"]
    front = yaml.safe_load((path / "README.md").read_text().split("---\n")[1])
    assert front["title"] == 'A "title": yes'
    assert (front["sdk"], front["app_file"]) == ("gradio", "app.py")
    assert (path / "requirements.txt").read_text().startswith("spurious-imagenet[leaderboard]==")
    code = ast.parse((path / "app.py").read_text())
    imported = next(n for n in code.body if isinstance(n, ast.ImportFrom))
    assert (imported.module, imported.names[0].name) == ("spurious_imagenet.leaderboard.app", "serve_board")
    assert BOARD in (path / "app.py").read_text()


@pytest.mark.parametrize(
    "board", ["board", "/tmp/board", "hf://org/name", 'hf://datasets/a/b"); evil("', "hf://datasets/a"]
)
def test_a_board_elsewhere_is_refused(board: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected hf://datasets/ORG/NAME"):
        write_space(tmp_path / "space", board, title="t")
    assert not (tmp_path / "space").exists()


def test_it_listens_to_this_machine_only_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    assert ServeConfig.of_environment() == ServeConfig()
    assert ServeConfig().host == "127.0.0.1"
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7000")
    monkeypatch.setenv("SPACE_ID", "org/space")
    found = ServeConfig.of_environment()
    assert (found.host, found.port, found.gate.proxies) == ("0.0.0.0", 7000, 1)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "all")
    with pytest.raises(ConfigError, match="GRADIO_SERVER_PORT is 'all': expected a port"):
        ServeConfig.of_environment()
