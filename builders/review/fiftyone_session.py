"""One labeler's FiftyOne: a database of their own that mirrors their journal, and the operators of their keys."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from spurious_imagenet.builders.fiftyone_app import app as fiftyone_app
from spurious_imagenet.builders.fiftyone_app.mongo import Mongo
from spurious_imagenet.builders.review._labeling import Labeling
from spurious_imagenet.builders.review._verdict import Verdict
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.errors import ConfigError

__all__ = ["LABELER", "REVIEW", "FiftyOneSession", "Mirror", "current_session", "operators"]

#: Environment variables that say whose session a process holds; a labeler's identity comes from nowhere else.
REVIEW, LABELER = "SPURIOUS_REVIEW", "SPURIOUS_LABELER"
PLUGIN = Path(__file__).parent / "plugin"
WORKSPACE = "review"
_WATCH_SECONDS = 0.5
#: Method of :class:`FiftyOneSession` that is an operator → what it is called.
_OPERATORS = {
    "state": "Review: show an item",
    "answer": "Review: answer a question",
    "judge": "Review: answer all questions",
    "undo": "Review: undo",
    "go": "Review: go to another item",
}


class Mirror:
    """A FiftyOne dataset that shows a labeler's own items, in their own order, with their own answers.

    It is the only dataset of a database that is named after the review and the labeler, so no view or query of the
    labeler's App can name another's answers. The journal is the truth; what the dataset lacks is written again.

    Args:
        labeling: The labeler's way through the review.
        fiftyone: From :meth:`connect`.
    """

    def __init__(self, labeling: Labeling, fiftyone: Any) -> None:
        self.labeling, self._fo = labeling, fiftyone
        self.name = labeling.review.config.name
        questions = labeling.review.form.question_ids
        self._fields = {question: f"{labeling.labeler}_{question}" for question in questions}
        self._outcome = f"{labeling.labeler}_outcome"
        self.dataset: Any
        self._samples: dict[str, str]
        self.reconcile()
        self.dataset.save_workspace(WORKSPACE, self._layout(), overwrite=True)

    @staticmethod
    def database(review: Review, labeler: str) -> str:
        """Return the name of a labeler's database; another review's on the same server has another name."""
        digest = hashlib.sha256(f"{review.path.resolve()}\0{labeler}".encode()).hexdigest()
        return f"spurious-review-{digest[:20]}"

    def reconcile(self) -> int:
        """Make the dataset say what the journal says, from nothing if need be.

        Returns:
            How many answers were missing or wrong.
        """
        self._open()
        wanted = self._values(self.labeling.verdicts())
        wrong = 0
        for field, values in wanted.items():
            ids, got = self.dataset.values(["id", field])
            differing = {i: values.get(i) for i, value in zip(ids, got, strict=True) if values.get(i) != value}
            wrong += len(differing)
            if differing:
                self.dataset.set_values(field, differing, key_field="id")
        return wrong

    def write(self, item_id: str, verdict: Verdict | None) -> None:
        """Write a labeler's current answers on one item."""
        sample = self.dataset[self._samples[item_id]]
        for field, values in self._values({item_id: verdict} if verdict else {}).items():
            sample[field] = values.get(sample.id)
        sample.save()

    def _values(self, verdicts: Mapping[str, Verdict]) -> dict[str, dict[str, str | None]]:
        """Return field → sample id → value."""
        known = [(self._samples[item_id], verdict) for item_id, verdict in verdicts.items()]
        values = {f: {i: v.answers.get(question) for i, v in known} for question, f in self._fields.items()}
        return values | {self._outcome: {i: v.outcome for i, v in known}}

    def _open(self) -> None:
        fo, queue = self._fo, self.labeling.queue
        if fo.dataset_exists(self.name):
            self.dataset = fo.load_dataset(self.name, reload=True)
            ids, items = self.dataset.values(["id", "item_id"])
            if items == queue:
                self._samples = dict(zip(items, ids, strict=True))
                return
            fo.delete_dataset(self.name)
        self._build()

    def _build(self) -> None:
        fo, review = self._fo, self.labeling.review
        self.dataset = fo.Dataset(self.name, persistent=True)
        for field in ("item_id", "class_name", "class_id", *self._fields.values(), self._outcome):
            self.dataset.add_sample_field(field, fo.StringField)
        samples = [
            fo.Sample(
                filepath=str(review.media_path(item.media)),
                item_id=item.item_id,
                class_name=item.class_name,
                class_id=item.class_id,
            )
            for item in (review.items[i] for i in self.labeling.queue)
        ]
        ids = self.dataset.add_samples(samples, dynamic=False)
        self._samples = dict(zip(self.labeling.queue, ids, strict=True))

    def _layout(self) -> Any:
        fo = self._fo
        panels = [fo.Panel(type="Samples", pinned=True), fo.Panel(type="SpuriousReview")]
        spaces = [fo.Space(children=[panel], active_child=panel.component_id) for panel in panels]
        return fo.Space(children=spaces, orientation="horizontal", sizes=[0.16, 0.84])


