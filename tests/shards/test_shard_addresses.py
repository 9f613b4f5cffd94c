from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.shards import expand_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b-00001.tar", "b-00000.tar", "a.tar", "note.txt", ".hidden.tar"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub.tar").mkdir()
    return tmp_path


def names(shards: list[str]) -> list[str]:
    return [Path(s).name for s in shards]


def test_directory_gives_its_tars_sorted(folder: Path) -> None:
    assert expand_shards([str(folder)]) == [str(folder / n) for n in ("a.tar", "b-00000.tar", "b-00001.tar")]


def test_order_of_specs_is_kept(folder: Path) -> None:
    found = expand_shards([f"{folder}/b-{{00001..00000}}.tar", f"file://{folder}/a.tar"])
    assert found == [str(folder / n) for n in ("b-00001.tar", "b-00000.tar", "a.tar")]


def test_glob_and_brace_list(folder: Path) -> None:
    assert names(expand_shards([f"{folder}/b-*.tar"])) == ["b-00000.tar", "b-00001.tar"]
    assert names(expand_shards([f"{folder}/{{a,b-*}}.tar"])) == ["a.tar", "b-00000.tar", "b-00001.tar"]


def test_relative_paths_become_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert expand_shards(["a.tar", "./b-00000.tar"]) == [str(folder / "a.tar"), str(folder / "b-00000.tar")]


def test_a_file_whose_name_holds_braces_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "x{0..3}.tar").write_bytes(b"x")
    assert names(expand_shards([f"{tmp_path}/x{{0..3}}.tar"])) == ["x{0..3}.tar"]


@pytest.mark.parametrize("spec", ["none.tar", "none-*.tar", "b-{00000..00002}.tar", "x{.tar"])
def test_what_finds_nothing_is_named(folder: Path, spec: str) -> None:
    with pytest.raises(DataError) as error:
        expand_shards([f"{folder}/{spec}"])
    assert spec in str(error.value)


def test_empty_directory_and_no_specs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found"):
        expand_shards([str(tmp_path)])
    with pytest.raises(DataError, match="no shards"):
        expand_shards([])


def test_duplicates_are_refused_across_spellings(folder: Path) -> None:
    with pytest.raises(DataError, match="twice"):
        expand_shards([str(folder), f"file://{folder}/sub.tar/../a.tar"])


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst", "x.TAR.GZ"])
def test_compressed_shards_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    for spec in (f"{tmp_path}/{name}", f"http://host/{name}?token=1"):
        with pytest.raises(DataError, match="compressed"):
            expand_shards([spec])


def test_pipe_needs_consent() -> None:
    with pytest.raises(ConfigError, match="shell"):
        expand_shards(["pipe:cat x.tar"])
    assert expand_shards(["pipe:cat x-{0..1}.tar"], allow_pipe=True) == ["pipe:cat x-0.tar", "pipe:cat x-1.tar"]


def test_web_addresses_expand_without_being_asked() -> None:
    found = expand_shards(["https://nowhere.invalid/a-{00..02}.tar?sig=a%2Fb"])
    assert found == [f"https://nowhere.invalid/a-0{i}.tar?sig=a%2Fb" for i in range(3)]
    with pytest.raises(DataError, match="brace"):
        expand_shards(["https://nowhere.invalid/*.tar"])


def test_other_file_systems_list_and_glob() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("b.tar", "a.tar", "n.txt"):
        memory.pipe_file(f"/pool-addresses/{name}", b"x")
    both = ["memory:///pool-addresses/a.tar", "memory:///pool-addresses/b.tar"]
    assert [s.replace("memory:///", "memory://") for s in expand_shards(["memory://pool-addresses"])] == [
        s.replace("memory:///", "memory://") for s in both
    ]
    assert len(expand_shards(["memory://pool-addresses/*.tar"])) == 2
    assert len(expand_shards(["memory://pool-addresses/{a,b}.tar"])) == 2
    with pytest.raises(DataError, match="not found"):
        expand_shards(["memory://pool-addresses/*.tarx"])


def test_unknown_schemes_and_missing_packages_are_named() -> None:
    with pytest.raises(DataError, match="nosuch"):
        expand_shards(["nosuch://bucket/*.tar"])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("train-{0000..0003}.tar", r"2 of 4 not found \(train-0001.tar, train-0003.tar\); .* from train-0000.tar to"),
        ("train-{0..2}.tar", "3 of 3 not found .*has 2 tars, from train-0000.tar to train-0002.tar: fetch"),
        ("train-{0003..0000}.tar", r"2 of 4 not found \(train-0003.tar, train-0001.tar\)"),
        ("{a,train-0000}.tar", r"1 of 2 not found \(a.tar\)"),
        ("none/x-{0..9}.tar", r"10 of 10 not found \(x-0.tar, x-1.tar, x-2.tar, …\); .*none has no tars"),
        ("val-*.tar", "nothing matches in "),
        ("none/*/x-*.tar", "nothing matches in "),
        ("images", "has no .tar, but 'a.jpg' and 0 other entries; `spurious shards` packs"),
        ("train-0009.tar", "what is there ends at "),
    ],
)
def test_what_is_missing_is_named_with_what_is_there(tmp_path: Path, spec: str, said: str) -> None:
    for name in ("train-0000.tar", "train-0002.tar"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=said) as caught:
        expand_shards([str(tmp_path / spec)])
    assert spec in str(caught.value)


def test_a_reversed_range_is_read_in_the_order_given(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"x-{number}.tar").write_bytes(b"")
    found = expand_shards([str(tmp_path / "x-{2..0}.tar")])
    assert [Path(shard).name for shard in found] == ["x-2.tar", "x-1.tar", "x-0.tar"]


def test_one_file_under_two_names_is_one_shard(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"")
    (tmp_path / "b.tar").symlink_to(tmp_path / "a.tar")
    with pytest.raises(DataError, match=r"b\.tar is the same file as .*a\.tar"):
        expand_shards([str(tmp_path)])
