"""Remarks of libraries reach the user, each once and as one line; those that do not are named with the reason."""

from __future__ import annotations

import ast
import logging
import re
import sys
import warnings
from pathlib import Path

import pytest
from helpers import labelled_shard, run_spurious, weights_file

from spurious_imagenet.cli.remarks import HUSHED, _Lines, shown_remarks

ROOT = Path(__file__).parents[2]
SAID = [
    ("open_clip.factory", "QuickGELU mismatch between final model config and tag"),
    ("timm.models._builder", "No pretrained weights exist for this model. Using random initialization."),
    ("grad_cam.base", "the model has no gradients here"),
    ("root", "Local config loaded, but no CLIP weights found in folder"),
    ("spurious_imagenet.models._backends", "openvino cannot run this model; trying the next backend"),
]


@pytest.mark.parametrize(("logger", "text"), SAID, ids=[logger for logger, _ in SAID])
def test_a_logged_remark_is_one_line(logger: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with shown_remarks():
        logging.getLogger(logger).warning("%s\n  and %s", text, "more")
        logging.getLogger(logger).warning("%s\n  and %s", text, "more")
        logging.getLogger(logger).info("of no interest")
    assert capsys.readouterr().err == f"warning: {text} and more\n"


@pytest.mark.parametrize("category", [UserWarning, RuntimeWarning, UnicodeWarning])
def test_a_warning_is_one_line(category: type[Warning], capsys: pytest.CaptureFixture[str]) -> None:
    with shown_remarks():
        for _ in range(2):
            warnings.warn("something is\n  odd", category, stacklevel=2)
    assert capsys.readouterr().err == "warning: something is odd\n"


def test_a_failure_behind_a_remark_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_remarks():
        try:
            raise ValueError("the reason")
        except ValueError:
            logging.getLogger("somebody").exception("it failed")
    assert capsys.readouterr().err == "warning: it failed: ValueError: the reason\n"


def test_a_librarys_malformed_remark_does_not_end_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    _Lines().emit(logging.LogRecord("somebody", logging.WARNING, "x.py", 1, "%d of %d", ("one",), None))
    assert capsys.readouterr().err == "warning: %d of %d\n"


def test_a_library_that_shows_its_log_itself_is_not_shown_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("shows_itself")
    logger.addHandler(logging.StreamHandler())
    with shown_remarks():
        logging.getLogger("shows_itself.part").warning("said")
    assert capsys.readouterr().err == "said\n"


@pytest.mark.parametrize("source", ["PIL.TiffImagePlugin", "torch.onnx._internal", "torch.jit._trace"])
def test_the_named_few_are_not_shown(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    with shown_remarks():
        logging.getLogger(source).warning("damaged")
        warnings.warn_explicit("damaged", UserWarning, "x.py", 1, module=source)
    assert capsys.readouterr().err == ""


def test_each_of_the_named_few_has_a_reason() -> None:
    assert all(len(hushed.why) > 20 and re.compile(hushed.source) for hushed in HUSHED)


def test_afterwards_all_is_as_before() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), warnings.showwarning, list(warnings.filters), sys.excepthook)
    with shown_remarks():
        pass
    assert before == (root.level, list(root.handlers), warnings.showwarning, list(warnings.filters), sys.excepthook)


def test_nothing_else_silences_anything() -> None:
    """Whoever hides a remark does it in the one list; what scopes another library's own server may be quiet."""
    silent = {"simplefilter", "filterwarnings", "disable_warnings"}
    allowed = {
        "spurious_imagenet/cli/remarks.py",
        "spurious_imagenet/models/_backends.py",
        "spurious_imagenet/process_state.py",
    }
    for package in ("spurious_imagenet", "benchmark", "builders", "data_cards", "leaderboard"):
        for path in sorted((ROOT / package).rglob("*.py")):
            calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
            found = {f.attr for f in calls if isinstance(f, ast.Attribute)} & silent
            assert not found or str(path.relative_to(ROOT)) in allowed, path


def test_an_ordinary_run_has_no_remark(tmp_path: Path) -> None:
    model = weights_file(tmp_path / "m.safetensors")
    shard = labelled_shard(tmp_path / "s.tar", range(4))
    ran = run_spurious("features", "--model", model, "--shards", shard, "--out", tmp_path / "store")
    assert ran.code == 0, ran.err
    assert "warning:" not in ran.err
