"""Lists of classes that people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from spurious_imagenet.errors import ConfigError
from spurious_imagenet.models.spec import read_labels_file


@pytest.mark.parametrize(
    ("text", "ids", "names"),
    [
        ("cat\ndog\n", ("cat", "dog"), ("cat", "dog")),
        ("\ufeffNA\r\nnull\r\n007\r\n\r\n", ("NA", "null", "007"), ("NA", "null", "007")),
        (
            "n01440764\ttench, Tinca\nn01443537\tgold\u2028fish\n",
            ("n01440764", "n01443537"),
            ("tench, Tinca", "gold\u2028fish"),
        ),
        ("tabby cat\nno\n", ("tabby cat", "no"), ("tabby cat", "no")),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_one_class_a_line(
    tmp_path: Path, text: str, ids: tuple[str, ...], names: tuple[str, ...], encoding: str
) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(text.removeprefix("\ufeff" if encoding == "utf-16" else "").encode(encoding))
    assert read_labels_file(path) == (ids, names)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat\n\ndog\n", "line 2 is empty, but classes follow"),
        ("\n\n", "is empty: expected one class id per line"),
        ("n01440764 tench, Tinca\n", "line 1: got 'n01440764 tench, Tinca', expected a tab between id and name"),
        ("n01440764,tench\n", "expected a tab between"),
        ("caf\xe9\n".encode("cp1252"), "line 1 has the byte 0xE9"),
    ],
)
def test_a_list_that_would_shift_classes_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    (tmp_path / "classes.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=said):
        read_labels_file(tmp_path / "classes.txt")
