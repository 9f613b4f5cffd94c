"""Imports run one way, and never by a flat name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("spurious_imagenet", "benchmark", "builders", "data_cards", "leaderboard")

#: Package → packages of this project that it may import; shared types and errors are open to all.
ALLOWED = {
    "spurious_imagenet": set(),
    "benchmark": {"benchmark"},
    "data_cards": {"data_cards", "benchmark"},
    "builders": {"builders", "benchmark", "data_cards"},
    "leaderboard": {"leaderboard", "benchmark", "data_cards"},
}
#: Heavy or optional libraries → the only modules that may import them.
ONE_DOOR = {
    "openvino": {"spurious_imagenet/models/backends.py"},
    "onnxruntime": {"spurious_imagenet/models/backends.py"},
    "open_clip": {"spurious_imagenet/models/open_clip_models.py"},
    "huggingface_hub": {"spurious_imagenet/hub.py"},
    "fiftyone": {"builders/fiftyone_app/app.py"},
    "safetensors": {"spurious_imagenet/tensors.py"},
    "ray": set(),
    "gradio": {"leaderboard/app/submit_page.py"},
    "mlcroissant": {"data_cards/croissant.py"},
    "webdataset": set(),
}
FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; imports are absolute"
            names.append(node.module or "")
    return names


def _lazy_front_door(path: Path) -> bool:
    return path == ROOT / "spurious_imagenet/__init__.py" or "cli" in path.relative_to(ROOT).parts


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    relative = path.relative_to(ROOT)
    for name in _imports(path):
        top = name.partition(".")[0]
        assert top not in PACKAGES[1:], f"{relative} imports {name} by its flat name: expected spurious_imagenet.{name}"
        if top in ONE_DOOR:
            assert str(relative) in ONE_DOOR[top], f"{relative} imports {top}: expected only {sorted(ONE_DOOR[top])}"
        if top == "spurious_imagenet" and not _lazy_front_door(path):
            target = [*name.split("."), ""][1]
            if target in PACKAGES:
                assert target in ALLOWED[relative.parts[0]], (
                    f"{relative} imports {name}: against the direction of imports"
                )
            assert target != "cli", f"{relative} imports the command line"


def test_the_rules_catch_a_violation(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import benchmark.models\nfrom spurious_imagenet.features.store import FeatureStore\n")
    assert _imports(bad) == ["benchmark.models", "spurious_imagenet.features.store"]
