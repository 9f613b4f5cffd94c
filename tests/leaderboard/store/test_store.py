from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import tree
from leaderboard_helpers import digest, random_submission, tiny_version

from spurious_imagenet.datasets.manifest import images_sha256
from spurious_imagenet.errors import ConfigError, StoreError
from spurious_imagenet.leaderboard.entry import Verification
from spurious_imagenet.leaderboard.store.records import sha256_bytes
from spurious_imagenet.leaderboard.store.rescore import score_under
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.read import Submission

VERSION = tiny_version()


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    where = tmp_path / "board" if request.param == "local" else f"memory://{tmp_path.name}-{id(request)}"
    made = Store(where, create=True)
    made.add_version(VERSION, [("board:b", b"B"), ("image:a", b"A")])
    return made


def test_a_version_comes_back_as_it_went_in(store: Store) -> None:
    found = Store(store.url).version("1.0.0")
    assert found.info == VERSION.info
    for side in ("spurious", "validation"):
        pd.testing.assert_frame_equal(
            found.side(side)[["class_id", "sha256"]], VERSION.side(side)[["class_id", "sha256"]]
        )
    first, expected = found.side("spurious").iloc[0], VERSION.side("spurious").iloc[0]
    assert [m["class_id"] for m in first["models"]] == [m["class_id"] for m in expected["models"]]
    assert found.rankings is not None
    assert VERSION.rankings is not None
    assert found.rankings.info == VERSION.rankings.info
    assert found.rankings.table["rank"].tolist() == VERSION.rankings.table["rank"].tolist()
    assert store.version() is store.version("1.0.0")


def test_versions_are_sorted_by_number_and_never_replaced(store: Store) -> None:
    store.add_version(VERSION, [("board:b", b"B"), ("image:a", b"A")])  # the same once more
    for name in ("1.10.0", "1.9.0"):
        store.add_version(tiny_version(version=name))
    assert store.versions() == ["1.0.0", "1.9.0", "1.10.0"]
    assert store.latest == "1.10.0"
    with pytest.raises(StoreError, match=r"has another version 1\.0\.0 already"):
        store.add_version(tiny_version(4))
    assert store.version("1.0.0").info == VERSION.info
    with pytest.raises(StoreError, match=r"no version .2\.0\.0."):
        store.version("2.0.0")


def test_pictures_of_a_version_and_of_those_before_it(store: Store) -> None:
    store.add_version(tiny_version(version="1.1.0"), [("board:b", b"newer")])
    store.add_version(tiny_version(version="1.2.0"))
    assert store.pictures("latest", ["board:b", "image:a", "image:none"]) == {"board:b": b"newer", "image:a": b"A"}
    assert store.pictures("1.0.0", ["board:b"]) == {"board:b": b"B"}
    assert store.pictures("1.0.0", []) == {}


def test_equal_submissions_are_one_entry_whatever_form_they_came_in(store: Store) -> None:
    submission = random_submission(VERSION, 1)
    first = store.add(submission, received="2026-01-01T00:00:00+00:00")
    table = submission.table.sample(frac=1, random_state=0)
    table["top5_probability"] = [[float(p) for p in row] for row in table["top5_probability"]]
    table["class_id"] = table["class_id"].astype(object)
    again = store.add(Submission(submission.info, table[table.columns[::-1]]))
    assert again == first
    assert store.entries() == [first]
    zero = submission.table.assign(probability=0.0)
    minus = submission.table.assign(probability=-0.0)
    assert store.add(Submission(submission.info, zero)).id == store.add(Submission(submission.info, minus)).id


def test_other_words_or_numbers_are_another_entry(store: Store) -> None:
    submission = random_submission(VERSION, 1)
    table = submission.table.copy()
    table.loc[3, "probability"] = np.nextafter(table.loc[3, "probability"], 1)
    ids = {
        store.add(s).id
        for s in (submission, Submission(submission.info, table), random_submission(VERSION, 1, notes="other"))
    }
    assert len(ids) == 3


