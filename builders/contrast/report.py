"""A comparison as files: the record, a Markdown page, and a figure where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from spurious_imagenet.builders.contrast._record import ContrastMeans, ContrastRecord, FoundCues
from spurious_imagenet.data_cards.card import escape_markdown
from spurious_imagenet.io import atomic_directory

__all__ = ["cue_rows", "measures", "write_contrast"]


def write_contrast(record: ContrastRecord, out: str | Path) -> tuple[str, ...]:
    """Write ``contrast.json``, ``contrast.md`` and, with the extra ``boards`` installed, ``contrast.png``.

    Args:
        record: What to write.
        out: Directory to appear, whole or not at all.

    Returns:
        The names of the files.

    Raises:
        StoreError: ``out`` is there and not empty.
    """
    figure = find_spec("matplotlib") is not None
    with atomic_directory(out) as directory:
        (directory / "contrast.json").write_text(record.to_json(), encoding="utf-8")
        (directory / "contrast.md").write_text(_page(record, figure), encoding="utf-8")
        if figure:
            _draw(record, directory / "contrast.png")
    return ("contrast.json", "contrast.md", *(("contrast.png",) if figure else ()))


def measures(means: ContrastMeans) -> list[tuple[str, str, str, str]]:
    """Return rows of name (with where diversity lies), value of components, of neurons, and what chance would give."""
    return [
        (
            "overlap of top images within ↓",
            f"{means.npca.overlap:.3f}",
            f"{means.neurons.overlap:.3f}",
            f"{means.chance:.3f}",
        ),
        (
            "different images among them ↑",
            f"{means.npca.distinct:.3f}",
            f"{means.neurons.distinct:.3f}",
            "",
        ),
        ("overlap between components and neurons", f"{means.between:.3f}", "", f"{means.chance:.3f}"),
        ("share of one span in the other", f"{means.shared_subspace:.3f}", "", f"{means.chance_subspace:.3f}"),
    ]


def cue_rows(record: ContrastRecord) -> list[tuple[str, ...]]:
    """Return rows of class, cue, and for both kinds the best AUC and how many concepts find the cue."""
    if record.npca_cues is None or record.neuron_cues is None:
        return []
    names = {c.class_id: c.class_name for c in record.classes}
    return [
        (names.get(a.class_id, a.class_id), a.cue, f"{a.auc:.3f}", str(a.finders), f"{b.auc:.3f}", str(b.finders))
        for a, b in zip(record.npca_cues.pairs, record.neuron_cues.pairs, strict=True)
    ]


def _page(record: ContrastRecord, figure: bool) -> str:
    lines = [
        f"# Neural PCA components and top neurons of {escape_markdown(record.model)}",
        "",
        f"The first {record.top} of both kinds in {len(record.classes)} classes, by their top {record.top_images} "
        f"images a concept. Components overlap less than neurons in {record.npca_less_overlap} classes.",
        "",
        *_markdown(("mean over classes", "components", "neurons", "chance"), measures(record.mean)),
        "",
        *(["![Overlap of the top images within each class](contrast.png)", ""] if figure else []),
        *_cue_lines(record),
        "## Classes",
        "",
        *_markdown(
            ("class", "images", "overlap components", "overlap neurons", "overlap between", "smallest angle (°)"),
            [
                (
                    escape_markdown(c.class_name),
                    str(c.images),
                    f"{c.npca.overlap:.3f}",
                    f"{c.neurons.overlap:.3f}",
                    f"{c.between:.3f}",
                    f"{c.angles[0]:.1f}",
                )
                for c in record.classes
            ],
        ),
    ]
    if record.refused:
        lines += [
            "",
            "## Left out",
            "",
            *(f"- {escape_markdown(k)}: {why}" for k, why in sorted(record.refused.items())),
        ]
    return "\n".join(lines) + "\n"


def _cue_lines(record: ContrastRecord) -> list[str]:
    def found(cues: FoundCues) -> str:
        return f"{cues.found} of {cues.planted}"

    if record.npca_cues is None or record.neuron_cues is None:
        return []
    return [
        "## Planted cues",
        "",
        f"Components find {found(record.npca_cues)}, neurons {found(record.neuron_cues)} (AUC of at least "
        f"{record.npca_cues.threshold} for images that show the cue alone).",
        "",
        *_markdown(("class", "cue", "AUC components", "find it", "AUC neurons", "find it"), cue_rows(record)),
        "",
    ]


def _markdown(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ("---",) * len(header), *rows)]


def _draw(record: ContrastRecord, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    neurons, npca = [c.neurons.overlap for c in record.classes], [c.npca.overlap for c in record.classes]
    end = 1.08 * max(*neurons, *npca, 0.01)
    axes.plot((0, end), (0, end), color="0.6", linewidth=1)
    axes.scatter(neurons, npca, s=18, alpha=0.7, color="#1f6f8b")
    axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")
    axes.set_xlabel(f"overlap within the top {record.top} neurons")
    axes.set_ylabel(f"overlap within the top {record.top} components")
    axes.set_title("One dot per class; below the line components are more diverse", fontsize="small")
    figure.savefig(path, format="png", metadata={"Software": None})
