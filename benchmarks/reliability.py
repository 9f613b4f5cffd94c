"""Run the program on odd input of every kind, and write what it said and what it kept as a table.

python benchmarks/reliability.py [--out docs/reliability.md] [--only TOPIC]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from reliability_cases import Case, Seen, Workbench, load_cases

_HEAD = """# What happens to odd input

Every row was run by

    python benchmarks/reliability.py

which makes the input, runs the command line on it and writes down what it printed and what was there afterwards.
"""


def run(case: Case) -> Seen:
    """Run one case in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        seen = case.run(Workbench(Path(folder)))
        return Seen(seen.said.replace(folder, "…"), seen.kept.replace(folder, "…"))


def cell(text: str) -> str:
    """Make a text fit for a cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def main() -> None:
    """Run the cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="Topics that contain this.")
    options = parser.parse_args()
    cases = [case for case in load_cases() if options.only.lower() in case.topic.lower()]
    lines = [_HEAD]
    for topic, members in groupby(cases, key=lambda case: case.topic):
        lines += [f"\n## {topic}\n", "| given | said | kept |", "|---|---|---|"]
        for case in members:
            seen = run(case)
            lines.append(f"| {cell(case.given)} | {cell(seen.said)} | {cell(seen.kept)} |")
            print(lines[-1], flush=True)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