def test_what_was_submitted_comes_back(store: Store) -> None:
    submission = random_submission(VERSION, 2)
    entry = store.add(submission)
    found = Store(store.url).submitted(entry.id).set_index(["side", "class_id", "sha256"])
    expected = submission.table.set_index(["side", "class_id", "sha256"])
    assert set(found.index) == set(expected.index)
    assert found["probability"].to_dict() == expected["probability"].to_dict()
    assert found["top5_id"].map(list).to_dict() == expected["top5_id"].map(list).to_dict()
    predictions = store.predictions(entry.id)
    assert len(predictions) == len(VERSION.images)
    assert (
        images_sha256(predictions.of("spurious"), ["class_id", "concept_id", "sha256"]) == VERSION.info.dataset_sha256
    )


def test_entries_come_in_the_order_of_their_arrival(store: Store) -> None:
    late = store.add(random_submission(VERSION, 1), received="2026-01-02T00:00:00+00:00")
    early = store.add(random_submission(VERSION, 2), received="2026-01-01T00:00:00+00:00")
    assert store.entries() == [early, late]
    assert Store(store.url).entry(late.id) == late


def test_scores_whole_and_without_details(store: Store) -> None:
    entry = store.add(random_submission(VERSION, 1))
    assert store.scored(entry.id) is None
    made = score_under(store, entry)
    found, short = Store(store.url).scored(entry.id), store.summaries()[entry.id]
    assert found is not None
    assert found.score == made.score
    assert found.score.gaps is not None
    for read in (found, short):
        assert {k: v.tolist() for k, v in read.resampled.items()} == {k: v.tolist() for k, v in made.resampled.items()}
    gaps = made.score.gaps.model_copy(update={"classes": (), "curve": ()})  # type: ignore[union-attr]
    assert short.score == made.score.model_copy(update={"classes": (), "concepts": (), "gaps": gaps})
    assert store.scored_ids() == {entry.id}
    store.add_score(made)
    assert store.scored_ids("1.0.0") == {entry.id}


def test_withdrawn_entries_stay_in_the_files_and_leave_the_list(store: Store) -> None:
    entry, other = (store.add(random_submission(VERSION, seed)) for seed in (1, 2))
    done = store.withdraw(entry.id, "wrong weights")
    assert store.withdraw(entry.id, "another reason") == done
    assert store.entries() == [other]
    assert store.entries(withdrawn=True) == [entry]
    assert store.withdrawals() == {entry.id: done}
    assert store.entry(entry.id) == entry
    store.add(random_submission(VERSION, 1))
    assert store.entries() == [other]
    with pytest.raises(StoreError, match="has no entry ffffffffffff"):
        store.withdraw("f" * 64, "none")


def test_verifications_are_kept_beside_each_other(store: Store) -> None:
    entry = store.add(random_submission(VERSION, 1))
    made = [
        Verification(
            entry=entry.id, time=f"2026-01-0{day}T00:00:00+00:00", images=5, agreeing=5, largest_difference=0.0,
            tolerance=1e-3, weights_sha256=digest("w"), verified=True,
        )
        for day in (2, 1)
    ]  # fmt: skip
    for one in (*made, made[0]):
        store.add_verification(one)
    assert store.verifications(entry.id) == store.verifications() == made[::-1]
    with pytest.raises(StoreError, match="no entry"):
        store.add_verification(made[0].model_copy(update={"entry": "0" * 64}))


def test_predictions_without_their_json_are_ignored_and_finished_later(tmp_path: Path) -> None:
    store = _local(tmp_path)
    entry = store.add(random_submission(VERSION, 1))
    path = tmp_path / "board" / "entries" / entry.id[:2] / f"{entry.id}.json"
    path.unlink()  # as if the writer had been killed between the two files
    fresh = Store(tmp_path / "board")
    assert fresh.entries() == []
    assert fresh.broken == ()
    assert fresh.add(random_submission(VERSION, 1)).id == entry.id
    assert len(fresh.entries()) == 1


