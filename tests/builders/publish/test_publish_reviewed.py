from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import encoded, picture, random_bank, spread_weights_file, write_tar
from pydantic import ValidationError

from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.builders.mining import MineConfig, mine
from spurious_imagenet.builders.publish import PublishConfig, publish
from spurious_imagenet.builders.review._candidates import candidate_media, items_from_candidates
from spurious_imagenet.builders.review.collect import collect
from spurious_imagenet.builders.review.forms import load_form
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.errors import ConfigError, DataError

CLASSES = ("n01", "n02", "n03")
YES, NO = {"cue": "yes", "object": "no"}, {"cue": "yes", "object": "yes"}


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reviewed")
    write_tar(root / "shards" / "0.tar", [(f"{i:02d}.jpg", encoded(picture(i, (32, 32)), "JPEG")) for i in range(60)])
    spec = spread_weights_file(root / "scorer.safetensors", classes=CLASSES, names=CLASSES, size=32)
    config = FeaturesConfig(model=spec, shards=(str(root / "shards"),), backend="eager", workers=1)
    random_bank(extract_features(config, root / "store").store, root / "bank", names=CLASSES)
    sizes = {"min_agree": 1, "top": 30, "keep": 30, "near_duplicate_bits": 0, "backend": "eager"}
    return mine(
        MineConfig(bank=str(root / "bank"), features=str(root / "store"), agree=(), **sizes), root / "candidates"
    ).path


def reviewed(mined: Path, path: Path, labelers: tuple[str, ...] = ("ann", "ben"), per_item: int = 2) -> Review:
    items = items_from_candidates(mined)
    media = candidate_media(mined, items)
    return Review.create(path, "test", load_form("image"), items, labelers, per_item, media=media)


def keys(rows: list[dict]) -> set[tuple[str, str]]:
    return {(row["concept_id"], row["sha256"]) for row in rows}


def test_only_what_two_labelers_accepted_is_published(mined: Path, tmp_path: Path) -> None:
    review = reviewed(mined, tmp_path / "review")
    items = list(review.items)
    both, differ, settled, open_ = items[::4], items[1::4], items[2::4], items[3::4]
    review.record_many("ann", [(i, YES) for i in items])
    review.record_many("ben", [(i, YES if i in set(both) else NO) for i in items if i not in set(open_)])
    review.adjudicate_many("eve", [(i, YES) for i in settled])
    collect(review, tmp_path / "reviewed.parquet")
    config = PublishConfig(candidates=str(mined), reviewed=str(tmp_path / "reviewed.parquet"))
    result = publish(config, tmp_path / "dataset")
    rows = pq.read_table(tmp_path / "dataset" / "data").to_pylist()

    accepted = {(review.items[i].concept_id, review.items[i].info["sha256"]) for i in (*both, *settled)}
    images = {sha256 for _, sha256 in accepted}
    assert keys(rows) <= accepted
    assert len(rows) == result.images == len(accepted) - result.repeated
    assert {row["sha256"] for row in rows} == images
    for row in rows:
        assert [v["labeler"] for v in row["verdicts"]][:2] == ["labeler 1", "labeler 2"]
        assert [v["outcome"] for v in row["verdicts"]].count("accept") == 2
        assert {len(v["date"]) for v in row["verdicts"]} == {10}
    summary = result.review
    assert summary is not None
    judged = len(items) - len(open_)
    assert (summary.judged, summary.accepted) == (judged, len(both) + len(settled))
    assert (summary.disagreed, summary.adjudicated) == (len(differ) + len(settled), len(settled))
    card = (tmp_path / "dataset" / "README.md").read_text("utf-8")
    assert "Not reviewed" not in card
    assert f"Of {judged} judged images they\naccepted {summary.accepted} and differed on {summary.disagreed}" in card
    assert result.manifest.counts["judged"] == judged
    assert result.manifest.facts["agreement"] == summary.agreement
    assert "Cohen's κ 0.000" in card, "one of the labelers accepted everything"
    assert "ann" not in {v["labeler"] for row in rows for v in row["verdicts"]}


def test_one_labeler_an_image_is_not_enough(mined: Path, tmp_path: Path) -> None:
    review = reviewed(mined, tmp_path / "review", ("ann",), per_item=1)
    review.record_many("ann", [(i, YES) for i in review.items])
    collect(review, tmp_path / "reviewed.parquet")
    with pytest.raises(ConfigError, match="two are needed"):
        publish(PublishConfig(candidates=str(mined), reviewed=str(tmp_path / "reviewed.parquet")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_review_of_other_candidates_is_refused(mined: Path, tmp_path: Path) -> None:
    review = reviewed(mined, tmp_path / "review")
    review.record_many("ann", [(i, YES) for i in review.items])
    review.record_many("ben", [(i, YES) for i in review.items])
    collect(review, tmp_path / "reviewed.parquet")
    table = pq.read_table(tmp_path / "reviewed.parquet")
    column = table.schema.get_field_index("sha256")
    other = table.set_column(column, "sha256", pa.array(["0" * 64] * len(table)))
    pq.write_table(other.replace_schema_metadata(table.schema.metadata), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="none of these candidates"):
        publish(PublishConfig(candidates=str(mined), reviewed=str(tmp_path / "other.parquet")), tmp_path / "out")


@pytest.mark.parametrize("options", [{}, {"reviewed": "file", "unreviewed": True}])
def test_a_publisher_says_whether_anyone_looked(options: dict) -> None:
    with pytest.raises(ValidationError, match="--unreviewed"):
        PublishConfig(candidates="x", **options)
