from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from leaderboard_helpers import class_id, digest, random_submission, tiny_version

from spurious_imagenet.datasets.manifest import images_sha256
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.leaderboard.scoring.scoring import score_entry
from spurious_imagenet.leaderboard.store._retired import without_retired
from spurious_imagenet.leaderboard.store.rescore import rescore, score_under
from spurious_imagenet.leaderboard.store.retiring import retire, retired_version
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.predictions import as_predictions
from spurious_imagenet.leaderboard.submission.read import Submission
from spurious_imagenet.leaderboard.version import BenchmarkVersion

VERSION = tiny_version()
SHARED = digest("spurious shared")
GONE = [digest("spurious 0 3"), digest("spurious 2 5")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "board", create=True)
    made.add_version(VERSION)
    return made


def test_a_version_without_retired_images(store: Store) -> None:
    made = retire(store, GONE, "They show the class.", "1.0.1")
    expected = VERSION.side("spurious")
    expected = expected[~expected["sha256"].isin(GONE)]
    found = store.version()
    assert found.info == made.info
    assert found.side("spurious")["sha256"].tolist() == expected["sha256"].tolist()
    assert found.info.dataset_sha256 == images_sha256(expected, ["class_id", "concept_id", "sha256"])
    assert found.info.validation_sha256 == VERSION.info.validation_sha256
    assert [(r.class_id, r.sha256, r.reason, r.since) for r in found.info.retired] == [
        (class_id(c), sha256, "They show the class.", "1.0.1") for c, sha256 in ((0, GONE[0]), (2, GONE[1]))
    ]
    assert found.info.changes[0].text == "Retired 2 images: They show the class."
    assert found.rankings is not None
    later = retire(store, [digest("spurious 1 1")], "Late.", "1.0.2")
    assert [r.since for r in later.info.retired] == ["1.0.1", "1.0.1", "1.0.2"]


def test_an_image_is_retired_of_one_class_or_of_all() -> None:
    everywhere = retired_version(VERSION, [SHARED], "bad", "1.0.1")
    of_one = retired_version(VERSION, [(class_id(1), SHARED)], "bad", "1.0.1")
    assert len(everywhere.info.retired) == 2
    assert [r.class_id for r in of_one.info.retired] == [class_id(1)]
    assert SHARED in set(of_one.side("spurious")["sha256"])


def test_a_class_that_keeps_no_image_leaves() -> None:
    all_of_one = VERSION.side("spurious").query("class_id == @class_id(2)")["sha256"].tolist()
    made = retired_version(VERSION, all_of_one, "bad", "2.0.0")
    assert set(made.info.class_names) == {class_id(0), class_id(1)}
    assert len(made.side("validation")) == len(VERSION.side("validation"))


