"""A board as a Space of the Hugging Face Hub: three files around the very server that runs locally."""

from __future__ import annotations

import json
import re
from importlib.metadata import version as installed_version
from pathlib import Path

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.io import atomic_directory

__all__ = ["write_space"]

_BOARD = re.compile(r"hf://datasets/[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(@[\w./-]+)?(/[\w./-]+)?")
_README = """---
title: {title}
emoji: 🔍
colorFrom: blue
colorTo: indigo
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
pinned: false
license: apache-2.0
short_description: How much do image classifiers rely on spurious features?
---

The leaderboard of `{board}`, served by `spurious-imagenet {package}`.

- The dataset repository must hold a board: `spurious leaderboard init {board} --dataset … --val …`.
- Give the Space a secret `HF_TOKEN` that may write to that repository, or nobody can submit.
- Locally the same server runs by `spurious leaderboard serve {board}`.
"""
_APP = '''"""The board of a dataset repository, as `spurious leaderboard serve` shows it."""

from spurious_imagenet.leaderboard.app import serve_board

if __name__ == "__main__":
    serve_board({board})
'''


def write_space(out: str | Path, board: str, *, title: str, requirement: str | None = None) -> Path:
    """Write the folder of a Space.

    Args:
        out: A new folder.
        board: ``hf://datasets/org/name`` of the board's store.
        title: Of the Space.
        requirement: What pip installs, such as ``spurious-imagenet[leaderboard] @ git+https://…``; this version if
            left out.

    Raises:
        ConfigError: The board is not at the Hub, where alone a Space can write.
        StoreError: ``out`` exists.
    """
    if not _BOARD.fullmatch(board):
        raise ConfigError(
            f"the board is {board[:400]!r}: expected hf://datasets/ORG/NAME, where a Space keeps what it is given."
        )
    package = installed_version("spurious-imagenet")
    gradio = installed_version("gradio")
    with atomic_directory(out) as folder:
        values = {"title": json.dumps(title), "gradio": gradio, "board": board, "package": package}
        (folder / "README.md").write_text(_README.format(**values), encoding="utf-8")
        (folder / "app.py").write_text(_APP.format(board=json.dumps(board)), encoding="utf-8")
        needed = requirement or f"spurious-imagenet[leaderboard]=={package}"
        (folder / "requirements.txt").write_text(f"{needed}\n", encoding="utf-8")
    return Path(out)
