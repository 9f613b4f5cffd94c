"""The Hugging Face Hub: datasets go there in one commit, and single files come back; the only door to its client."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoFile,
    constants,
    get_token,
    hf_hub_download,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from spurious_imagenet.errors import ConfigError, DataError, SpuriousImagenetError, one_line
from spurious_imagenet.io import sha256_file
from spurious_imagenet.process_state import Bars

__all__ = ["HubError", "PushResult", "fetch_file", "push_dataset"]

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_VERSION = re.compile(r"\d{1,6}\.\d{1,6}\.\d{1,6}")
_SECRETS = re.compile(r"\bhf_[A-Za-z0-9_]{6,}|(?<=Bearer )[^\s'\"]+")

#: What a publisher writes: these are deleted on the Hub once the dataset has them no more. Other files are not ours.
_OUR_FILES = {"README.md", "NOTICE.txt", "dataset.json", "rankings.json", "croissant.json", "eval.yaml"}
_OUR_FOLDERS = {"data", "samples", "concepts", "retired", "low", "middle", "high"}

#: The client is built on another HTTP library in each major version; its errors' base is the common name for them.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
_BARS = Bars(are_progress_bars_disabled, disable_progress_bars, enable_progress_bars)


class HubError(SpuriousImagenetError):
    """The Hub does not answer, or does not do what it was asked."""


@dataclass(frozen=True)
class PushResult:
    """What a push did.

    Attributes:
        url: The commit, or the pull request.
        commit: Its hash.
        tag: The tag that names this version; None for a pull request.
        pull_request: URL of the pull request, if one was opened.
        written: Files that are new or have changed.
        deleted: Files that are no longer part of the dataset.
        unchanged: How many files were there already.
    """

    url: str
    commit: str
    tag: str | None
    pull_request: str | None
    written: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: int


def push_dataset(
    folder: str | Path,
    repo_id: str,
    *,
    version: str,
    message: str | None = None,
    pull_request: bool = False,
    private: bool = True,
    endpoint: str | None = None,
    progress: bool = False,
) -> PushResult:
    """Make a dataset repository hold exactly a published folder, by one commit, and tag it ``v<version>``.

    Whatever breaks on the way, the repository has all of the version or nothing of it, and the same call again sends
    only what is not up yet. Files that no publisher writes stay as they are. The token is that of the usual login.

    Args:
        folder: A dataset folder, written by ``spurious publish`` or ``spurious rank``. Hidden files are left out.
        repo_id: ``organisation/name``; made if it is missing.
        version: Of the dataset, such as ``1.2.0``.
        message: Title of the commit.
        pull_request: Open a pull request, if none of this title holds the same, and leave ``main`` and tags alone.
        private: Whether a repository that is made is visible to its organisation only.
        endpoint: Address of the Hub; None: the usual one, or ``HF_ENDPOINT``.
        progress: Show the client's progress bars on standard error.

    Raises:
        ConfigError: The repository's name, the version or the address is none.
        DataError: The folder is no dataset, or the version's tag names other content.
        HubError: The Hub does not answer or refuses.
    """
    tag, title = _tag(version), message or f"Publish version {version}"
    files = _files(Path(folder))
    with _hub(repo_id, endpoint, progress=progress) as api:
        head, tags = _head(api, repo_id, private), _tags(api, repo_id)
        if tag in tags:
            _demand_same(files, _remote(api, repo_id, tags[tag]), repo_id, tag)
            return PushResult(f"{api.endpoint}/datasets/{repo_id}/tree/{tag}", tags[tag], tag, None, (), (), len(files))
        written, deleted = _difference(files, _remote(api, repo_id, head))
        if pull_request and (there := _same_request(api, repo_id, title, files)):
            return there
        url, commit, request = f"{api.endpoint}/datasets/{repo_id}/commit/{head}", head, None
        if written or deleted:
            info = api.create_commit(
                repo_id,
                [
                    *(CommitOperationAdd(path, str(files[path])) for path in written),
                    *(CommitOperationDelete(path, is_folder=False) for path in deleted),
                ],
                commit_message=title,
                repo_type="dataset",
                parent_commit=head,
                create_pr=pull_request,
            )
            url, commit, request = info.pr_url or info.commit_url, info.oid, info.pr_url
            _demand_whole(files, _remote(api, repo_id, info.pr_revision or commit), repo_id)
        if not pull_request:
            api.create_tag(repo_id, tag=tag, revision=commit, repo_type="dataset")
    return PushResult(url, commit, None if pull_request else tag, request, written, deleted, len(files) - len(written))


def fetch_file(repo_id: str, path: str, *, revision: str | None = None, endpoint: str | None = None) -> Path | None:
    """Return a local copy of one file of a dataset repository, or None if the repository has no such file.

    Args:
        repo_id: ``organisation/name``.
        path: In the repository.
        revision: Tag, branch or commit; None: ``main``.
        endpoint: Address of the Hub; None: the usual one, or ``HF_ENDPOINT``.

    Raises:
        ConfigError: The repository's name or the address is none.
        HubError: The Hub does not answer or refuses, or there is no such repository or revision.
    """
    with _hub(repo_id, endpoint) as api:
        try:
            found = hf_hub_download(repo_id, path, repo_type="dataset", revision=revision, endpoint=api.endpoint)
        except EntryNotFoundError as error:
            if isinstance(error, FileNotFoundError):  # not in the cache, and the Hub was not asked or did not answer
                raise
            return None
    return Path(found)


def _tag(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise ConfigError(f"got the version {version!r}: expected three numbers such as 1.2.0.")
    return f"v{version}"


def _files(folder: Path) -> dict[str, Path]:
    """Return the files of a dataset folder by their path in it."""
    if not (folder / "README.md").is_file():
        raise DataError(f"{folder} is not a dataset folder: expected a README.md in it, as `spurious publish` writes.")
    files = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue
        if path.is_symlink():
            raise DataError(f"{path} is a symbolic link: expected the files themselves in a dataset folder.")
        if path.is_file():
            files[inside.as_posix()] = path
    return files


def _head(api: HfApi, repo_id: str, private: bool) -> str:
    """Return the commit that ``main`` is at; make the repository if it is missing."""
    try:
        info = api.dataset_info(repo_id)
    except RepositoryNotFoundError:
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        info = api.dataset_info(repo_id)
    if info.sha is None:
        raise HubError(f"the Hub did not say at which commit {repo_id} is.")
    return info.sha


def _tags(api: HfApi, repo_id: str) -> dict[str, str]:
    return {t.name: t.target_commit for t in api.list_repo_refs(repo_id, repo_type="dataset").tags}


def _same_request(api: HfApi, repo_id: str, title: str, files: dict[str, Path]) -> PushResult | None:
    """Return the open pull request that holds these files already: the answer to a push may have been lost."""
    for request in api.get_repo_discussions(
        repo_id, discussion_type="pull_request", discussion_status="open", repo_type="dataset"
    ):
        if request.title == title and request.git_reference:
            commit = api.dataset_info(repo_id, revision=request.git_reference).sha
            if commit and not any(_difference(files, _remote(api, repo_id, commit))):
                return PushResult(request.url, commit, None, request.url, (), (), len(files))
    return None


def _remote(api: HfApi, repo_id: str, revision: str) -> dict[str, RepoFile]:
    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset")
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _difference(files: dict[str, Path], remote: dict[str, RepoFile]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the paths to write and the paths to delete."""
    written = tuple(path for path, file in files.items() if path not in remote or not _same(file, remote[path]))
    ours = _OUR_FOLDERS | {PurePosixPath(path).parts[0] for path in files if "/" in path}
    stale = (p for p in sorted(remote) if p in _OUR_FILES or ("/" in p and PurePosixPath(p).parts[0] in ours))
    return written, tuple(path for path in stale if path not in files)


