"""Scripted labelers: answers from a table of truths, with a stated rate of errors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from spurious_imagenet.builders.review.consensus import State
from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.builders.review.sheets import read_sheet, refuse_repeated
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.planted.truth import PlantedTruth

__all__ = ["adjudicate_by_script", "answer_by_script", "planted_answers", "read_truth", "scripted_answers"]

#: What the truth of a planted world can answer, by kind of item.
_PLANTED_QUESTIONS = {"board": ("npfv", "images", "heat"), "image": ("cue", "object")}
_WRONG = {"yes": "no", "no": "yes", "unclear": "yes"}


def scripted_answers(
    truth: Mapping[str, Mapping[str, str]], labeler: str, error_rate: float, seed: int
) -> dict[str, dict[str, str]]:
    """Return the truth with errors: each answer is wrong with probability ``error_rate``, independently.

    Args:
        truth: Item id → question → right answer.
        labeler: Who answers; another labeler errs elsewhere.
        error_rate: In [0, 1].
        seed: Another seed errs elsewhere.

    Returns:
        As ``truth``; what one item is answered does not depend on the others.
    """
    return {
        item_id: {
            question: _WRONG[answer] if _chance(f"{seed}/{labeler}/{item_id}/{question}") < error_rate else answer
            for question, answer in answers.items()
        }
        for item_id, answers in truth.items()
    }


def answer_by_script(
    review: Review, labeler: str, truth: Mapping[str, Mapping[str, str]], *, error_rate: float = 0.0, seed: int = 0
) -> int:
    """Record answers on all of a labeler's items, in the labeler's order.

    Args:
        review: The review.
        labeler: For whom.
        truth: Item id → question → right answer, for all of the labeler's items at least.
        error_rate: Probability, in [0, 1], with which each answer is wrong.
        seed: Another seed errs elsewhere.

    Returns:
        Verdicts recorded.

    Raises:
        ConfigError: There is no such labeler, or the rate is none.
        DataError: The truth lacks an item or a question.
    """
    if not 0 <= error_rate <= 1:
        raise ConfigError(f"error rate is {error_rate}: expected a share from 0 to 1.")
    queue = review.queue(labeler)
    _check_truth(review, truth, queue)
    answers = scripted_answers({item_id: truth[item_id] for item_id in queue}, labeler, error_rate, seed)
    return len(review.record_many(labeler, list(answers.items())))


def adjudicate_by_script(review: Review, who: str, truth: Mapping[str, Mapping[str, str]]) -> int:
    """Decide what the labelers differ on by the truth, as a third person.

    Args:
        review: The review.
        who: Pseudonym of the third person.
        truth: Item id → question → right answer, for the items in question at least.

    Returns:
        Items decided.

    Raises:
        DataError: The truth lacks an item or a question.
        ConfigError: ``who`` judged one of the items.
    """
    differ = [c.item_id for c in review.consensus().values() if c.state is State.DISAGREED]
    _check_truth(review, truth, differ)
    return len(review.adjudicate_many(who, [(item_id, truth[item_id]) for item_id in differ]))


def _check_truth(review: Review, truth: Mapping[str, Mapping[str, str]], items: Iterable[str]) -> None:
    for item_id in items:
        if not review.form.is_complete(truth.get(item_id, {})):
            raise DataError(f"the truth does not answer {list(review.form.question_ids)} for item {item_id!r}.")


def read_truth(review: Review, path: str | Path) -> dict[str, dict[str, str]]:
    """Read right answers from a sheet (``.csv`` or ``.jsonl``) with ``item_id`` and a column a question.

    Raises:
        DataError: The sheet is unreadable, or a row does not fit the review; the sentence names it.
        ConfigError: The ending is neither.
    """
    rows = list(read_sheet(path, review.form, review.items))
    refuse_repeated(rows)
    return {row.item_id: row.answers for row in rows}


def planted_answers(review: Review, world: str | Path, check: str | Path) -> dict[str, dict[str, str]]:
    """Return the right answers on boards or mined images of a planted world.

    The components that ``spurious planted check`` found to be cues are spurious, all others are not. An image shows
    its component's cue, and the class's object, if the world's truth says so.

    Args:
        review: A review of boards or images by the bundled forms' questions.
        world: Folder of the planted world.
        check: Folder, or ``check.json`` in it, written by ``spurious planted check``.

    Raises:
        DataError: World or check cannot be read, an image is not of the world's pool, or the form asks what the truth
            does not say.
    """
    cues, pool = _cues(Path(check)), PlantedTruth.load(world).pool()
    shown = {str(s): (set(c), k) for s, c, k in zip(pool.index, pool["cues"], pool["class_id"], strict=True)}
    return {item.item_id: _planted(item, cues, shown, review.form.question_ids) for item in review.items.values()}


def _planted(
    item: ReviewItem,
    cues: Mapping[str, str],
    shown: Mapping[str, tuple[set[str], str | None]],
    questions: tuple[str, ...],
) -> dict[str, str]:
    if questions != _PLANTED_QUESTIONS.get(item.kind):
        raise DataError(f"a planted world does not say what to answer to {list(questions)} on item {item.item_id!r}.")
    cue = cues.get(item.concept_id or "")
    if item.kind == "board":
        return dict.fromkeys(questions, "no" if cue is None else "yes")
    sha256 = str(item.info.get("sha256"))
    if sha256 not in shown:
        raise DataError(f"image {item.item_id!r} is not of the planted world's pool.")
    in_image, class_id = shown[sha256]
    return {"cue": "yes" if cue in in_image else "no", "object": "yes" if class_id == item.class_id else "no"}


def _cues(check: Path) -> dict[str, str]:
    file = check / "check.json" if check.is_dir() else check
    try:
        pairs = json.loads(file.read_text(encoding="utf-8"))["pairs"]
        return {str(pair["concept_id"]): str(pair["cue"]) for pair in pairs}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be read as the check of a planted world: {error}") from error


def _chance(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
