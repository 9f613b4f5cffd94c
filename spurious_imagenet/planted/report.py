"""The verdict on a run over a planted world: what was found, against bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from spurious_imagenet.errors import DataError
from spurious_imagenet.io import atomic_directory, canonical_json
from spurious_imagenet.planted.check import CueAuc, MinedPurity

__all__ = ["FoundBars", "CheckReport", "PairResult", "check_report"]


@dataclass(frozen=True)
class FoundBars:
    """What a run over a planted world must reach.

    Attributes:
        auc: Least AUC with which a cue counts as found.
        purity: Least purity with which a pair counts as mined.
        share: Least share of the pairs that must count, of each kind.
    """

    auc: float = 0.95
    purity: float = 0.90
    share: float = 0.90


@dataclass(frozen=True)
class PairResult:
    """One planted pair and what became of it.

    Attributes:
        class_id: The class.
        cue: The cue planted in it.
        share: Share of the class's training images that show the cue.
        concept_id: The component that finds the cue best.
        component: Its 0-based number.
        auc: Its ROC AUC for the cue.
        kept: Images mined with it.
        pure: Those of them that show the cue without the class's object.
        purity: ``pure / kept``; None where nothing was mined, which misses the bar.
    """

    class_id: str
    cue: str
    share: float
    concept_id: str
    component: int
    auc: float
    kept: int
    pure: int
    purity: float | None


@dataclass(frozen=True)
class CheckReport:
    """All pairs against the bars."""

    pairs: tuple[PairResult, ...]
    bars: FoundBars = FoundBars()

    @property
    def auc_share(self) -> float:
        """Share of the pairs whose cue was found; higher is better."""
        return sum(self.found(pair) for pair in self.pairs) / len(self.pairs)

    @property
    def purity_share(self) -> float:
        """Share of the pairs that were mined purely; higher is better."""
        return sum(self.mined(pair) for pair in self.pairs) / len(self.pairs)

    @property
    def passed(self) -> bool:
        """Whether both shares reach the bar."""
        counts = (sum(map(self.found, self.pairs)), sum(map(self.mined, self.pairs)))
        return min(counts) >= self.required

    def found(self, pair: PairResult) -> bool:
        """Whether a pair's AUC reaches the bar."""
        return pair.auc >= self.bars.auc

    def mined(self, pair: PairResult) -> bool:
        """Whether a pair's purity reaches the bar."""
        return pair.purity is not None and pair.purity >= self.bars.purity

    @property
    def required(self) -> int:
        """How many of the pairs must be found, and as many mined."""
        return math.ceil(self.bars.share * len(self.pairs) - 1e-9)  # 0.9 * 10 is not exactly 9

    def summary(self) -> str:
        """Return the verdict in plain words."""
        count, found, mined = len(self.pairs), sum(map(self.found, self.pairs)), sum(map(self.mined, self.pairs))
        return (
            f"{found} of {count} planted cues were found: a component tells images of the cue from images without it "
            f"(AUC of at least {self.bars.auc}). {mined} of {count} were mined: of the images kept, at least "
            f"{self.bars.purity:.0%} show the cue without the object. Required: {self.required} of {count} each; "
            f"{'passed' if self.passed else 'FAILED'}."
        )

    def to_markdown(self) -> str:
        """Return the report as a Markdown table and the verdict."""
        lines = ["| class | cue | share | component | AUC | kept | purity |", "|---|---|---:|---:|---:|---:|---:|"]
        for p in self.pairs:
            purity = "none kept" if p.purity is None else f"{p.purity:.3f}"
            lines.append(
                f"| {p.class_id} | {p.cue} | {p.share:.0%} | {p.component} | {p.auc:.4f} | {p.kept} | {purity} |"
            )
        return "\n".join(["# Planted world: what was found", "", *lines, "", self.summary(), ""])

    def write_report(self, path: str | Path, sheet: Image.Image | None = None) -> None:
        """Write ``check.json``, ``check.md`` and, where given, ``found.png`` into a new folder, whole or not at all."""
        content = {
            "bars": asdict(self.bars),
            "pairs": [asdict(pair) for pair in self.pairs],
            "auc_share": self.auc_share,
            "purity_share": self.purity_share,
            "passed": self.passed,
        }
        with atomic_directory(path) as folder:
            (folder / "check.json").write_text(canonical_json(content), encoding="utf-8")
            (folder / "check.md").write_text(self.to_markdown(), encoding="utf-8")
            if sheet is not None:
                sheet.save(folder / "found.png")


def check_report(found: Sequence[CueAuc], mined: Sequence[MinedPurity], bars: FoundBars = FoundBars()) -> CheckReport:
    """Join what :func:`cue_auc` and :func:`mined_purity` say of each pair.

    Raises:
        DataError: They are not of the same pairs and components, or of none.
    """
    if not found or [(f.pair, f.concept_id) for f in found] != [(m.pair, m.concept_id) for m in mined]:
        raise DataError(f"{len(found)} AUCs and {len(mined)} purities are not of the same components, or of none.")
    pairs = tuple(
        PairResult(
            class_id=f.pair.class_id,
            cue=f.pair.cue,
            share=f.pair.share,
            concept_id=f.concept_id,
            component=f.component,
            auc=f.auc,
            kept=m.kept,
            pure=m.pure,
            purity=m.purity if m.kept else None,
        )
        for f, m in zip(found, mined, strict=True)
    )
    return CheckReport(pairs, bars)
