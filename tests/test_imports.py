"""Imports run one way, never in a circle, and never by a flat name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("spurious_imagenet", "benchmark", "builders", "data_cards", "leaderboard")

#: From the ground up: a package imports from every floor below, and from its own what ``BESIDE`` names.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "io", "records", "texts", "tables", "tensors", "process_state", "processes", "engine", "hub"),
    ("threads", "folder_lock", "runs", "part_store"),
    ("shards", "images", "models", "concepts"),
    ("features",),
    ("datasets",),
    ("benchmark",),
    ("data_cards",),
    ("builders", "leaderboard"),
    ("planted",),
    ("cli",),
)
#: On one floor, package → what it may import beside itself. Builders and the leaderboard do not know each other.
BESIDE: dict[str, set[str]] = {
    "io": {"errors"},
    "records": {"errors", "io"},
    "texts": {"errors", "io"},
    "tables": {"errors", "io", "texts"},
    "tensors": {"errors", "io"},
    "hub": {"errors", "io", "process_state"},
    "images": {"shards"},
    "models": {"images"},
}
#: Heavy or optional libraries → the only modules that may import them.
ONE_DOOR = {
    "openvino": {"spurious_imagenet/models/_backends.py"},
    "onnxruntime": {"spurious_imagenet/models/_backends.py"},
    "open_clip": {"spurious_imagenet/models/open_clip_models.py"},
    "huggingface_hub": {"spurious_imagenet/hub.py"},
    "fiftyone": {"builders/fiftyone_app/app.py"},
    "safetensors": {"spurious_imagenet/tensors.py"},
    "ray": set(),
    "gradio": {"leaderboard/app/_submit_page.py"},
    "mlcroissant": {"data_cards/croissant.py"},
    "webdataset": set(),
}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "spurious_imagenet" else ("spurious_imagenet", *parts))
    return name.removesuffix(".__init__")


FILES = {_module(p): p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))}
_FLOOR = {package: i for i, floor in enumerate(FLOORS) for package in floor}


def _imports(path: Path) -> set[str]:
    """Return the modules that a file imports, those that it imports late or for types alone too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; imports are absolute"
            module = node.module or ""
            found |= {full if (full := f"{module}.{alias.name}") in FILES else module for alias in node.names}
    return found


def _package(module: str) -> str:
    return [*module.split("."), ""][1]


def _may_import(package: str, target: str) -> bool:
    if package == target or not package:  # the front door hands out what is behind it, when it is asked for
        return True
    below = _FLOOR[target] < _FLOOR[package]
    return below or target in BESIDE.get(package, set())


@pytest.mark.parametrize("module", FILES)
def test_imports_run_one_way(module: str) -> None:
    relative = str(FILES[module].relative_to(ROOT))
    for name in _imports(FILES[module]):
        top = name.partition(".")[0]
        assert top not in FOLDERS[1:], f"{relative} imports {name} by its flat name: expected spurious_imagenet.{name}"
        if top in ONE_DOOR:
            assert relative in ONE_DOOR[top], f"{relative} imports {top}: expected only {sorted(ONE_DOOR[top])}"
        if name in FILES and _package(name):
            assert _may_import(_package(module), _package(name)), f"{relative} imports {name}: against the direction"


def test_every_package_has_its_floor() -> None:
    assert {_package(module) for module in FILES} - {""} == set(_FLOOR)


def _circle(imports: dict[str, set[str]]) -> list[str] | None:
    """Return modules each of which imports the next, and the last the first."""
    done: set[str] = set()

    def follow(module: str, way: list[str]) -> list[str] | None:
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return None
        found = next((c for name in sorted(imports[module]) if (c := follow(name, [*way, module]))), None)
        done.add(module)
        return found

    return next((c for module in imports if (c := follow(module, []))), None)


def _modules() -> dict[str, set[str]]:
    imports = {module: {name for name in _imports(path) if name in FILES} for module, path in FILES.items()}
    # The front door imports nothing until a name is asked for.
    return imports | {"spurious_imagenet": set()}


def _folder(module: str) -> str:
    inside = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    return ".".join(inside.split(".")[:3])


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert _circle(_modules()) is None


def test_no_folder_imports_itself_by_way_of_others() -> None:
    imports: dict[str, set[str]] = {_folder(module): set() for module in FILES}
    for module, names in _modules().items():
        imports[_folder(module)] |= {_folder(name) for name in names} - {_folder(module)}
    assert _circle(imports) is None


def test_the_rules_catch_a_violation(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import benchmark.report\nfrom spurious_imagenet.features.store import FeatureStore\n")
    assert _imports(bad) == {"benchmark.report", "spurious_imagenet.features.store"}
    assert not _may_import("images", "features")
    assert not _may_import("builders", "planted")
    assert not _may_import("builders", "leaderboard")
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


#: Modules that nothing imports from another folder, but that are reached by name.
BY_NAME = {
    "spurious_imagenet.benchmark.mitigation.spufix_module",  # a scheme of models, and the front door's ``spufix``
}


def _imported_elsewhere() -> set[str]:
    """Return the modules that another folder imports, or a script of the examples or the benchmarks."""
    found = {name for module, names in _modules().items() for name in names if _folder_of(module) != _folder_of(name)}
    scripts = [*(ROOT / "examples").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    return found | {name for script in scripts for name in _imports(script) if name in FILES}


def _folder_of(module: str) -> str:
    return module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]


def test_an_underscore_says_that_only_the_own_folder_imports_a_module() -> None:
    elsewhere = _imported_elsewhere() | BY_NAME
    for module, path in FILES.items():
        if path.name == "__init__.py" or module.count(".") < 2 or module.split(".")[1] == "cli" or "plugin" in module:
            continue
        private = path.name.startswith("_")
        assert private != (module in elsewhere), (
            f"{path.relative_to(ROOT)} is {'' if module in elsewhere else 'not '}imported by other folders"
        )