def _same(file: Path, remote: RepoFile) -> bool:
    if file.stat().st_size != remote.size:
        return False
    if remote.lfs is not None:
        return sha256_file(file) == remote.lfs.sha256
    blob = hashlib.sha1(b"blob %d\0" % remote.size, usedforsecurity=False)  # as git names a file's content
    blob.update(file.read_bytes())
    return blob.hexdigest() == remote.blob_id


def _demand_same(files: dict[str, Path], remote: dict[str, RepoFile], repo_id: str, tag: str) -> None:
    if other := [path for paths in _difference(files, remote) for path in paths]:
        raise DataError(
            f"{repo_id} has the tag {tag} with other content ({_listed(other)}): what a version holds never changes, "
            "expected a new version."
        )


def _demand_whole(files: dict[str, Path], remote: dict[str, RepoFile], repo_id: str) -> None:
    written, deleted = _difference(files, remote)
    if missing := (*written, *deleted):
        raise HubError(f"{repo_id} did not take {_listed(missing)}: is there a .gitignore, or another writer?")


def _listed(paths: Sequence[str]) -> str:
    return f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


@contextmanager
def _hub(repo_id: str, endpoint: str | None, *, progress: bool = False) -> Iterator[HfApi]:
    """Yield a client whose errors come out as one sentence, without the token; its bars stay away unless asked for."""
    if not _REPO_ID.fullmatch(repo_id):
        raise ConfigError(f"got the repository {repo_id!r}: expected organisation/name.")
    address = (endpoint or constants.ENDPOINT).rstrip("/")
    if not address.startswith(("https://", "http://")):
        raise ConfigError(f"got the Hub's address {address!r}: expected https://... .")
    try:
        with nullcontext() if progress else _BARS.hidden():
            yield HfApi(endpoint=address, library_name="spurious-imagenet")
    except (_HTTP_ERROR, OSError, ValueError, RuntimeError) as error:
        # The error's own text may hold what was sent; it is not chained.
        raise HubError(_redacted(_sentence(error, repo_id, address))) from None


