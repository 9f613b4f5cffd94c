"""What is installed is what is in the repository."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def _name(directory: Path) -> str:
    parts = directory.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "spurious_imagenet" else ("spurious_imagenet", *parts))


def test_every_package_is_listed() -> None:
    roots = ["spurious_imagenet", *SETUPTOOLS["package-dir"].values()]
    found = {_name(init.parent) for root in roots for init in (ROOT / root).rglob("__init__.py")}
    assert found == set(SETUPTOOLS["packages"])


def test_every_listed_package_imports() -> None:
    for name in SETUPTOOLS["packages"]:
        importlib.import_module(name)


def test_the_front_door_is_light_and_complete() -> None:
    code = (
        "import sys, spurious_imagenet as s; assert 'torch' not in sys.modules; "
        "[getattr(s, n) for n in s.__all__]; assert set(s.__all__) == set(s._HOME)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("benchmark.metrics", ("torch", "pandas", "pyarrow", "sklearn", "scipy", "pydantic", "PIL")),
        ("benchmark.metrics.gaps", ("torch", "pandas", "pyarrow", "sklearn", "pydantic")),
        ("leaderboard.scoring.ranking", ("torch", "pandas", "pyarrow", "sklearn", "timm")),
        ("benchmark.comparison.record", ("torch", "sklearn", "timm")),
        ("datasets.manifest", ("torch", "pandas", "pyarrow")),
    ],
)
def test_what_needs_little_imports_little(module: str, without: tuple[str, ...]) -> None:
    code = f"import sys, spurious_imagenet.{module}; print([m for m in {without} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"


def test_flat_names_do_not_import() -> None:
    code = "import importlib.util as u; assert not any(u.find_spec(n) for n in ('builders', 'data_cards'))"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60, cwd="/")
