from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from spurious_imagenet.cli.tables import Sheet, note

CLI = Path(__file__).parents[2] / "spurious_imagenet" / "cli"
HEADINGS = ("class", "val", "AP ↑", "accuracy before", "p spur. ↓", "near-duplicates", "remark")
NUMBER = st.one_of(
    st.integers(0, 10**7).map(str), st.floats(-1, 1).map("{:+.3f}".format), st.floats(0, 1).map("{:.1%}".format)
)
DEEP = st.tuples(NUMBER, NUMBER, NUMBER).map(lambda n: f"{n[0]}\n{n[1]} to {n[2]}")
NAME = st.text(st.characters(categories=("L", "N", "P", "Zs"), exclude_characters="\n"), min_size=1, max_size=60)
ROW = st.tuples(NAME, *[st.one_of(NUMBER, DEEP)] * 5, st.sampled_from(("", "too few", "a longer remark on this row")))


def shown(sheet: Sheet, columns: int | None) -> list[str]:
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as capture:
        import io
        import sys

        out = io.StringIO()
        capture.setattr(sys, "stdout", out)
        patch.delenv("COLUMNS", raising=False)
        if columns is not None:
            patch.setenv("COLUMNS", str(columns))
        sheet.print()
    return out.getvalue().splitlines()


@pytest.mark.parametrize("columns", [50, 60, 80, 100, None])
@given(rows=st.lists(ROW, min_size=1, max_size=4))
def test_no_number_and_no_heading_is_cut_at_any_width(columns: int | None, rows: list[tuple[str, ...]]) -> None:
    sheet = Sheet(HEADINGS, {"class", "remark"}, "a title that is quite long for a terminal of few columns")
    for row in rows:
        sheet.row(*row)
    lines = shown(sheet, columns)
    text = "\n".join(lines)
    assert columns is None or all(cell_len(line.rstrip()) <= columns for line in lines)
    for row in rows:
        for cell in row[1:6]:
            for part in cell.split("\n"):
                assert part in text
    for word in ("val", "AP ↑", "before", "accuracy", "spur. ↓", "near-duplicates"):
        assert word in text
    assert columns is not None or all(row[0].split()[0] in text for row in rows if row[0].split())


def test_names_fold_and_nothing_of_them_is_lost() -> None:
    sheet = Sheet(HEADINGS, {"class", "remark"})
    sheet.row("a_name_without_any_place_to_break_it_and_long", *["0.512"] * 5, "")
    name = "".join(line[:13].split(" ")[0] for line in shown(sheet, 80)[2:])
    assert "a_name_without_any_place_to_break_it_and_long" in name


def test_text_of_strangers_is_inert() -> None:
    sheet = Sheet(("model", "AP"), {"model"}, "[bold]title[/bold]")
    sheet.row("[red]x[/red]\x1b[31m\u202e", "0.5")
    text = "\n".join(shown(sheet, 80))
    assert "[bold]title[/bold]" in text
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_group_of_rows_is_named_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = Sheet(("model", *["AUC ↑"] * 6), {"model"})
    sheet.section("protocol standard")
    sheet.row("m", *["0.512\n.40–.60"] * 6)
    assert any(line.startswith("protocol standard") for line in shown(sheet, 80))


def test_paragraphs_break_between_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    words = ("interval over images and, of means, classes " * 5).split()
    note(" ".join(words))
    out = capsys.readouterr().out
    assert out.split() == words
    assert max(map(len, out.splitlines())) <= 60


def test_every_table_is_made_in_one_place() -> None:
    for path in CLI.glob("*.py"):
        names = {
            node.module for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)
        }
        assert "rich.table" not in names or path.name == "tables.py", path