class FiftyOneSession:
    """What a labeler's process holds: their way through the review, the mirror of it, and the server behind it.

    An answer goes to the journal first; that is the acknowledgement. Then it goes to the mirror. If the server is gone,
    the answer stands, the server is started again in the background and the mirror is made whole from the journal.

    Args:
        review: The review.
        labeler: Whose session it is.
    """

    def __init__(self, review: Review, labeler: str) -> None:
        self.labeling = Labeling(review, labeler)
        self.mongo = Mongo(review.path / "mongo")
        try:
            self.mongo.ensure()
            self._fiftyone = fiftyone_app.connect(self.mongo.uri, Mirror.database(review, labeler), PLUGIN)
            self.mirror = Mirror(self.labeling, self._fiftyone)
        except BaseException:  # Ctrl-C while it starts too: nobody else would end the server
            self.mongo.release()
            raise
        self._mirrored = threading.Lock()
        self._behind = threading.Event()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="mirror", daemon=True)
        self._watcher.start()

    def state(self, params: dict[str, Any]) -> dict[str, Any]:
        """Operator ``state``: describe ``item_id``, or the first item that is not answered whole."""
        return self.labeling.state(params.get("item_id"))

    def answer(self, params: dict[str, Any]) -> dict[str, Any]:
        """Operator ``answer``: answer ``question`` of ``item_id`` with ``answer``."""
        item_id = _text(params, "item_id")
        state = self.labeling.answer(item_id, _text(params, "question"), _text(params, "answer"))
        return self._written(item_id, state)

    def judge(self, params: dict[str, Any]) -> dict[str, Any]:
        """Operator ``judge``: give all ``answers`` on ``item_id``."""
        item_id, answers = _text(params, "item_id"), params.get("answers")
        if not isinstance(answers, dict):
            raise ConfigError(f"answers is {answers!r}: expected an object, question to answer.")
        return self._written(item_id, self.labeling.judge(item_id, answers))

    def undo(self, params: dict[str, Any]) -> dict[str, Any]:
        """Operator ``undo``: take the latest answer back."""
        state = self.labeling.undo()
        return self._written(state["item"]["item_id"], state) if state["item"] else state

    def go(self, params: dict[str, Any]) -> dict[str, Any]:
        """Operator ``go``: look at the item ``step`` places after ``item_id``."""
        return self.labeling.go(_text(params, "item_id"), int(params.get("step", 1)))

    def settle(self) -> int:
        """Wait for the server, reconcile the mirror, and return how many answers it lacked."""
        with self._mirrored:
            return self._catch_up()

    def close(self) -> None:
        """Let go of the server; the last of a review's sessions stops it."""
        self._closing.set()
        self._watcher.join()
        self.mongo.release()

    def _written(self, item_id: str, state: dict[str, Any]) -> dict[str, Any]:
        # While the mirror is being made whole there is no need to write to it: the journal has the answer.
        if not self._behind.is_set() and self._mirrored.acquire(blocking=False):
            try:
                self.mirror.write(item_id, self.labeling.verdicts().get(item_id))
            except Exception:  # whatever the client raises, the answer stands and the watcher repairs
                self._behind.set()
            finally:
                self._mirrored.release()
        else:
            self._behind.set()
        return state

    def _watch(self) -> None:
        run = self.mongo.run()
        while not self._closing.wait(_WATCH_SECONDS):
            try:
                if self.mongo.run() != run:
                    self._behind.set()
                if self._behind.is_set():
                    with self._mirrored:
                        self._behind.clear()
                        self._catch_up()
                run = self.mongo.run()
            except Exception:  # the next round tries again; the journal needs no server
                self._behind.set()

    def _catch_up(self) -> int:
        self.mongo.ensure()
        return self.mirror.reconcile()


def _text(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"{name} is {value!r}: expected text.")
    return value


@cache
def current_session() -> FiftyOneSession:
    """Return this process's session, whose review and labeler the environment names.

    Raises:
        ConfigError: The environment names none, or FiftyOne is not installed.
    """
    if missing := [name for name in (REVIEW, LABELER) if not os.environ.get(name)]:
        raise ConfigError(f"{missing[0]} is not set: it says whose answers these are.")
    return FiftyOneSession(Review.open(os.environ[REVIEW]), os.environ[LABELER])


def operators() -> list[type]:
    """Return the plugin's operators; each is a method of :func:`current_session`."""

    def act(name: str, params: dict[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = getattr(current_session(), name)(params)
        return state

    return [fiftyone_app.operator(name, label, partial(act, name)) for name, label in _OPERATORS.items()]