@pytest.mark.parametrize(
    ("images", "reason", "name", "said"),
    [
        ([], "bad", "1.0.1", "no image to retire"),
        (GONE, " ", "1.0.1", "the reason is empty"),
        (GONE, "bad", "1.0.0", "does not come after 1.0.0"),
        (GONE, "bad", "0.9.0", "does not come after 1.0.0"),
        ([*GONE, "0" * 64], "bad", "1.0.1", "1 of 3 images are not spurious images of version 1.0.0"),
        ([digest("validation 0 0")], "bad", "1.0.1", "are not spurious images"),
        ([(class_id(1), GONE[0])], "bad", "1.0.1", "are not spurious images"),
        (VERSION.side("spurious")["sha256"].tolist(), "bad", "1.0.1", "would leave no spurious image"),
    ],
)
def test_what_cannot_be_retired(images: list[str], reason: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        retired_version(VERSION, images, reason, name)


def test_rescored_entries_equal_those_scored_from_scratch(store: Store) -> None:
    entries = [store.add(random_submission(VERSION, seed)) for seed in range(3)]
    old = [score_under(store, entry).score for entry in entries]
    retire(store, [*GONE, SHARED], "bad", "1.0.1")
    seen: list[tuple[int, int]] = []
    report = rescore(store, progress=lambda done, of: seen.append((done, of)))
    assert (report.version, report.scored, report.kept, report.refused) == ("1.0.1", 3, 0, {})
    assert seen == [(1, 3), (2, 3), (3, 3)]
    # From scratch: a version that never had the images, and predictions that never were of them.
    fresh = retired_version(tiny_version(), [*GONE, SHARED], "bad", "1.0.1")
    for seed, entry in enumerate(entries):
        table = random_submission(VERSION, seed).table
        keys = set(zip(fresh.images["side"], fresh.images["class_id"], fresh.images["sha256"], strict=True))
        own = table[[key in keys for key in zip(table["side"], table["class_id"], table["sha256"], strict=True)]]
        assert len(own) == len(table) - 4
        expected = score_entry(entry, as_predictions(own, fresh), fresh)
        found = store.scored(entry.id)
        assert found is not None
        assert found.score == expected.score
        for name, values in expected.resampled.items():
            assert np.array_equal(found.resampled[name], values)
        assert store.scored(entry.id, "1.0.0").score == old[seed]  # type: ignore[union-attr]
    assert old[0].mean != store.scored(entries[0].id).score.mean  # type: ignore[union-attr]


def test_rescoring_goes_on_and_reports_what_cannot_be_scored(store: Store, tmp_path: Path) -> None:
    entries = [store.add(random_submission(VERSION, seed)) for seed in range(4)]
    score_under(store, entries[0])
    store.withdraw(entries[1].id, "gone")
    torn = tmp_path / "board" / "entries" / entries[2].id[:2] / f"{entries[2].id}.predictions.parquet"
    torn.write_bytes(b"PAR1")
    report = rescore(Store(store.url))
    assert (report.scored, report.kept) == (1, 1)
    assert list(report.refused) == [entries[2].id]
    assert "changed since it was written" in report.refused[entries[2].id]
    assert store.scored_ids() == {entries[0].id, entries[3].id}
    larger = tiny_version(4, version="2.0.0")
    store.add_version(larger)
    report = rescore(store)
    assert report.scored == 0
    assert "no row" in report.refused[entries[3].id]


@pytest.mark.slow
def test_processes_give_the_scores_that_one_gives(store: Store) -> None:
    entries = [store.add(random_submission(VERSION, seed)) for seed in range(18)]
    assert rescore(store, workers=2).scored == 18
    for entry in entries[:3]:
        found = store.scored(entry.id)
        assert found is not None
        assert found.score == score_entry(entry, store.predictions(entry.id), store.version()).score


def test_only_rows_of_images_retired_since_are_dropped() -> None:
    submission = random_submission(VERSION, 1)
    first = retired_version(VERSION, GONE[:1], "bad", "1.0.1")
    second = retired_version(first, GONE[1:], "bad", "1.0.2")
    assert len(without_retired(submission.table, "1.0.0", second)) == len(submission.table) - 2
    assert len(without_retired(submission.table, "1.0.1", second)) == len(submission.table) - 1
    assert without_retired(submission.table, "1.0.2", second) is submission.table
    with pytest.raises(DataError, match=r"version 1\.0\.2 does not have"):
        as_predictions(without_retired(submission.table, "1.0.1", second), second)


def test_an_image_that_one_concept_of_a_class_keeps_keeps_its_row() -> None:
    doubled = VERSION.images.copy()
    twice = doubled[doubled["sha256"] == GONE[0]].assign(concept_id="npca/other", name="again")
    both = _version(VERSION, doubled, twice)
    gone = retired_version(VERSION, GONE[:1], "bad", "1.0.1").info.retired
    kept = BenchmarkVersion(both.info.model_copy(update={"version": "1.0.1", "retired": gone}), both.images, None)
    table = random_submission(kept, 1).table
    assert len(without_retired(table, "1.0.0", kept)) == len(table)


def _version(version: BenchmarkVersion, images: object, more: object) -> BenchmarkVersion:
    import pandas as pd

    table = pd.concat([images, more], ignore_index=True)  # type: ignore[list-item]
    spurious = table[table["side"] == "spurious"]
    found = images_sha256(spurious, ["class_id", "concept_id", "sha256"])
    return BenchmarkVersion(version.info.model_copy(update={"dataset_sha256": found}), table, None)


def test_a_submission_can_be_stored_for_a_later_version(store: Store) -> None:
    made = retire(store, GONE, "bad", "1.0.1")
    table = without_retired(random_submission(VERSION, 5).table, "1.0.0", made)
    entry = store.add(Submission(random_submission(made, 5).info, table))
    assert score_under(store, entry).score.version == "1.0.1"
