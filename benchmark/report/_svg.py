"""A figure as SVG inside a page: its colours and font are the page's, its points say what they are."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from spurious_imagenet.benchmark.report.style import LIGHT, MIXED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_ROLES = {color: role for role, color in LIGHT.items()}
_COLOR = re.compile(r"#[0-9a-f]{6}\b")
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_GEOMETRY = {"d", "x", "y", "transform", "points", "width", "height"}


def figure_svg(figure: Figure, prefix: str, title: str, tips: Mapping[str, Sequence[str]]) -> str:
    """Return the figure as an ``<svg>`` element.

    Args:
        figure: What was drawn with colours of :data:`~spurious_imagenet.benchmark.report.style.LIGHT`.
        prefix: Unique in the page; ids begin with it.
        title: What the figure shows, for those who do not see it.
        tips: Id of an artist -> what each of its markers (or the artist, if it has none) is, shown under the pointer.
            The part of the id before a dot becomes the class of its group.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 what is parsed was written by matplotlib a line before
    for parent in root.iter():
        for child in [c for c in parent if c.tag.rpartition("}")[2] in {"metadata", "style"}]:
            parent.remove(child)
    _add_tips(root, tips)
    for element in root.iter():
        _restyle(element, prefix)
    _share_styles(root)
    width = float(root.attrib.pop("width").removesuffix("pt")) / 0.75
    root.attrib.pop("height")
    root.attrib.update({"role": "img", "aria-label": title, "style": f"width:{width:.0f}px"})
    return re.sub(r"\s*\n\s*", " ", ET.tostring(root, encoding="unicode")).replace("> <", "><")


def _add_tips(root: ET.Element, tips: Mapping[str, Sequence[str]]) -> None:
    for group in root.iter(f"{{{_SVG}}}g"):
        texts = tips.get(group.get("id", ""))
        if texts is None:
            continue
        group.set("class", group.attrib["id"].partition(".")[0])
        marks = list(group.iter(f"{{{_SVG}}}use")) or [group]
        for mark, text in zip(marks, texts, strict=True):
            title = ET.Element(f"{{{_SVG}}}title")
            title.text = text
            mark.insert(0, title)


def _restyle(element: ET.Element, prefix: str) -> None:
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, f"{prefix}-{value}")
        elif name.endswith("href"):
            element.set(name, f"#{prefix}-{value.removeprefix('#')}")
        elif value.startswith("url(#"):
            element.set(name, value.replace("url(#", f"url(#{prefix}-"))
        elif name == "style":
            element.set(name, _page_style(value))
        elif name == "transform" and value.startswith("rotate(-0 "):
            del element.attrib[name]
        elif name in _GEOMETRY:
            element.set(name, _NUMBER.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), value))


def _share_styles(root: ET.Element) -> None:
    """Give the style that all markers of a group have to the group: thousands of points then stay small."""
    for group in root.iter(f"{{{_SVG}}}g"):
        uses = [child for child in group if child.tag == f"{{{_SVG}}}use"]
        styles = {use.get("style", "") for use in uses}
        if len(uses) > 1 and len(styles) == 1:
            group.set("style", styles.pop())
            for use in uses:
                del use.attrib["style"]


def _page_style(style: str) -> str:
    """Leave the font to the page, and give colours by their role."""
    declarations = []
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            size = re.search(r"[\d.]+px", value)
            declarations += [f"font-size:{size[0]}"] if size else []
            declarations += ["font-weight:600"] if "700" in value or "bold" in value else []
        elif name and name != "font-family":
            declarations.append(f"{name}:{_COLOR.sub(lambda m: _page_color(m[0]), value)}")
    return ";".join(declarations)


def _page_color(color: str) -> str:
    if color in _ROLES:
        return f"var(--{_ROLES[color]})"
    if color in MIXED:
        role, percent = MIXED[color]
        return f"color-mix(in srgb,var(--{role}) {percent}%,var(--card))"
    return color
