"""Records in, a page out; and the same figures and tables as files for a paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spurious_imagenet.benchmark.report._comparison import compare_group
from spurious_imagenet.benchmark.report._figures import METRIC_NAMES, Drawing, Plotter
from spurious_imagenet.benchmark.report._groups import group_records, load_measured
from spurious_imagenet.benchmark.report._page import Content, render_page
from spurious_imagenet.benchmark.report._thumbnails import choose_images, with_pictures
from spurious_imagenet.benchmark.report.reported import reported_papers
from spurious_imagenet.benchmark.report.style import drawing
from spurious_imagenet.benchmark.report.tables import class_table, difference_table, model_table, table_files
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import atomic_directory, atomic_path, is_unused

_NO_DATES: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: The page.
        size: Of the page, bytes.
        records: How many.
        groups: Of how many groups that are not compared with each other.
        figures: Figure files.
        tables: Table files.
        without_picture: Chosen images that were not found or cannot be shown.
    """

    path: Path
    size: int
    records: int
    groups: int
    figures: int
    tables: int
    without_picture: int


def write_report(
    records: Iterable[str | Path],
    out: str | Path,
    *,
    figures: str | Path | None = None,
    tables: str | Path | None = None,
    images: str | Path | None = None,
    val: str | None = None,
    rankings: str | Path | None = None,
    title: str = "Spurious features: report",
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write records as one page that opens from disk and needs no network.

    Equal records, images and arguments give equal bytes.

    Args:
        records: Record files, or folders of them; their predictions are beside them.
        out: The page, replaced if it is there.
        figures: New folder for every figure as PNG, SVG and PDF.
        tables: New folder for every table as CSV, Markdown and LaTeX.
        images: The dataset of spurious images, for pictures in the page.
        val: The validation images (shards or folder), likewise.
        rankings: Folder of ``spurious rank``: missed validation images are then those of lowest spuriosity.
        title: Of the page.
        resamples: Bootstrap resamples of paired differences.
        seed: Of the bootstrap.
        progress: Told what is being done.

    Raises:
        DataError: Records or images are not what they must be; see :func:`load_measured` and :func:`with_pictures`.
        StoreError: ``figures`` or ``tables`` already exists.
    """
    for folder in (figures, tables):
        if folder is not None and not is_unused(folder):
            raise StoreError(f"{folder} already exists: expected a new or empty folder to write to.")
    groups = group_records(load_measured(records))
    ranked = None if rankings is None else Rankings.load(rankings)
    contents = []
    for group in groups:
        progress(f"comparing {len(group.members)} records")
        comparison = compare_group(group, resamples=resamples, seed=seed)
        progress("reading images")
        strips = choose_images(group, ranked) if images is not None or val is not None else {}
        contents.append(Content(group, comparison, *with_pictures(strips, group, images, val)))
    with drawing():
        progress("drawing")
        page = render_page(title, contents, reported_papers())
        drawn = 0 if figures is None else _write_figures(contents, Path(figures))
    written = 0 if tables is None else _write_tables(contents, Path(tables))
    with atomic_path(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    without = sum(c.without_picture for c in contents)
    size = Path(out).stat().st_size
    return Report(Path(out), size, sum(len(g.members) for g in groups), len(groups), drawn, written, without)


def _prefix(contents: list[Content], place: int) -> str:
    return "" if len(contents) == 1 else f"{place + 1}-"


def _drawings(content: Content) -> Iterator[tuple[str, Drawing]]:
    plotter = Plotter(content.group, content.comparison)
    for metric in METRIC_NAMES:
        name = metric.replace("_", "-")
        yield f"{name}-per-class", plotter.per_class(metric, narrow=False)
        yield f"accuracy-and-{name}", plotter.accuracy(metric, narrow=False)
    if content.group.with_gaps:
        yield "accuracy-with-and-without-cues", plotter.gap(narrow=False)
        yield "accuracy-by-spuriosity", plotter.curve(narrow=False, legend=True)
    if content.comparison.correlations:
        yield "gap-correlations", plotter.correlations(narrow=False)


def _write_figures(contents: list[Content], folder: Path) -> int:
    with atomic_directory(folder) as temporary:
        for place, content in enumerate(contents):
            for name, drawn in _drawings(content):
                for kind, metadata in _NO_DATES.items():
                    path = temporary / f"{_prefix(contents, place)}{name}.{kind}"
                    drawn.figure.savefig(path, format=kind, dpi=200, metadata=metadata)
        return len(list(temporary.iterdir()))


def _write_tables(contents: list[Content], folder: Path) -> int:
    files: dict[str, str] = {}
    for place, content in enumerate(contents):
        tables = [("models", model_table(content.group, content.comparison)), ("classes", class_table(content.group))]
        tables.append(("pairs", difference_table(content.group, content.comparison)))
        files |= table_files([(f"{_prefix(contents, place)}{name}", table) for name, table in tables])
    with atomic_directory(folder) as temporary:
        for name, text in files.items():
            (temporary / name).write_text(text, encoding="utf-8")
    return len(files)
