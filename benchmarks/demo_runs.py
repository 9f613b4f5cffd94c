"""Does what the demo states hold on other worlds and other processors? Its scripts, run on seeds × settings.

    python benchmarks/demo_runs.py out/demo-runs --seeds 0,1,2,3,4 --settings plain,sse [--mend | --required]

A run is ``examples/planted_world.sh`` (and, with ``--mend``, ``examples/planted_mend.sh``) on the world of a seed, with
the instructions of a setting of ``benchmarks/rounding.py``: its networks are then trained anew and slightly otherwise,
as on another processor. Prints one row per run and one row per statement of the mending. A run takes some ten
minutes on two cores, with ``--required`` (only what decides whether the demo passes) some three; runs go on where they
were stopped. Exits with 1 if anything that is required failed anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from rich.console import Console
from rich.table import Table
from rounding import SETTINGS

_EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(script: str, out: Path, seed: int, setting: str, *, required: bool = False) -> int:
    """Run a script of the examples and return its exit code; what it prints goes to a file beside its output."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{script}.log").open("w") as log:
        environment = (
            os.environ | SETTINGS[setting] | {"SEED": str(seed)} | ({"ONLY_REQUIRED": "1"} if required else {})
        )
        command = ["bash", str(_EXAMPLES / script), str(out)]
        return subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def of_demo(out: Path) -> dict[str, Any]:
    """Return what was found, mined and seen."""
    check = json.loads((out / "check/check.json").read_text())
    models = [json.loads(f.read_text()) for f in sorted((out / "models").glob("*.json"))]
    pairs = check["pairs"]
    found = {
        "found": f"{check['auc_share'] * len(pairs):.0f}",
        "least AUC": f"{min(p['auc'] for p in pairs):.4f}",
        "mined": f"{check['purity_share'] * len(pairs):.0f}",
        "least purity": f"{min(p['purity'] or 0 for p in pairs):.3f}",
        "least accuracy": f"{min(m['val_accuracy'] for m in models):.3f}",
    }
    if (out / "seen/seen.json").exists():
        seen = json.loads((out / "seen/seen.json").read_text())
        found |= {
            "seen": f"{seen['seen_share'] * len(pairs):.0f}",
            "among all": f"{seen['seen_among_all_share'] * len(pairs):.0f}",
            "chosen": f"{seen['chosen_share'] * len(pairs):.0f}",
        }
    return found


def of_mending(out: Path) -> list[list[str]]:
    """Return the rows of the table of statements: what, measured, holds."""
    lines = (out / "mend/mended.md").read_text().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]


def main() -> None:
    """Run, and print what holds where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--settings", default="plain,sse")
    parser.add_argument("--mend", action="store_true")
    parser.add_argument("--required", action="store_true")
    options = parser.parse_args()
    rows, statements, failed = [], [], 0
    for seed in map(int, options.seeds.split(",")):
        for setting in options.settings.split(","):
            out = options.out / f"{seed}-{setting}"
            codes = [run("planted_world.sh", out, seed, setting, required=options.required)]
            if options.mend and not options.required and (out / "dataset").exists():
                codes.append(run("planted_mend.sh", out, seed, setting))
                statements += [(seed, setting, *row) for row in of_mending(out)]
            failed += any(codes)
            rows.append({"seed": seed, "setting": setting, **of_demo(out), "exit": "/".join(map(str, codes))})
            print(rows[-1], flush=True)
    table = Table(*rows[0], title="the demo's statements, of ten planted pairs each")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=120).print(table)
    if statements:
        table = Table("seed", "setting", "statement", "measured", "holds", title="the mending's statements")
        for told in sorted(statements, key=lambda s: s[2]):
            table.add_row(*map(str, told))
        Console(width=160).print(table)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
