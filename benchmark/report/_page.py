"""The page: one file that needs nothing else, and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from spurious_imagenet.benchmark.report import _words as words
from spurious_imagenet.benchmark.report._comparison import METRICS, Comparison
from spurious_imagenet.benchmark.report._figures import FIRST_CLASSES, METRIC_NAMES, Drawing, Plotter
from spurious_imagenet.benchmark.report._groups import Group
from spurious_imagenet.benchmark.report._svg import figure_svg
from spurious_imagenet.benchmark.report._thumbnails import Strip
from spurious_imagenet.benchmark.report.reported import ReportedPaper
from spurious_imagenet.benchmark.report.style import DARK, LIGHT


@dataclass(frozen=True)
class Content:
    """All that is said of one group.

    Attributes:
        group: Its records.
        comparison: Of the same group.
        strips: Class id -> images worth a look; empty if no images were given.
        without_picture: How many chosen images were not found.
    """

    group: Group
    comparison: Comparison
    strips: dict[str, tuple[Strip, ...]]
    without_picture: int = 0


def render_page(title: str, contents: Sequence[Content], papers: Sequence[ReportedPaper]) -> str:
    """Render the report.

    Args:
        title: Of the page.
        contents: Groups in the order in which they are shown.
        papers: What papers report.
    """
    style, script = _style(), _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing is fetched; pictures are in the page, and only this very script may run.
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_file), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"fixed": _fixed, "ends": _ends, "millions": _millions, "short": words.short_source}
    # Our own files and matplotlib's XML: what users wrote is escaped in both.
    own = {"style": Markup(style), "script": Markup(script), "policy": policy}  # noqa: S704
    sections = [_section(content, f"g{place + 1}") for place, content in enumerate(contents)]
    separated = words.separation_words(len(sections)) if len(sections) > 1 else ""
    template = environment.get_template("report.html.j2")
    return template.render(title=title, sections=sections, separated=separated, papers=papers, **own)


def _file(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _style() -> str:
    colors = {f"{name}_colors": _variables(palette) for name, palette in (("light", LIGHT), ("dark", DARK))}
    return string.Template(_file("report.css")).substitute(colors)


def _variables(palette: dict[str, str]) -> str:
    return " ".join(f"--{role}: {color};" for role, color in palette.items())


def _fixed(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _ends(interval: Any, digits: int = 3, factor: float = 1.0) -> str:
    return (
        ""
        if interval is None
        else f"{_fixed(factor * interval.low, digits)} to {_fixed(factor * interval.high, digits)}"
    )


def _millions(parameters: int | None) -> str:
    return "–" if parameters is None else f"{parameters / 1e6:.1f} M"


def _section(content: Content, prefix: str) -> dict[str, Any]:
    group, comparison = content.group, content.comparison
    plotter = Plotter(group, comparison)
    return {
        "id": prefix,
        "title": words.group_title(group),
        "group": group,
        "first": group.first,
        "comparison": comparison,
        "summary": words.summary(group, comparison),
        "rows": _rows(content),
        "legend": [{"label": m.label, "series": s} for m, s in zip(group.members, plotter.series, strict=True)],
        "figures": _figures(content, plotter, prefix),
        "classes": _classes(content, plotter),
        "without_picture": content.without_picture,
        "remarks": [(m.label, text) for m in group.members for text in m.record.remarks],
    }


def _rows(content: Content) -> list[dict[str, Any]]:
    members = content.group.members
    rows = []
    for place, member in enumerate(members):
        ties = {metric: content.comparison.ties(place, metric) for metric in METRICS}
        rows.append(
            {
                "member": member,
                "record": member.record,
                "best": {metric: _is_best(content, place, metric) for metric in METRICS},
                "ties": words.name_list([members[i].label for i in ties["spurious_auc"]])
                if ties["spurious_auc"]
                else "",
                "robustness": content.comparison.robustness.get(place),
            }
        )
    return rows


def _is_best(content: Content, place: int, metric: str) -> bool:
    """Tell whether a record has the highest mean, or cannot be told apart from the one that has."""
    means = [getattr(m.record.mean, metric) for m in content.group.members]
    best = means.index(max(means))
    return place == best or best in content.comparison.ties(place, metric)


def _figures(content: Content, plotter: Plotter, prefix: str) -> dict[str, dict[str, Any]]:
    group, comparison = content.group, content.comparison
    classes = len(group.first.classes)
    made: dict[str, dict[str, Any]] = {}

    def add(key: str, title: str, draw: Callable[..., Drawing]) -> None:
        drawings = {narrow: draw(narrow=narrow) for narrow in (False, True)}
        made[key] = {
            # The id of a figure is made of our own words; what users wrote is escaped by matplotlib and ElementTree.
            "wide": Markup(figure_svg(drawings[False].figure, f"{prefix}-{key}-w", title, drawings[False].tips)),  # noqa: S704
            "narrow": Markup(figure_svg(drawings[True].figure, f"{prefix}-{key}-n", title, drawings[True].tips)),  # noqa: S704
            "unnamed": drawings[False].unnamed,
        }

    for metric, name in METRIC_NAMES.items():
        short, some = metric.removeprefix("spurious_"), min(classes, FIRST_CLASSES)
        per_class, accuracy = partial(plotter.per_class, metric), partial(plotter.accuracy, metric)
        add(f"class-{short}", f"Dot plot of {name}, {some} classes", partial(per_class, first=FIRST_CLASSES))
        if classes > FIRST_CLASSES:
            add(f"all-{short}", f"Dot plot of {name}, all {classes} classes", per_class)
        add(f"accuracy-{short}", f"Scatter plot of accuracy against mean {name}", accuracy)
    if group.with_gaps:
        add(
            "gap",
            "Scatter plot of accuracy without against accuracy with spurious cues",
            plotter.gap,
        )
        add("curve", "Accuracy by spuriosity percentile", partial(plotter.curve, legend=False))
    if comparison.correlations:
        add("correlations", "Heat map of correlations of class-wise gaps", plotter.correlations)
    texts = {"accuracy-auc": words.mitigation_words(group, comparison)}
    texts |= {"gap": words.gap_words(group, comparison)} if group.with_gaps else {}
    texts |= {"correlations": words.correlation_words(group, comparison)} if comparison.correlations else {}
    for key, sentences in texts.items():
        made[key]["words"] = sentences
    return made


def _classes(content: Content, plotter: Plotter) -> list[dict[str, Any]]:
    """Say of each class what every model does on it, the hardest first."""
    members = content.group.members
    gaps = [{g.class_id: g for g in m.record.gaps.classes} if m.record.gaps else {} for m in members]
    classes = []
    for k in plotter.class_order("spurious_auc"):
        records = [m.record.classes[k] for m in members]
        first = records[0]
        values = [r.spurious_auc for r in records]
        rows = [
            {"label": m.label, "record": r, "gap": g.get(first.class_id)}
            for m, r, g in zip(members, records, gaps, strict=True)
        ]
        strips = [s for s in content.strips.get(first.class_id, ()) if s.images]
        classes.append({"first": first, "low": min(values), "high": max(values), "rows": rows, "strips": strips})
    return classes