def _sentence(error: BaseException, repo_id: str, address: str) -> str:
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # how the client wraps a failed upload
        error = error.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        return f"{address} was not asked for {repo_id}: HF_HUB_OFFLINE is set."
    response = getattr(error, "response", None)
    if isinstance(error, HfHubHTTPError) and response is not None:
        return _refusal(response.status_code, error.server_message or str(error), repo_id, address)
    said = one_line(error) or type(error).__name__
    if isinstance(error, ValueError):
        return f"{repo_id} cannot be written to {address}: {said}"
    return f"{address} does not answer ({said}): expected a network; the same push again goes on from what is there."


def _refusal(status: int, said: str, repo_id: str, address: str) -> str:
    again = "the same push again goes on from what is there"
    login = "log in with `hf auth login` or set HF_TOKEN"
    if status == 401 and get_token() is None:
        return f"{address} wants to know who asks for {repo_id}, and there is no token: {login}."
    if status >= 500:
        return f"{address} failed with status {status} on {repo_id}; {again}."
    said = " ".join(said.split())[:200]
    sentences = {
        401: f"{address} does not accept the token for {repo_id}: {login} with one that is valid.",
        403: f"the token may not do this with {repo_id} on {address}: {said}",
        404: f"{repo_id}, or the revision asked for, is not on {address}, or the token may not see it.",
        409: f"{address} reports a conflict in {repo_id} ({said}): another push may be under way; {again}.",
        412: f"{repo_id} was changed by someone else during the push, so nothing of it was written; {again}.",
        429: f"{address} has had too many requests: wait; {again}.",
    }
    return sentences.get(status, f"{address} refused {repo_id} with status {status}: {said}")


def _redacted(text: str) -> str:
    if token := get_token():
        text = text.replace(token, "***")
    return _SECRETS.sub("***", text)
