"""Did measuring and mending tell the truth? Gaps, mended models and flagged images against what was planted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.benchmark.comparison.compare import compare
from spurious_imagenet.benchmark.comparison.record import ClassMeanGap, ModelComparison
from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.mitigation.tuning_record import MethodRecord, TuningRecord
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.errors import DataError
from spurious_imagenet.planted.truth import PlantedTruth
from spurious_imagenet.records import Record

__all__ = ["MendedCheck", "Statement", "check_mended", "precision_at_recall"]

#: The bars: accuracy that SpuFix and tuning may cost, and of the flagged images how many are wrongly labelled once a
#: quarter of the wrong labels are found. Half and more are found as a rule, but that depends on how often a network
#: sees the object beside the cue, and networks of the same recipe differ in it.
SPUFIX_COST, TUNING_COST, PRECISION, RECALL = 0.01, 0.02, 0.8, 0.25


class Statement(Record):
    """One thing that is true of what was measured, or is not."""

    what: str
    measured: str
    holds: bool
    required: bool = True
    """Whether it must hold. What holds of most networks, but not of each, is told for information."""

    @property
    def holds_in_words(self) -> str:
        """``yes`` or ``no``; in brackets where nothing is required."""
        answer = "yes" if self.holds else "no"
        return answer if self.required else f"({answer})"


class MendedCheck(Record):
    """All of them."""

    statements: tuple[Statement, ...]

    @property
    def passed(self) -> bool:
        """Whether every statement holds that must."""
        return all(s.holds for s in self.statements if s.required)

    def summary(self) -> str:
        """Return the verdict in plain words."""
        required = [s for s in self.statements if s.required]
        return (
            f"{sum(s.holds for s in required)} of {len(required)} required statements hold: "
            f"{'passed' if self.passed else 'FAILED'}. Those in brackets are for information."
        )

    def markdown(self) -> str:
        """Return the check as a table and the verdict."""

        def holds(s: Statement) -> str:
            return f"**{s.holds_in_words}**" if s.required and not s.holds else s.holds_in_words

        rows = "\n".join(f"| {s.what} | {s.measured} | {holds(s)} |" for s in self.statements)
        return f"| statement | measured | holds |\n|---|---|---|\n{rows}\n\n{self.summary()}\n"


def check_mended(
    truth: PlantedTruth,
    records: Sequence[Path],
    comparison: ModelComparison,
    tuning: TuningRecord,
    noise_truth: PlantedTruth,
    flagged: Path,
) -> MendedCheck:
    """Compare what was measured and mended with what was planted.

    Args:
        truth: The world whose cues were measured.
        records: Records of the models under one protocol, as they are and with SpuFix, predictions beside them.
        comparison: Of the models' gaps, controls among the classes.
        tuning: With baselines.
        noise_truth: The world with wrong labels.
        flagged: The table of flagged images of that world.

    Raises:
        DataError: A part of what is to be compared is missing.
    """
    return MendedCheck(
        statements=(
            *_gaps(truth, comparison),
            *_spufix(records),
            *_tuning(tuning),
            _label_noise(noise_truth, flagged),
        )
    )


def _gaps(truth: PlantedTruth, comparison: ModelComparison) -> list[Statement]:
    planted = {pair.class_id for pair in truth.pairs}
    cued = [c for c in comparison.class_gaps if c.class_id in planted and not c.control]
    controls = [c for c in comparison.class_gaps if c.class_id not in planted]
    if not cued or not controls:
        raise DataError(
            f"the comparison has gaps of {len(cued)} classes with a planted cue and of {len(controls)} without: "
            "expected some of both (rank with --controls)."
        )
    least, largest = min(cued, key=lambda c: c.gap), max(controls, key=lambda c: c.gap)
    mean, sure = float(np.mean([c.gap for c in cued])), sum(c.interval.low > 0 for c in cued)
    return [
        Statement(
            what=f"All {len(cued)} classes with a cue have a gap above 0 (mean of {len(comparison.models)} models)",
            measured=f"the least is {least.class_name}: {_estimate(least)}",
            holds=least.gap > 0,
        ),
        # One class's gap may be below that of a class without a cue: foreign concepts find hard images, too.
        Statement(
            what="On average they have a larger gap than any class without a cue",
            measured=f"{mean:+.3f}, from {least.gap:+.3f}; largest without a cue {largest.gap:+.3f} "
            f"({largest.class_name})",
            holds=mean > largest.gap,
        ),
        Statement(
            what="The interval of each of these gaps lies above 0",
            measured=f"{sure} of {len(cued)} do",
            holds=sure == len(cued),
            required=False,
        ),
        # Of twenty intervals at 95 % one may well leave out the truth, so that none can be required to hold it.
        *(
            Statement(
                what=f"The interval of {c.class_name}, which has no cue, contains 0 (expected of 95 in 100)",
                measured=_estimate(c),
                holds=c.interval.low <= 0 <= c.interval.high,
                required=False,
            )
            for c in controls
        ),
    ]


def _estimate(c: ClassMeanGap) -> str:
    return f"{c.gap:+.3f} ({c.interval.low:+.3f} to {c.interval.high:+.3f})"


def _spufix(records: Sequence[Path]) -> list[Statement]:
    loaded = {path: EvalRecord.load(path) for path in records}
    bases = {(r.weights_sha256, r.protocol): path for path, r in loaded.items() if r.mitigation is None}
    found = []
    for path, record in loaded.items():
        if record.mitigation is None or record.mitigation.kind != "spufix":
            continue
        base = bases.get((record.weights_sha256, record.protocol))
        if base is None:
            raise DataError(f"{path} is mended, but no record of the model as it is was given.")
        pair = [("mended", _predictions(path, record)), ("as it is", _predictions(base, loaded[base]))]
        gain = next(d for d in compare(pair).differences if d.measure == "spurious_ap")
        own, cost = gain.interval_of_these_classes, loaded[base].accuracy - record.accuracy
        found.append(
            Statement(
                what=f"SpuFix raises spurious AP of {loaded[base].name}, at most {SPUFIX_COST:.0%} of accuracy lost",
                measured=f"{loaded[base].mean.spurious_ap:.3f} to {record.mean.spurious_ap:.3f}, "
                f"{gain.difference:+.3f} ({own.low:+.3f} to {own.high:+.3f}; were the classes a sample of others: "
                f"{gain.interval.low:+.3f} to {gain.interval.high:+.3f}); "
                f"accuracy {loaded[base].accuracy:.2%} to {record.accuracy:.2%}",
                # The planted classes are all there are, no sample of others.
                holds=own.low > 0 and cost <= SPUFIX_COST,
            )
        )
    if not found:
        raise DataError("no record with SpuFix was given: expected one of each model.")
    return found


def _predictions(path: Path, record: EvalRecord) -> Predictions:
    return Predictions.load(path.parent / record.predictions)


def _tuning(record: TuningRecord) -> list[Statement]:
    methods = {m.method: m for m in record.methods}
    missing = {"low", "random"} - set(methods)
    if missing:
        raise DataError(f"the tuning record lacks the method {min(missing)!r}: expected a tuning with --baselines.")

    low, random = methods["low"], methods["random"]
    cost = low.accuracy.before.value - low.accuracy.after.value
    return [
        Statement(
            what="Tuning on low spuriosity closes more of the gap than on random images, at a cost of at most "
            f"{TUNING_COST:.0%}",
            measured=f"{_tuned(low)}; random: {_tuned(random)}",
            holds=(low.closed or 0) > (random.closed or 0) and cost <= TUNING_COST,
        )
    ]


def _tuned(m: MethodRecord) -> str:
    return (
        f"gap {m.gap.before.value:.3f} to {m.gap.after.value:.3f}, {m.closed or 0:.0%} closed; "
        f"accuracy {m.accuracy.before.value:.1%} to {m.accuracy.after.value:.1%}"
    )


def precision_at_recall(suspected: Sequence[bool], wrong: int, recall: float) -> float | None:
    """Return the precision of the shortest head of a list that reaches a recall; None where none does.

    Args:
        suspected: Whether each image of the list, the most suspicious first, is one of those to be found.
        wrong: How many there are to be found.
        recall: The recall to reach.
    """
    hits = np.cumsum(np.asarray(suspected, dtype=float))
    enough = hits >= recall * wrong
    return float(hits[enough.argmax()] / (enough.argmax() + 1)) if enough.any() else None


def _label_noise(truth: PlantedTruth, flagged: Path) -> Statement:
    wrong = set(truth.mislabelled().index)
    if not wrong:
        raise DataError("the world has no wrong labels to find: expected one drawn with --wrong-labels.")
    try:
        table: pd.DataFrame = pq.read_table(flagged, columns=["sha256"]).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{flagged} is no table of flagged images: {error}") from error
    hits = [digest in wrong for digest in table["sha256"]]
    val = truth.table[truth.table["split"] == "val"]
    count = int((val["class_id"] != val["shown_class_id"]).sum())
    precision = precision_at_recall(hits, count, RECALL)
    share = f"{sum(hits)} of {count} found among {len(hits)} flagged"
    return Statement(
        what=f"Of the flagged images at recall {RECALL}, {PRECISION:.0%} are wrongly labelled",
        measured=f"{share}; precision {precision:.3f}" if precision is not None else share,
        holds=precision is not None and precision >= PRECISION,
    )
