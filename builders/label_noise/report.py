"""The report on label noise: JSON for programs, Markdown for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from spurious_imagenet.builders.label_noise._collisions import Collisions
from spurious_imagenet.builders.label_noise._config import LabelNoiseConfig
from spurious_imagenet.builders.label_noise._crop_boards import CropSummary
from spurious_imagenet.builders.label_noise._gaps import Absorbed, MeanGap
from spurious_imagenet.builders.label_noise._real import RealReport
from spurious_imagenet.data_cards.card import escape_markdown
from spurious_imagenet.records import Record

__all__ = ["LabelNoiseReport", "class_line"]

_ROWS = 50


class LabelNoiseReport(Record):
    """Classes that collide, and images whose label may be wrong (SR section 5)."""

    schema_version: Literal[1] = 1
    config: LabelNoiseConfig
    models: tuple[str, ...]
    votes_needed: int
    """Models that had to name the same other class."""
    images: int
    """Ranked images of classes with spurious concepts."""
    flagged: int
    flagged_by_class: dict[str, int]
    gaps: tuple[MeanGap, ...]
    """Every class with enough images, the most negative gap first."""
    refused: dict[str, int]
    """Class id -> its images, where there are too few for a gap."""
    collisions: Collisions | None
    """None: no bank was given."""
    real: RealReport | None
    """None: no ReaL labels were given."""
    crops: tuple[CropSummary, ...] = ()
    without_core: tuple[str, ...] = ()
    """Flagged classes that could not be cropped, as none of their concepts is judged core."""

    @property
    def negative(self) -> tuple[MeanGap, ...]:
        """The classes with a gap below 0."""
        return tuple(gap for gap in self.gaps if gap.negative)

    @property
    def summary(self) -> str:
        """Say in one sentence what was found."""
        surely = sum(gap.interval.high < 0 for gap in self.gaps)
        return (
            f"{self.flagged} of {self.images} images of {len(self.gaps) + len(self.refused)} ranked classes may be "
            f"mislabelled; {len(self.negative)} of {len(self.gaps)} "
            f"classes have a negative gap, {surely} of them beyond doubt (95 %)."
        )

    def markdown(self) -> str:
        """Return the page."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        rule, models = self.config.rule, ", ".join(map(escape_markdown, self.models))
        yield from ("# Labels that may be wrong", "", self.summary, "")
        yield (
            f"Models: {models}. An image is flagged if it is among the {rule.top_share:.0%} of its "
            f"class with the highest spuriosity and at least {self.votes_needed} of {len(self.models)} models take it "
            "for the same other class. Flagged images are sorted by the mean over models of log p(predicted) - "
            "log p(label); a flag is a reason to look, not a verdict."
        )
        yield from ("", "## Spurious gaps, mean over models", "")
        yield (
            f"Accuracy on the {self.config.k} images of highest and of lowest spuriosity, the most negative gaps "
            "first; and the class that most images of the highest tenth are taken for, if any are."
        )
        yield from ("", "| class | id | images | high | low | gap | 95 % | taken for | flagged |")
        yield "|---|---|---|---|---|---|---|---|---|"
        for gap in self.gaps[:_ROWS]:
            name, *cells = class_line(gap, self.flagged_by_class)
            yield f"| {' | '.join(map(escape_markdown, (name, gap.class_id, *cells)))} |"
        if len(self.gaps) > _ROWS:
            yield f"\n{len(self.gaps) - _ROWS} more classes are in `label-noise.json`."
        if self.refused:
            yield f"\nToo few images for a gap: {', '.join(f'{c} ({n})' for c, n in sorted(self.refused.items()))}."
        if self.collisions is not None:
            yield from ("", "## Spurious feature collision", "", *_collisions(self.collisions))
        if self.real is not None:
            yield from ("", "## ReaL labels", "", *_real(self.real))
        if self.crops or self.without_core:
            yield from ("", "## Core crops", "", *self._crops())

    def _crops(self) -> Iterator[str]:
        yield from ("| class | images | label predicted before | after | board |", "|---|---|---|---|---|")
        for crop in self.crops:
            name, board = escape_markdown(crop.class_id), crop.file or "no image shows a core"
            yield f"| {name} | {crop.images} | {crop.right_before} | {crop.right_after} | {board} |"
        if self.without_core:
            yield f"\nWithout a concept judged core: {', '.join(self.without_core)}."


def class_line(gap: MeanGap, flagged: dict[str, int]) -> tuple[str, ...]:
    """Return a class's cells in the table of gaps."""
    absorbing = "" if gap.absorbing is None else _absorbed(gap.absorbing)
    return (
        gap.class_name,
        str(gap.images),
        f"{gap.accuracy_high:.0%}",
        f"{gap.accuracy_low:.0%}",
        f"{gap.gap:+.3f}",
        f"{gap.interval.low:+.3f} to {gap.interval.high:+.3f}",
        absorbing,
        str(flagged.get(gap.class_id, 0)),
    )


def _absorbed(absorbed: Absorbed) -> str:
    return f"{absorbed.class_name} {absorbed.share:.0%}"


def _collisions(found: Collisions) -> Iterator[str]:
    if not found.core_concepts:
        yield "No concept of the bank is judged core, so none can be seen to be core for another class."
    else:
        share = f" ({found.core_elsewhere / found.concepts:.1%})" if found.concepts else ""
        yield f"{found.core_elsewhere} of {found.concepts} spurious concepts{share} are core for another class."
    if found.rows:
        yield from ("", "| spurious for | concept | core for | spurious also for |", "|---|---|---|---|")
    for row in found.rows[:_ROWS]:
        others = (", ".join(dict.fromkeys(c.class_id for c in part)) for part in (row.core_for, row.spurious_for))
        yield f"| {' | '.join(map(escape_markdown, (row.class_id, f'{row.kind} {row.component}', *others)))} |"
    if len(found.rows) > _ROWS:
        yield f"\n{len(found.rows) - _ROWS} more are in `label-noise.json`."


def _real(real: RealReport) -> Iterator[str]:
    yield from ("| images | how many | of several classes | share | of none |", "|---|---|---|---|---|")
    for group in real.groups:
        share = "" if group.share is None else f"{group.share:.1%}"
        yield f"| {group.group} | {group.images} | {group.several} | {share} | {group.none} |"
    yield (
        f"\nOf {real.flagged} flagged images {real.flagged_without_label} do not show the class they are labelled as, "
        f"{real.flagged_with_suggestion} show the suggested class, and {real.flagged_unlabelled} have no ReaL label."
    )
