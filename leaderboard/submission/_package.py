"""The two files of a submission, out of a directory or a zip, without trusting either."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from spurious_imagenet.leaderboard.submission.problems import Limits, Problem, listed, said, shown

INFORMATION = "submission.yaml"
#: Names of the predictions file; a submission has exactly one of them.
PREDICTIONS = ("predictions.parquet", "predictions.safetensors")

_EXPECTED = f"{INFORMATION} and one of {' or '.join(PREDICTIONS)}"
_BLOCK = 1 << 20
_SLACK = 4 << 20
_DIRECTORY_END = struct.Struct("<4s4H2LH")
_MOST_MEMBERS = 100
_MAGIC = (
    (b"PK\x03\x04", "a zip (or a PyTorch or npz file)"),
    (b"PAR1", "parquet"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
    (b"#!", "a script"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"x\x9c", "a zlib stream, perhaps of joblib"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF"),
    (b"<", "HTML or XML"),
    (b"{", "JSON"),
)


@dataclass(frozen=True)
class Package:
    """What was found.

    Attributes:
        information: Bytes of ``submission.yaml``; None where it cannot be had.
        predictions: The predictions file; None where it cannot be had.
        problems: What is wrong with the package.
    """

    information: bytes | None
    predictions: Path | None
    problems: tuple[Problem, ...]


def looks_like(start: bytes) -> str:
    """Say by its first bytes what a file seems to be."""
    return next((what for magic, what in _MAGIC if start.startswith(magic)), "of an unknown kind")


@contextmanager
def opened(path: str | Path, limits: Limits) -> Iterator[Package]:
    """Yield the files of a submission; those out of a zip last as long as the context.

    Nothing of a zip decides where anything is written: two members of known names are inflated, block by block, into
    a temporary folder of our own.
    """
    source = Path(path)
    try:
        kind = source.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no possible file name"
        yield _nothing("submission", f"{shown(source.name)} cannot be read: {reason}.")
        return
    if stat.S_ISDIR(kind):
        yield _of_directory(source, limits)
    elif stat.S_ISREG(kind):
        with TemporaryDirectory(prefix="spurious-submission-") as folder:
            yield _of_zip(source, Path(folder), limits)
    else:
        yield _nothing("submission", f"{shown(source.name)} is neither a directory nor a zip file.")


def _nothing(where: str, message: str) -> Package:
    return Package(None, None, (Problem(where, message),))


def _of_directory(folder: Path, limits: Limits) -> Package:
    problems, sizes, names = [], {}, []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > _MOST_MEMBERS:
                    return _nothing("directory", f"it has more than {_MOST_MEMBERS} entries: expected {_EXPECTED}.")
                if entry.is_symlink():
                    problems.append(Problem("directory", f"{shown(entry.name)} is a link: expected a file."))
                elif not entry.is_file(follow_symlinks=False):
                    problems.append(Problem("directory", f"{shown(entry.name)} is not a file: expected {_EXPECTED}."))
                else:
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
    except OSError as error:
        return _nothing("directory", f"it cannot be read: {error.strerror}.")
    problems += _name_problems(names, "directory")
    for name in (INFORMATION, *PREDICTIONS):
        allowed = limits.information if name == INFORMATION else min(limits.upload, limits.inflated)
        if sizes.get(name, 0) > allowed:
            problems.append(Problem(name, f"it has {sizes.pop(name)} bytes: expected at most {allowed}."))
    information = (folder / INFORMATION).read_bytes() if INFORMATION in sizes else None
    return Package(information, _one_of(folder, sizes), tuple(sorted(problems, key=str)))


def _one_of(folder: Path, names: Sequence[str] | dict[str, int]) -> Path | None:
    found = [folder / name for name in PREDICTIONS if name in names]
    return found[0] if len(found) == 1 else None


def _name_problems(names: Sequence[str], where: str) -> list[Problem]:
    """Say which of the expected files are missing, there twice, or too many."""
    problems = []
    extra = sorted({name for name in names if name not in (INFORMATION, *PREDICTIONS)})
    twice = sorted({name for name in names if names.count(name) > 1})
    if extra:
        what = f"it also has {listed([shown(name) for name in extra])}"
        problems.append(Problem(where, f"{what}: expected {_EXPECTED}, and nothing else."))
    if twice:
        problems.append(Problem(where, f"it has {listed([shown(name) for name in twice])} more than once."))
    if INFORMATION not in names:
        problems.append(Problem(where, f"{INFORMATION} is missing."))
    found = {name for name in names if name in PREDICTIONS}
    if len(found) != 1:
        problems.append(Problem(where, f"it has {len(found)} predictions files: expected {' or '.join(PREDICTIONS)}."))
    return problems


def _of_zip(source: Path, folder: Path, limits: Limits) -> Package:
    size = source.stat().st_size
    if size > limits.upload:
        return _nothing("submission", f"it has {size} bytes: expected at most {limits.upload}.")
    refusal = _directory_refusal(source, size)
    if refusal:
        return _nothing("zip", refusal)
    try:
        with zipfile.ZipFile(source) as archive:
            return _of_archive(archive, folder, limits)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, struct.error) as error:
        return _nothing("zip", f"it is damaged or no zip: {said(error)}.")


def _directory_refusal(source: Path, size: int) -> str | None:
    """Look at the zip's closing record before its directory is read, which may name millions of members."""
    with source.open("rb") as file:
        start = file.read(8)
        file.seek(max(0, size - _DIRECTORY_END.size - (1 << 16) - 20))
        tail = file.read()
    if not start.startswith(b"PK"):
        return f"the file is {looks_like(start)}: expected a zip of {_EXPECTED}, or a directory."
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _DIRECTORY_END.size:
        return "it is cut off or damaged: it has no directory of its members."
    members, length = _DIRECTORY_END.unpack_from(tail, at)[4:6]
    if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
        return "it is in the zip64 format, for more than 4 GB: expected a plain zip."
    if members > _MOST_MEMBERS or length > _BLOCK:
        return f"it has {members} members: expected {_EXPECTED}."
    return None


