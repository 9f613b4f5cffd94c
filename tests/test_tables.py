"""Tables, lists, JSON lines and YAML as people and their programs save them."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.tables import Columns, open_table, row_writer
from spurious_imagenet.texts import json_rows, read_json, read_list, read_toml, read_yaml

COLUMNS = Columns(("image_id", "Author"), required=("image_id",), others="pass", remarks="above")


def table(path: Path, text: str | bytes, columns: Columns = COLUMNS) -> tuple[list[Any], tuple[str, ...], int]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with open_table(path, "metadata", columns) as found:
        rows = [(row.number, *row.cells.values()) for row in found]
        return rows, found.unread, found.blank


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            "image_id,Author\n007,NA\nnull,1e3\n1.0,2020-1-2",
            [(2, "007", "NA"), (3, "null", "1e3"), (4, "1.0", "2020-1-2")],
        ),
        ("\ufeffimage_id;Author\r\nx;me\r\n;\r\n;;;\r\n\r\n", [(2, "x", "me")]),
        ("image_id\tAuthor\nx\ta, b; c\n", [(2, "x", "a, b; c")]),
        ("image_id|Author\nx|me\n", [(2, "x", "me")]),
        (" Image-ID , AUTHOR \nx, me\n", [(2, "x", "me")]),
        ('image_id, Author\nx, "a, ""b"""\n', [(2, "x", 'a, "b"')]),
        ('image_id,Author\nx,"two\nlines"\ny,z\n', [(2, "x", "two\nlines"), (3, "y", "z")]),
        ("image_id,Author\rx,me\r", [(2, "x", "me")]),
        ("sep=;\r\nimage_id;Author\r\nx;me\r\n", [(2, "x", "me")]),
        ("# by whom,\n\nimage_id,Author\nx,me\n", [(4, "x", "me")]),
        ("image_id,Author,,\nx,me,,\ny,you\n", [(2, "x", "me"), (3, "y", "you")]),
        ("image_id,Author\nx,me\n\n,\ny,you\n", [(2, "x", "me"), (5, "y", "you")]),
        ("image_id\n#1\n", [(2, "#1")]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_what_spreadsheets_save_is_read_cell_by_cell(tmp_path: Path, text: str, rows: list[Any], encoding: str) -> None:
    assert (
        table(tmp_path / "t.csv", text.removeprefix("\ufeff" if encoding == "utf-16" else "").encode(encoding))[0]
        == rows
    )


def test_a_column_of_remarks_is_named_and_blank_rows_are_counted(tmp_path: Path) -> None:
    text = "remarks,image_id,Author\nnice,x,me\n,,\n\n,y,you\n"
    assert table(tmp_path / "t.csv", text) == ([(2, "x", "me"), (5, "y", "you")], ("remarks",), 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "image_id,Author\nx,Doe, Jane\n",
            "row 2: got 3 cells, expected 2 as in the header; a cell that holds the sep",
        ),
        ("image_id,Author,\nx,Doe, Jane\n", "row 2: 'Jane' stands in a column without a name"),
        ("image_id,Author,year\nx,me\n", "row 2: got 2 cells, expected 3"),
        ("image_id,Author\nx;me\n", "row 2: got 1 cells, expected 2"),
        ('image_id,Author\na,b\nx,"me\n', "row 3 cannot be read as CSV: unexpected end of data; is a quotation mark"),
        ("image_id,Autor\nx,me\n", "row 1: .*did you mean 'Author' by 'Autor'"),
        ("image_id,Image ID\nx,y\n", "'image_id' is a column name twice"),
        ("picture,Author\nx,me\n", r"row 1: got the columns \['picture', 'Author'\]: expected image_id"),
        ("# only\n", r"row 1: got the columns \[\]: expected image_id"),
        ("image_id,Author\nx,Andr\xe9\n".encode("cp1252"), "line 2 has the byte 0xE9 .'é' in Windows-1252., so it is"),
        ("image_id,Author\nx,me\n".encode("utf-16-le"), "it is UTF-16 without a mark, or not text; save it as UTF-8"),
        (b"PK\x03\x04\x14\0", "it is a spreadsheet .*CSV UTF-8"),
    ],
)
def test_what_may_be_read_wrongly_is_refused_with_its_row(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        table(tmp_path / "t.csv", text)
    assert str(caught.value).startswith(f"metadata {tmp_path}")


def test_a_remark_within_a_quoted_cell_is_none(tmp_path: Path) -> None:
    anywhere = Columns(("image_id", "Author"), remarks="anywhere")
    text = 'image_id,Author\n# a "remark, with a mark\nx,"a\n# b"\n'
    assert table(tmp_path / "t.csv", text, anywhere)[0] == [(3, "x", "a\n# b")]


CELL = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)


