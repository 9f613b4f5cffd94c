"""The tree that the documentation draws is the one that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("spurious_imagenet", "benchmark", "data_cards", "builders", "leaderboard")
_ROW = re.compile(r"^\| `((?:" + "|".join(FOLDERS) + r")/[\w/.]*)` \| (.+) \|$", re.MULTILINE)


def _said(file: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _real_tree() -> dict[str, str]:
    packages = [init for folder in FOLDERS for init in (ROOT / folder).rglob("__init__.py")]
    tree = {f"{init.parent.relative_to(ROOT)}/": _said(init) for init in packages}
    modules = [m for m in (ROOT / "spurious_imagenet").glob("*.py") if m.name != "__init__.py"]
    return tree | {str(m.relative_to(ROOT)): _said(m) for m in modules}


def test_the_documented_tree_is_the_real_one() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert dict(_ROW.findall(text)) == _real_tree()


def test_working_packages_have_no_loose_modules() -> None:
    loose = [p for folder in ("benchmark", "builders") for p in (ROOT / folder).glob("*.py")]
    assert {p.name for p in loose} == {"__init__.py"}
