"""The first look, and the synthetic world that it is made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from reliability_cases import Seen, Workbench, case

_QUICK = Path(__file__).resolve().parents[2] / "examples" / "quick.py"


@case("The demo", "two sizes of a world at once")
def two_sizes(bench: Workbench) -> Seen:
    said = bench.said("planted", "world", "w", "--tiny", "--small")
    return Seen(said, "nothing" if not (bench.folder / "w").exists() else "a folder")


@case("The demo", "a folder that is not a planted world, to train networks on")
def not_a_world(bench: Workbench) -> Seen:
    (bench.folder / "w").mkdir()
    said = bench.said("planted", "train", "w", "models")
    return Seen(said, "nothing" if not (bench.folder / "models").exists() else "a folder")


@case("The demo", "a folder with the user's own files, for the first look to write to")
def own_files(bench: Workbench) -> Seen:
    (bench.folder / "mine").mkdir()
    (bench.folder / "mine" / "letter.txt").write_text("dear")
    command = [sys.executable, str(_QUICK), "mine"]
    ended = subprocess.run(command, cwd=bench.folder, capture_output=True, text=True, timeout=300, check=False)
    said = f"exit {ended.returncode}: {ended.stderr.strip().splitlines()[-1]}"
    return Seen(said, ", ".join(sorted(f.name for f in (bench.folder / "mine").iterdir())))