@given(st.lists(st.tuples(CELL, CELL), max_size=4))
def test_what_is_written_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    text = StringIO(newline="")
    write = row_writer(text)
    write(("image_id", "Author"))
    for row in rows:
        write(row)
    path = tmp_path_factory.mktemp("rows") / "t.csv"
    found = table(path, text.getvalue())[0]
    assert [row[1:] for row in found] == [row for row in rows if "".join(row).strip()]


def test_reading_a_table_leaves_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    with pytest.raises(DataError, match="field larger"):
        table(tmp_path / "t.csv", "image_id\n" + "x" * (before + 1))
    assert csv.field_size_limit() == before


def test_lists_end_lines_as_editors_do(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes("\ufeffa\u2028b\r\n\n NA \x0c x\rz\x85".encode())
    assert read_list(tmp_path / "l.txt", "list") == [(1, "a\u2028b"), (3, "NA \x0c x"), (4, "z")]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("name: no\n", {"name": "no"}),
        ("{a: 1e3, b: 007, c: 2020-01-02, d: 12:30}", {"a": "1e3", "b": "007", "c": "2020-01-02", "d": "12:30"}),
        ("- ~\n-\n- NA\n- 'null'\n- off\n", [None, None, "NA", "null", "off"]),
        ("base: &b {x: 1}\nmade:\n  <<: *b\n  y: 2\n", {"base": {"x": "1"}, "made": {"x": "1", "y": "2"}}),
    ],
)
def test_yaml_stays_the_text_that_it_is(tmp_path: Path, text: str, content: Any) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8-sig")
    assert read_yaml(tmp_path / "c.yaml", "card") == content


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.yaml", "a: 1\nb: 2\na: 3\n", "cannot be read as YAML: line 3: the key 'a' is given twice"),
        ("c.yaml", "a: [1\nb: 2\n", "cannot be read as YAML: line 2"),
        ("c.toml", "a = 1\na = 2\n", "cannot be read as TOML: .*line 2"),
        ("c.json", '{"a": 1, "a": 2}', "cannot be read as JSON: the key 'a' is given twice"),
        (
            "c.jsonl",
            '{"a": 1}\n\n{"a": 1, "a": 2}\n',
            "row 3 is not JSON of one object per line: the key 'a' is given twice",
        ),
        ("c.jsonl", '[{"a": 1},\n{"a": 2}]\n', "row 1 is not JSON of one object per line"),
    ],
)
def test_a_key_that_is_given_twice_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    readers: dict[str, Any] = {".yaml": read_yaml, ".toml": read_toml, ".json": read_json, ".jsonl": json_rows}
    with pytest.raises(ConfigError, match=said):
        list(readers[Path(name).suffix](tmp_path / name, "card", ConfigError))


def test_json_lines_have_marks_and_empty_lines(tmp_path: Path) -> None:
    (tmp_path / "i.jsonl").write_bytes('\ufeff{"id": "007"}\r\n\r\n{"id": null}\r\n\r\n'.encode())
    assert list(json_rows(tmp_path / "i.jsonl", "items")) == [(1, {"id": "007"}), (3, {"id": None})]
