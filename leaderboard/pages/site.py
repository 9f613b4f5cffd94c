"""Site: every page, data file, picture and download of a board by its address; a server and an export give the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import version as installed_version
from typing import Any, NamedTuple

from spurious_imagenet.benchmark.report.reported import reported_papers
from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.leaderboard.pages import _downloads as downloads
from spurious_imagenet.leaderboard.pages._class_pages import class_context, class_list, image_context
from spurious_imagenet.leaderboard.pages._entry_page import entry_context, entry_script
from spurious_imagenet.leaderboard.pages._pictures import board_key, board_picture, image_key, image_picture
from spurious_imagenet.leaderboard.pages._request_page import request_rows
from spurious_imagenet.leaderboard.pages._table import csv_table, equal_entries, table_script, undefined_columns
from spurious_imagenet.leaderboard.pages.board import BoardData
from spurious_imagenet.leaderboard.pages.rendering import ASSETS, asset, render, slug

__all__ = ["File", "Site"]

_HTML, _SCRIPT, _JSON, _CSV = "text/html", "text/javascript", "application/json", "text/csv"
_PARQUET, _JPEG = "application/vnd.apache.parquet", "image/jpeg"
_ID, _VERSION, _SLUG = r"([0-9a-f]{64})", r"(\d{1,6}\.\d{1,6}\.\d{1,6})", r"([a-z0-9_-]{1,80})"


class File(NamedTuple):
    """One file of the site."""

    content: bytes
    media_type: str


class Site:
    """Renders the files of a board.

    Args:
        data: What the board holds.
        submit: Link to a submit page at ``submit/``.
        predictions: Offer every entry's predictions for download.
    """

    def __init__(self, data: BoardData, *, submit: bool = False, predictions: bool = True) -> None:
        self.data, self.board = data, data.latest
        self.submit, self.predictions = submit, predictions
        self._code_version = installed_version("spurious-imagenet")
        self._routes: list[tuple[re.Pattern[str], Callable[..., File | None]]] = [
            (re.compile(pattern), make)
            for pattern, make in (
                (r"index\.html", self._index),
                (r"(classes|compare|about|requests)\.html", self._page),
                (rf"models/{_ID}\.html", self._entry),
                (rf"classes/{_SLUG}\.html", self._class),
                (rf"images/{_ID}\.html", self._image),
                (r"assets/([a-z]+\.[a-z]+)", self._asset),
                (r"favicon\.ico", lambda: self._asset("icon.svg")),
                (rf"data/table-{_VERSION}\.js", self._table_script),
                (rf"data/entries/{_VERSION}/{_ID}\.js", self._entry_script),
                (rf"pictures/images/{_ID}\.jpg", self._image_picture),
                (rf"pictures/boards/{_SLUG}\.jpg", self._board_picture),
                (rf"downloads/table-{_VERSION}\.csv", self._csv),
                (r"downloads/entries\.json", self._entries),
                (rf"downloads/version-{_VERSION}\.json", self._version),
                (rf"downloads/entries/{_ID}\.json", self._entry_record),
                (rf"downloads/scores/{_VERSION}/{_ID}\.json", self._score_record),
                (rf"downloads/predictions/{_ID}\.parquet", self._predictions_file),
            )
        ]

    def file(self, path: str) -> File | None:
        """Return the file of an address, or None if there is none.

        Args:
            path: Without a leading slash; empty for the first page.

        Raises:
            StoreError: What it is made of is torn.
        """
        for pattern, make in self._routes:
            match = pattern.fullmatch(path or "index.html")
            if match:
                return make(*match.groups())
        return None

    def missing(self, path: str) -> File:
        """Return the page that says that there is no such page."""
        return self._html("missing", "../" * path.count("/"), "")

    def paths(self) -> Iterator[str]:
        """Yield the address of every file."""
        yield from (
            "index.html",
            "classes.html",
            "compare.html",
            "about.html",
            "requests.html",
            "downloads/entries.json",
        )
        yield from (f"assets/{name}" for name in ASSETS)
        yield from (f"classes/{name}.html" for name in self._classes)
        for name in self.data.versions:
            yield from (f"data/table-{name}.js", f"downloads/table-{name}.csv", f"downloads/version-{name}.json")
        for entry_id in self.data.entries:  # its files follow each other: each is made of the same score
            yield from (f"models/{entry_id}.html", f"downloads/entries/{entry_id}.json")
            for name in self.data.versions:
                if entry_id in self.data.version(name).entries:
                    yield from (f"data/entries/{name}/{entry_id}.js", f"downloads/scores/{name}/{entry_id}.json")
            if self.predictions:
                yield f"downloads/predictions/{entry_id}.parquet"
        for sha256 in self._images:
            yield f"images/{sha256}.html"
            if image_key(sha256) in self.board.pictured:
                yield image_picture(sha256)
        yield from (board_picture(c) for c in self._concepts.values() if board_key(c) in self.board.pictured)

    @cached_property
    def _classes(self) -> dict[str, str]:
        return {slug(class_id): class_id for class_id in self.board.version.info.class_names}

    @cached_property
    def _concepts(self) -> dict[str, str]:
        return {slug(str(c)): str(c) for c in self.board.spurious["concept_id"].unique()}

    @cached_property
    def _images(self) -> dict[str, None]:
        retired = (r.sha256 for r in self.board.version.info.retired)
        return dict.fromkeys([*(str(s) for s in self.board.spurious["sha256"]), *retired])

    def _html(self, template: str, root: str, here: str, **values: Any) -> File:
        site = {
            "name": self.board.version.info.name,
            "version": self.board.name,
            "entries": len(self.board.entries),
            "code_version": self._code_version,
            "submit": self.submit,
            "predictions": self.predictions,
        }
        return File(render(template, root=root, here=here, site=site, **values), _HTML)

    @cached_property
    def _counts(self) -> dict[str, Any]:
        sides = self.board.version.images["side"].value_counts()
        return {
            "entries": len(self.board.entries),
            "classes": len(self.board.version.info.class_names),
            "spurious": f"{sides.get('spurious', 0):,}",
            "validation": f"{sides.get('validation', 0):,}",
            "validation_classes": f"{self.board.version.side('validation')['class_id'].nunique():,}",
        }

    def _index(self) -> File:
        return self._html(
            "index",
            "",
            "index",
            counts=self._counts,
            versions=self.data.versions,
            papers=reported_papers(),
            undefined=[*equal_entries(self.board), *undefined_columns(self.board)],
        )

    def _page(self, name: str) -> File:
        values: dict[str, Callable[[], dict[str, Any]]] = {
            "classes": lambda: {"classes": class_list(self.board)},
            "compare": lambda: {"versions": self.data.versions},
            "requests": lambda: {"requests": request_rows(self.data)},
            "about": lambda: {
                "info": self.board.version.info,
                "counts": self._counts,
                "versions": self.data.versions,
            },
        }
        return self._html(name, "", name, **values[name]())

    def _entry(self, entry_id: str) -> File | None:
        entry = self.data.entries.get(entry_id)
        return None if entry is None else self._html("model", "../", "", m=entry_context(self.data, entry))

    def _class(self, name: str) -> File | None:
        if name not in self._classes:
            return None
        return self._html("class", "../", "", c=class_context(self.board, self._classes[name]))

    def _image(self, sha256: str) -> File | None:
        found = image_context(self.board, sha256)
        return None if found is None else self._html("image", "../", "", **found)

    def _asset(self, name: str) -> File | None:
        return File(asset(name), ASSETS[name]) if name in ASSETS else None

    def _table_script(self, version: str) -> File | None:
        return self._of_version(version, lambda board: File(table_script(board), _SCRIPT))

    def _csv(self, version: str) -> File | None:
        return self._of_version(version, lambda board: File(csv_table(board), _CSV))

    def _version(self, version: str) -> File | None:
        return self._of_version(version, lambda board: File(downloads.version_record(board), _JSON))

    def _entry_script(self, version: str, entry_id: str) -> File | None:
        return self._of_version(
            version,
            lambda board: File(entry_script(board, entry_id), _SCRIPT) if entry_id in board.entries else None,
        )

    def _of_version(self, version: str, make: Callable[..., File | None]) -> File | None:
        try:
            board = self.data.version(version)
        except DataError:
            return None
        return make(board)

    def _entries(self) -> File:
        return File(downloads.entries_record(self.board), _JSON)

    def _entry_record(self, entry_id: str) -> File | None:
        content = downloads.entry_record(self.data.store, entry_id)
        return None if content is None else File(content, _JSON)

    def _score_record(self, version: str, entry_id: str) -> File | None:
        if version not in self.data.versions:
            return None
        latest = version == self.board.name
        scored = self.board.whole_score(entry_id) if latest else self.data.store.scored(entry_id, version)
        return None if scored is None else File(downloads.record(scored.score), _JSON)

    def _predictions_file(self, entry_id: str) -> File | None:
        if not self.predictions:
            return None
        try:
            return File(downloads.predictions_file(self.data.store, entry_id), _PARQUET)
        except StoreError:
            return None

    def _image_picture(self, sha256: str) -> File | None:
        return self._picture(image_key(sha256)) if sha256 in self._images else None

    def _board_picture(self, name: str) -> File | None:
        return self._picture(board_key(self._concepts[name])) if name in self._concepts else None

    def _picture(self, key: str) -> File | None:
        if key not in self.board.pictured:
            return None
        found = self.data.store.pictures(self.board.name, [key]).get(key, b"")
        return File(found, _JPEG) if found.startswith(b"\xff\xd8") else None
