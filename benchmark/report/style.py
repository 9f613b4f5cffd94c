"""How figures look: one palette for files and page, whose colours the page exchanges for its own in dark mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DARK",
    "LIGHT",
    "MARKERS",
    "MIXED",
    "Series",
    "drawing",
    "heat_color",
    "narrow_width",
    "new_figure",
    "place_labels",
    "series_of",
    "shorten",
]

#: Role -> colour. The roles are the page's CSS variables, so every value occurs once. Series are told apart by people
#: with any colour vision, and by their markers besides.
LIGHT = {
    "card": "#ffffff",
    "ink": "#181b21",
    "soft": "#5f6875",
    "line": "#dfe3e9",
    "most": "#c4441c",
    "least": "#2668a8",
    "s0": "#0f6ab4",
    "s1": "#d1501a",
    "s2": "#0b8a63",
    "s3": "#b3579a",
    "s4": "#96700a",
    "s5": "#3f4652",
    "s6": "#1593a5",
    "s7": "#7a4fd0",
}
DARK = {
    "card": "#1d2026",
    "ink": "#e8eaee",
    "soft": "#9aa3b0",
    "line": "#31363f",
    "most": "#f08b62",
    "least": "#74b0ec",
    "s0": "#5fb0f2",
    "s1": "#ff8a55",
    "s2": "#3fcf9b",
    "s3": "#e89ad0",
    "s4": "#d9b64a",
    "s5": "#c3cad6",
    "s6": "#56d3e6",
    "s7": "#b79bff",
}
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
_COLORS = 8
_WIDE, _NARROW = 10.4, 3.65  # inches at 96 px each: a desktop column and a phone


class Series:
    """How one model is drawn: colour and marker of its network, filled unless mitigated.

    Args:
        place: Number of the network.
        mitigated: Whether something was done to its logits.
    """

    def __init__(self, place: int, mitigated: bool) -> None:
        self.role = f"s{place % _COLORS}"
        self.color = LIGHT[self.role]
        self.marker = MARKERS[(place + place // _COLORS) % len(MARKERS)]
        self.mitigated = mitigated

    @property
    def style(self) -> dict[str, Any]:
        """Keywords of a matplotlib line of markers."""
        face = "none" if self.mitigated else self.color  # what lies below a hollow marker is seen
        return {"color": self.color, "marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.color}

    def size(self, points: float) -> float:
        """Size of the marker in points; a hollow one goes around the filled one of the same place."""
        return points * 1.4 if self.mitigated else points


def series_of(networks: Sequence[object], mitigated: Sequence[bool]) -> list[Series]:
    """Give each model its looks: the same colour and marker to the same network."""
    places = {network: place for place, network in enumerate(dict.fromkeys(networks))}
    return [Series(places[n], m) for n, m in zip(networks, mitigated, strict=True)]


def _mixed(role: str, percent: int) -> str:
    parts = [int(LIGHT[role][i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + (part - 255) * percent / 100):02x}" for part in parts)


#: Colour of a heat map -> role and percentage that CSS ``color-mix(in srgb)`` makes it of.
MIXED = {_mixed(role, percent): (role, percent) for role in ("most", "least") for percent in range(2, 71)}


def heat_color(value: float) -> str:
    """Colour of a value from -1 (blue) over 0 (none) to 1 (red), light enough to write upon."""
    percent = round(abs(value) * 70)
    return _mixed("most" if value > 0 else "least", percent) if percent > 1 else LIGHT["card"]


def narrow_width(narrow: bool) -> float:
    """Width of a figure in inches of 96 px."""
    return _NARROW if narrow else _WIDE


@contextmanager
def drawing() -> Iterator[None]:
    """Draw and write figures alike everywhere: no user's settings, no random ids. Not for use by several threads."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": LIGHT["ink"],
        "text.parse_math": False,
        "axes.edgecolor": LIGHT["line"],
        "axes.labelcolor": LIGHT["soft"],
        "axes.unicode_minus": True,
        "xtick.color": LIGHT["soft"],
        "ytick.color": LIGHT["soft"],
        "svg.hashsalt": "spurious-imagenet",
        "pdf.fonttype": 42,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def new_figure(narrow: bool, height: float, y_title: str, x_title: str) -> tuple[Figure, Axes]:
    """Make a figure of one plot, the vertical axis named above it, where it can be read on a phone too."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(narrow_width(narrow), height), layout="constrained", facecolor=LIGHT["card"])
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=LIGHT["line"], linewidth=0.7)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    axes.set_title(y_title, loc="left", fontsize=9, color=LIGHT["soft"])
    axes.set_xlabel(x_title, loc="right")
    return figure, axes


def shorten(text: str, length: int) -> str:
    """Cut the middle out of a name that would leave no room for the plot, and what no drawing can show out of any."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    tail = length // 2
    return shown if len(shown) <= length else f"{shown[: length - tail - 1].rstrip()}…{shown[-tail:].lstrip()}"


def place_labels(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str], colors: Sequence[str]) -> int:
    """Write names beside points where there is room, earlier ones first; return how many found none.

    Limits must be set before. A name that would cover a point, another name or the edge is left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure: Any = axes.figure
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    figure.draw_without_rendering()
    bounds = axes.get_window_extent(renderer)
    at = axes.transData.transform(np.asarray(points, float))
    taken: list[Sequence[float]] = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    left_out = 0
    for (x, y), name, color in zip(points, names, colors, strict=True):
        for dx, dy in ((6, 6), (6, -6), (-6, 6), (-6, -6), (0, 9), (0, -9), (8, 0), (-8, 0)):
            text = axes.annotate(
                name,
                (x, y),
                (dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                color=color,
                fontsize=8.5,
                annotation_clip=False,
            )
            text.set_in_layout(False)
            box = text.get_window_extent(renderer).extents
            inside = bounds.x0 <= box[0] and box[2] <= bounds.x1 and bounds.y0 <= box[1] and box[3] <= bounds.y1
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(tuple(box))
                break
            text.remove()
        else:
            left_out += 1
    return left_out


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
