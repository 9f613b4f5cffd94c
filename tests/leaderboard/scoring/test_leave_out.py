"""Leave-one-miner-out agrees with counting votes and pairs one by one."""

from __future__ import annotations

import pandas as pd
import pytest
from reference.leaderboard import left_out_scores
from scoring_helpers import digest, entry_of, miner, predict, version_of, version_rows

from spurious_imagenet.leaderboard.scoring.score import LeftOutModels
from spurious_imagenet.leaderboard.scoring.scoring import score_entry
from spurious_imagenet.leaderboard.version import BenchmarkVersion

MINERS = ("file:a.safetensors", "file:b.safetensors", "file:c.safetensors")


def mined(images: pd.DataFrame, min_agree: int = 2) -> BenchmarkVersion:
    miners = tuple(miner(m, weights_sha256=digest(m)) for m in MINERS)
    return version_of(images, miners=miners, min_agree=min_agree, resamples=10)


def agrees(found: LeftOutModels, version: BenchmarkVersion, seed: int) -> None:
    predictions = predict(version, seed)
    images, classes, ap, auc = left_out_scores(
        version.images, predictions.table, found.miners, version.info.min_agree or 0
    )
    assert (found.spurious_images, found.classes) == (images, classes)
    assert found.spurious_ap == (None if ap is None else pytest.approx(ap))
    assert found.spurious_auc == (None if auc is None else pytest.approx(auc))


@pytest.mark.parametrize("seed", range(4))
def test_scores_without_each_miner_equal_counting(seed: int) -> None:
    version = mined(version_rows(classes=4, miners=MINERS, seed=seed))
    score = score_entry(entry_of(0), predict(version, seed), version).score
    assert [left.miners for left in score.without_each_miner] == [(m,) for m in MINERS]
    assert score.without_related is None
    for left in score.without_each_miner:
        assert left.spurious_images < len(version.side("spurious"))
        agrees(left, version, seed)


def test_kin_are_left_out_together() -> None:
    version = mined(version_rows(classes=4, miners=MINERS), min_agree=1)
    miners = tuple(m.model_copy(update={"weights_sha256": digest("shared")}) for m in version.info.miners[:2])
    info = version.info.model_copy(update={"miners": (*miners, version.info.miners[2])})
    version = BenchmarkVersion(info, version.images)
    entry = entry_of(0, weights_sha256=digest("shared"), mitigation="SpuFix")
    score = score_entry(entry, predict(version, 0), version).score
    assert [(r.miner, r.by) for r in score.related] == [(MINERS[0], "weights"), (MINERS[1], "weights")]
    assert score.without_related is not None
    assert score.without_related.miners == MINERS[:2]
    agrees(score.without_related, version, 0)


def test_classes_that_keep_no_image_drop_out_and_are_counted() -> None:
    images = version_rows(classes=3, miners=MINERS)
    spurious = images["side"] == "spurious"
    first = spurious & (images["class_id"] == "n00000000")

    def only(voters: tuple[str, ...], class_id: str) -> list[dict[str, object]]:
        said = {m: class_id if m in voters else "other" for m in MINERS}
        return [{"model": m, "class_id": c, "class_name": "", "probability": 0.5} for m, c in said.items()]

    images["models"] = [
        only(MINERS[:2] if drops else MINERS, class_id) if shown else None
        for shown, drops, class_id in zip(spurious, first, images["class_id"], strict=True)
    ]
    version = mined(images)
    score = score_entry(entry_of(0), predict(version, 0), version).score
    assert [left.classes for left in score.without_each_miner] == [2, 2, 3]
    assert score.without_each_miner[2].spurious_auc == pytest.approx(score.mean.spurious_auc)
    assert score.without_each_miner[2].spurious_ap == pytest.approx(score.mean.spurious_ap)
    nothing = score_entry(entry_of(0), predict(version, 0), mined(images, min_agree=3)).score.without_each_miner
    assert [(left.classes, left.spurious_images, left.spurious_auc) for left in nothing] == [(0, 0, None)] * 3


def test_a_version_that_knows_no_votes_has_no_such_score() -> None:
    version = version_of(version_rows(), resamples=10)
    score = score_entry(entry_of(0), predict(version, 0), version).score
    assert score.without_each_miner == ()
    assert score.without_related is None