def test_files_that_changed_are_left_out_with_the_reason(tmp_path: Path) -> None:
    store = _local(tmp_path)
    entries = [store.add(random_submission(VERSION, seed)) for seed in range(6)]
    json_of, parquet_of = (
        [tmp_path / "board" / "entries" / e.id[:2] / f"{e.id}{suffix}" for e in entries]
        for suffix in (".json", ".predictions.parquet")
    )
    json_of[0].write_text(json_of[0].read_text().replace("model 0", "model X"))
    json_of[1].write_text("{")
    parquet_of[2].unlink()
    parquet_of[3].write_bytes(parquet_of[3].read_bytes()[:-1])
    parquet_of[4].write_bytes(other := parquet_of[5].read_bytes())
    was, said = entries[4].predictions_sha256, sha256_bytes(other)
    json_of[4].write_text(json_of[4].read_text().replace(was, said))  # both, so that the file has the hash it is given
    (tmp_path / "board" / "withdrawn").mkdir()
    (tmp_path / "board" / "withdrawn" / "notes.json").write_text("[]")
    fresh = Store(tmp_path / "board")
    assert {e.id for e in fresh.entries()} == {e.id for e in entries[3:]}
    assert fresh.withdrawals() == {}
    with pytest.raises(StoreError, match="SHA-256 is another"):
        fresh.submitted(entries[3].id)
    with pytest.raises(StoreError, match="does not hold the predictions that its name is of"):
        fresh.submitted(entries[4].id)
    with pytest.raises(StoreError, match="contents have another hash"):
        fresh.entry(entries[0].id)
    with pytest.raises(StoreError, match="does not hold the predictions that its name is of"):
        fresh.add(random_submission(VERSION, 3))
    reasons = {Path(b.path).name: b.reason for b in fresh.broken}
    assert reasons.keys() == {p.name for p in (*json_of[:3], *parquet_of[3:5])} | {"notes.json"}
    assert "not an entry" in reasons[json_of[1].name]
    assert reasons[json_of[2].name] == "its predictions file is missing"


def test_changed_scores_and_versions_are_said_in_one_sentence(tmp_path: Path) -> None:
    store = _local(tmp_path)
    entry = store.add(random_submission(VERSION, 1))
    score_under(store, entry)
    (resamples,) = (tmp_path / "board" / "scores").rglob("*.safetensors")
    resamples.write_bytes(resamples.read_bytes()[:-4])
    assert store.summaries() == {}
    assert [b.path for b in store.broken] == [resamples.relative_to(tmp_path / "board").as_posix()]
    with pytest.raises(StoreError, match="changed since it was written"):
        store.scored(entry.id)
    resamples.unlink()
    with pytest.raises(StoreError, match="is missing"):
        store.scored(entry.id)
    (images,) = (tmp_path / "board" / "versions").rglob("images-*.parquet")
    images.write_bytes(b"")
    with pytest.raises(StoreError, match="changed since it was written"):
        Store(tmp_path / "board").version()


def test_nothing_is_ever_overwritten_or_removed(tmp_path: Path) -> None:
    store = _local(tmp_path)
    entry = store.add(random_submission(VERSION, 1))
    score_under(store, entry)
    before = tree(tmp_path / "board")
    store.add(random_submission(VERSION, 1))
    score_under(store, entry)
    store.add(random_submission(VERSION, 2))
    store.withdraw(entry.id, "gone")
    after = tree(tmp_path / "board")
    assert {path: after[path] for path in before} == before
    assert not any(p.is_file() for p in (tmp_path / "board" / ".tmp").iterdir())


def test_threads_that_add_the_same_and_different_submissions(tmp_path: Path) -> None:
    submissions = [random_submission(VERSION, seed) for seed in range(6)]
    _local(tmp_path)
    ids: list[list[str]] = [[] for _ in range(6)]

    def work(own: int) -> None:
        mine = Store(tmp_path / "board")
        ids[own] = [mine.add(submissions[(own + i) % 6]).id for i in range(6)]

    threads = [threading.Thread(target=work, args=(own,)) for own in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Store(tmp_path / "board").entries()
    assert len(found) == 6
    assert all(set(own) == {e.id for e in found} for own in ids)
    assert len(list((tmp_path / "board" / "entries").rglob("*.parquet"))) == 6


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("nothing://at-all", ConfigError, "cannot be opened: ValueError: Protocol not known: nothing"),
        ("empty", StoreError, "is not a leaderboard: expected one made by"),
        ("memory://nobody:secret@x", StoreError, "memory://x is not a leaderboard"),
    ],
)
def test_places_that_cannot_be_used(tmp_path: Path, url: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        Store(url if "://" in url else tmp_path / url)
    assert "secret" not in str(caught.value)


def _local(tmp_path: Path) -> Store:
    store = Store(tmp_path / "board", create=True)
    store.add_version(VERSION)
    return store
