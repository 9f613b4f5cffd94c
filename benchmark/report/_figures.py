"""The figures of a report; each is drawn wide and narrow, for a page, and once for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.benchmark.report._comparison import Comparison
from spurious_imagenet.benchmark.report._groups import Group, MeasuredModel
from spurious_imagenet.benchmark.report.style import (
    LIGHT,
    Series,
    heat_color,
    new_figure,
    place_labels,
    series_of,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


METRIC_NAMES = {"spurious_auc": "spurious AUC", "spurious_ap": "spurious AP"}
_DODGED = 4
_SEPARATE = 12
FIRST_CLASSES = 25
_NUMBERED = 16
_BANDS = 3


@dataclass
class Drawing:
    """A figure and what its points are.

    Attributes:
        figure: The figure.
        tips: Id of an artist -> what each of its points is.
        unnamed: How many points found no room for their names.
    """

    figure: Figure
    tips: dict[str, list[str]] = field(default_factory=dict)
    unnamed: int = 0


class Plotter:
    """Draws the figures of one group.

    Args:
        group: Records that may be compared.
        comparison: Of the same group.
    """

    def __init__(self, group: Group, comparison: Comparison) -> None:
        self.group, self.comparison = group, comparison
        members = group.members
        self.series = series_of([m.network for m in members], [m.record.mitigation is not None for m in members])

    def class_order(self, metric: str) -> list[int]:
        """Places of the classes in the records, from the lowest mean of the metric over the models."""
        values = [[getattr(c, metric) for c in m.record.classes] for m in self.group.members]
        return [int(k) for k in np.argsort(np.mean(values, axis=0), kind="stable")]

    def per_class(self, metric: str, *, narrow: bool, first: int | None = None) -> Drawing:
        """Draw each model's mean, then the metric class by class, the hardest classes above (SFE Fig. 6).

        Args:
            metric: A field of a record's means.
            narrow: For a phone.
            first: How many classes; all where left out.
        """
        order = self.class_order(metric)[:first]
        records = [m.record for m in self.group.members]
        separate = len(records) <= _SEPARATE
        tops = [m.label for m in self.group.members] if separate else ["mean over classes"]
        names = [records[0].classes[k].class_name for k in order]
        dodged = 1 < len(records) <= _DODGED
        tall = (0.5 + 0.4 * len(records)) if dodged else 1.0  # height of a class, where that of a mean is 1
        at = len(tops) + 0.1 + tall * (np.arange(len(names)) + 0.5)
        bottom = float(at[-1] + 0.6 * tall)
        figure, axes = new_figure(
            narrow, 0.7 + 0.235 * bottom, "", f"{METRIC_NAMES[metric]}: higher is better, 1 is best"
        )
        drawing = Drawing(figure)
        for place, (member, series) in enumerate(zip(self.group.members, self.series, strict=True)):
            items: list[Any] = [member.record.classes[k] for k in order]
            values = [getattr(member.record.mean, metric), *(getattr(c, metric) for c in items)]
            intervals = [member.record.mean_intervals.get(metric), *(c.intervals.get(metric) for c in items)]
            shift = ((place + 0.5) / len(records) - 0.5) * 0.72 * tall if dodged else 0.0
            rows = [place if separate else 0, *(at + shift)]
            for y, interval in zip(rows, intervals, strict=True):
                if interval is not None and (dodged or len(records) == 1 or (separate and y == rows[0])):
                    axes.plot([interval.low, interval.high], [y, y], color=series.color, lw=1.3, alpha=0.6)
            gid = f"m{place}.{metric}"
            axes.plot(
                values,
                rows,
                ls="none",
                ms=series.size(5.5),
                mew=1.2,
                gid=gid,
                label=shorten(member.label, 34),
                **series.style,
            )
            drawing.tips[gid] = [
                f"{member.label}, {name}: {with_interval(value, interval)}"
                for name, value, interval in zip(["mean over classes", *names], values, intervals, strict=True)
            ]
        length = 16 if narrow else 34
        axes.set_yticks([*range(len(tops)), *at], [shorten(name, length) for name in (*tops, *names)])
        axes.tick_params(axis="y", labelcolor=LIGHT["ink"])
        for text, _ in zip(axes.get_yticklabels(), tops, strict=False):
            text.set_fontweight("bold")
        axes.set_ylim(bottom, -0.6)
        axes.axhline(len(tops) - 0.4, color=LIGHT["soft"], lw=0.8)
        if metric == "spurious_auc":
            axes.axvline(0.5, color=LIGHT["soft"], lw=1, ls=(0, (4, 3)), zorder=0.5)
        axes.set_xlim(max(-0.02, min(axes.get_xlim()[0], 0.45)), 1.02)
        axes.spines["left"].set_visible(False)
        return drawing

    def accuracy(self, metric: str, *, narrow: bool) -> Drawing:
        """Draw accuracy against spurious score, with an arrow from a model to its mitigation (SFE Table 1)."""
        records = [m.record for m in self.group.members]
        points = [(100 * r.accuracy, getattr(r.mean, metric)) for r in records]
        bars = [
            (Interval(low=100 * r.accuracy_interval.low, high=100 * r.accuracy_interval.high),)
            + ((r.mean_intervals[metric],) if metric in r.mean_intervals else (None,))
            for r in records
        ]
        figure, axes = new_figure(
            narrow, 3.6 if narrow else 4.6, f"Mean {METRIC_NAMES[metric]} (higher is better)", "Accuracy, % →"
        )
        drawing = self._scatter(figure, axes, self.group.members, points, bars)
        for base, fixed in self.group.pairs:
            start, end = (points[self.group.members.index(m)] for m in (base, fixed))
            color = self.series[self.group.members.index(base)].color
            arrow = {"arrowstyle": "->", "color": color, "lw": 1.4, "shrinkA": 5, "shrinkB": 5}
            axes.annotate("", end, start, arrowprops=arrow)
        drawing.unnamed = self._name(axes, self.group.members, points, narrow)
        return drawing

    def gap(self, *, narrow: bool) -> Drawing:
        """Draw accuracy on low over accuracy on high spuriosity, with the line of SR appendix D (SR Fig. 6 left)."""
        members = self.group.with_gaps
        gaps = [m.record.gaps for m in members if m.record.gaps]
        points = [(100 * g.accuracy_high, 100 * g.accuracy_low) for g in gaps]
        k = gaps[0].k
        figure, axes = new_figure(
            narrow,
            3.8 if narrow else 4.8,
            f"Accuracy without cues ({k} least spurious a class), %",
            f"Accuracy with cues ({k} most spurious a class), % →",
        )
        drawing = self._scatter(figure, axes, members, points, [(None, None)] * len(points))
        x = np.array(axes.get_xlim())
        axes.plot(x, x, color=LIGHT["soft"], lw=1, ls=(0, (4, 3)), zorder=0.6, scaley=False)
        line = self.comparison.line
        if line is not None:
            axes.plot(x, line.slope * x + 100 * line.intercept, color=LIGHT["ink"], lw=1.2, zorder=0.7, scaley=False)
        axes.set_xlim(*x)
        drawing.unnamed = self._name(axes, members, points, narrow)
        return drawing

    def _scatter(
        self,
        figure: Figure,
        axes: Axes,
        members: Sequence[MeasuredModel],
        points: Sequence[tuple[float, float]],
        bars: Sequence[tuple[Interval | None, ...]],
    ) -> Drawing:
        drawing = Drawing(figure)
        for member, (x, y), (across, up) in zip(members, points, bars, strict=True):
            place = self.group.members.index(member)
            series = self.series[place]
            thin: dict[str, Any] = {"color": series.color, "lw": 1, "alpha": 0.4, "zorder": 1.5}
            if across is not None:
                axes.plot([across.low, across.high], [y, y], **thin)
            if up is not None:
                axes.plot([x, x], [up.low, up.high], **thin)
            gid = f"m{place}.point"
            axes.plot([x], [y], ls="none", ms=series.size(7), mew=1.4, gid=gid, **series.style)
            drawing.tips[gid] = [f"{member.label}: {x:.1f} % across, {y:.3g} up"]
        axes.margins(0.12)
        axes.autoscale_view()
        return drawing

    def _name(
        self, axes: Axes, members: Sequence[MeasuredModel], points: Sequence[tuple[float, float]], narrow: bool
    ) -> int:
        colors = [self._of(m).color for m in members]
        return place_labels(axes, points, [shorten(m.label, 18 if narrow else 36) for m in members], colors)

    def _of(self, member: MeasuredModel) -> Series:
        return self.series[self.group.members.index(member)]

    def correlations(self, *, narrow: bool) -> Drawing:
        """Draw Pearson's r of class-wise gaps for every pair of models (SR Fig. 14); hatched where undefined."""
        from matplotlib.patches import Rectangle

        members = self.group.with_gaps
        n = len(members)
        cell = min(0.52, (2.0 if narrow else 6.2) / n)
        names = [f"{shorten(m.label, 15 if narrow else 34)}  {i + 1}" for i, m in enumerate(members)]
        figure, axes = new_figure(narrow, 0.45 + max(cell, 0.13) * n, "", "")
        axes.set(aspect="equal", xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), anchor="W")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        drawing = Drawing(figure)
        places = [self.group.members.index(m) for m in members]
        for i in range(n):
            for j in range(n):
                a, b = sorted((places[i], places[j]))
                r = 1.0 if i == j else self.comparison.correlations[a, b]
                color = LIGHT["line"] if i == j else LIGHT["card"] if r is None else heat_color(r)
                look: dict[str, Any] = {"facecolor": color, "hatch": "////" if r is None else None}
                gid = f"cell.{i}.{j}"
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, edgecolor=LIGHT["line"], lw=0.6, gid=gid, **look))
                said = "undefined" if r is None else f"r = {r:.2f}"
                drawing.tips[gid] = [f"{members[i].label} and {members[j].label}: {said}"]
                if i != j and n <= (_NUMBERED if not narrow else 8):
                    axes.text(
                        j,
                        i,
                        "–" if r is None else f"{100 * r:.0f}".replace("-", "−"),
                        ha="center",
                        va="center",
                        fontsize=8.5,
                    )
        axes.set_yticks(range(n), names)
        shown = range(n) if n <= (30 if not narrow else 10) else range(0, n, 5)
        axes.set_xticks(shown, [str(i + 1) for i in shown])
        axes.xaxis.tick_top()
        axes.tick_params(labelcolor=LIGHT["ink"], labelsize=9 if cell > 0.15 else 6)
        return drawing

    def curve(self, *, narrow: bool, legend: bool) -> Drawing:
        """Draw accuracy by spuriosity rank, with bands of 95 % (SR Fig. 8 right); flat is best."""
        members = self.group.with_gaps
        height = (3.2 if narrow else 4.2) + (0.2 * _legend_rows(len(members), narrow) if legend else 0)
        figure, axes = new_figure(
            narrow, height, "Accuracy, % (flat is best)", "Spuriosity percentile in the class, most cues →"
        )
        drawing = Drawing(figure)
        for number, member in enumerate(members):
            series, place = self._of(member), self.group.members.index(member)
            points = member.record.gaps.curve if member.record.gaps else ()
            x = [50 * (p.low + p.high) for p in points]
            low, high = ([100 * getattr(p.interval, end) for p in points] for end in ("low", "high"))
            if len(members) <= _BANDS:
                drawing.tips[f"m{place}.band"] = [f"{member.label}: 95 % band"]
                axes.fill_between(x, low, high, color=series.color, alpha=0.14, lw=0, gid=f"m{place}.band")
            else:  # many bands are one grey: each model has its own lines, side by side
                x = [at + 6 * ((number + 0.5) / len(members) - 0.5) for at in x]
                axes.vlines(x, low, high, color=series.color, alpha=0.45, lw=1, gid=f"m{place}.band")
            gid, dashes = f"m{place}.curve", (0, (4, 2)) if series.mitigated else "-"
            y = [100 * p.accuracy for p in points]
            axes.plot(
                x, y, lw=1.6, ms=series.size(5), gid=gid, ls=dashes, label=shorten(member.label, 34), **series.style
            )
            drawing.tips[gid] = [
                f"{member.label}, {100 * p.low:.0f} to {100 * p.high:.0f} %: "
                f"{with_interval(100 * p.accuracy, p.interval, 100)} % of {p.images} images"
                for p in points
            ]
        axes.set_xlim(0, 100)
        if legend:
            _legend(figure, len(members), narrow)
        return drawing


def with_interval(value: float, interval: Interval | None, factor: float = 1.0) -> str:
    """Write a value and its interval, the interval multiplied by ``factor`` as the value already is."""
    digits = 3 if factor == 1 else 1
    if interval is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({factor * interval.low:.{digits}f} to {factor * interval.high:.{digits}f})"


def _legend_columns(narrow: bool) -> int:
    return 1 if narrow else 3


def _legend_rows(models: int, narrow: bool) -> int:
    return -(-models // _legend_columns(narrow))


def _legend(figure: Figure, models: int, narrow: bool) -> None:
    columns = min(models, _legend_columns(narrow))
    figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=8.5, handlelength=1.5)