def _of_archive(archive: zipfile.ZipFile, folder: Path, limits: Limits) -> Package:
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        return _nothing("zip", f"it has {len(members)} members: expected {_EXPECTED}.")
    problems = [p for m in members for p in _member_problems(m)]
    names = _without_top_folder([m for m in members if not m.is_dir()])
    problems += _name_problems(list(names.values()), "zip")
    usable = {
        name: member
        for member, name in zip(members_of(names, members), names.values(), strict=True)
        if name in (INFORMATION, *PREDICTIONS) and not _member_problems(member)
    }
    if len(usable) != len(names):  # what is refused for its members is not inflated
        return Package(None, None, tuple(sorted(set(problems), key=str)))
    for name, member in usable.items():
        reason = _inflate(archive, member, folder / name, limits.information if name == INFORMATION else None, limits)
        if reason:
            problems.append(Problem(name, reason))
            (folder / name).unlink(missing_ok=True)
    file = folder / INFORMATION
    left = [p.name for p in folder.iterdir()]
    return Package(file.read_bytes() if file.is_file() else None, _one_of(folder, left), tuple(problems))


def members_of(names: dict[int, str], members: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Return the members that :func:`_without_top_folder` named."""
    files = [m for m in members if not m.is_dir()]
    return [files[place] for place in names]


def _without_top_folder(members: Sequence[zipfile.ZipInfo]) -> dict[int, str]:
    """Return place -> name of each member, without the one folder in which all of them may lie."""
    parts = [PurePosixPath(m.filename).parts for m in members]
    tops = {p[0] for p in parts if len(p) == 2}
    if parts and len(tops) == 1 and all(len(p) == 2 for p in parts) and not tops & {"..", "/"}:
        return {i: p[1] for i, p in enumerate(parts)}
    return {i: m.filename for i, m in enumerate(members)}


def _member_problems(member: zipfile.ZipInfo) -> list[Problem]:
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    unsafe = name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts or "\0" in name
    reasons = []
    if unsafe:
        reasons.append("has a path that leads out of the zip")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        reasons.append("is a link or a device")
    if member.flag_bits & 1:
        reasons.append("is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        reasons.append("is compressed by a method other than deflate")
    return [
        Problem("zip", f"member {shown(name)} {reason}: expected {_EXPECTED} as plain files.") for reason in reasons
    ]


def _inflate(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, allowed: int | None, limits: Limits
) -> str | None:
    """Write a member's bytes to ``target``; return why it is refused, if it is."""
    most = limits.inflated if allowed is None else allowed
    written, dense = 0, member.compress_size * limits.ratio + _SLACK
    try:
        with archive.open(member) as source, target.open("xb") as file:
            while block := source.read(_BLOCK):
                written += len(block)
                if written > most:
                    return f"it inflates to more than {most} bytes, the most that is accepted."
                if written > dense:
                    return f"it inflates to more than {limits.ratio} times its size in the zip: it is not predictions."
                file.write(block)
        if written != member.file_size:
            return f"it inflates to {written} bytes: the zip says {member.file_size}."
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        return f"it cannot be read out of the zip, which is damaged: {said(error)}."
    return None
