"""Requests to run a model, which workers take from the store one by one.

    requests/<id>.json              what was asked for
    requests/<id>.claim-<n>.json    who runs it, and until when; the n-th time that it was taken or held on to
    requests/<id>.outcome.json      the entry that it became, or why it failed

Each file is written once, and refused by the store if another worker has written it: of two workers that take the same
request at once, one gets it. A worker that dies stops holding on, and its request is taken again, by three workers at
most.
"""

from __future__ import annotations

import re
import threading
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from spurious_imagenet.datasets.manifest import Sha256
from spurious_imagenet.errors import StoreError
from spurious_imagenet.images import Protocol
from spurious_imagenet.leaderboard.entry import ShortText
from spurious_imagenet.leaderboard.store.object_store import ObjectStore
from spurious_imagenet.leaderboard.store.records import json_bytes
from spurious_imagenet.leaderboard.submission.text import text_refusal
from spurious_imagenet.records import Record

__all__ = ["Claim", "ModelRequest", "RunOutcome", "Queue", "Queued"]

_CLAIM = re.compile(r"requests/([0-9a-f]{64})\.claim-(\d+)\.json")
#: Workers that may stop while they run a request, before it counts as the request's fault.
_MOST_WORKERS = 3
_REQUEST = re.compile(r"requests/([0-9a-f]{64})\.json")


class ModelRequest(Record, str_strip_whitespace=True):
    """A model that someone wants on the board; the submission's further fields come from the run."""

    schema_version: Literal[1] = 1
    spec: Annotated[str, Field(min_length=1, max_length=500)]
    protocol: Protocol
    model: ShortText
    """What to call it on the board."""
    authors: Annotated[tuple[ShortText, ...], Field(min_length=1, max_length=50)]
    training_data: ShortText
    licence: ShortText
    link: Annotated[str, Field(max_length=500, pattern=r"^https://[^\s]+$")] | None = None
    architecture: ShortText | None = None
    notes: Annotated[str, Field(max_length=2000)] | None = None
    attempt: Annotated[int, Field(ge=1)] = 1
    """A request that failed may be made again under the next number."""

    @field_validator("spec", "model", "authors", "training_data", "licence", "link", "architecture", "notes")
    @classmethod
    def _check_text(cls, value: str | tuple[str, ...] | None, info: ValidationInfo) -> str | tuple[str, ...] | None:
        for text in (value,) if isinstance(value, str) else value or ():
            refusal = text_refusal(unicodedata.normalize("NFC", text), lines=info.field_name == "notes")
            if refusal:
                raise ValueError(refusal)
        return value

    @property
    def id(self) -> str:
        """Hash over what is asked for: the same request is in a queue once."""
        return sha256(self.to_json().encode()).hexdigest()


class Claim(Record):
    """A worker's word that it runs a request."""

    schema_version: Literal[1] = 1
    request: Sha256
    worker: str
    expires: float
    """Seconds since 1970, by the worker's clock: from then on others may take the request."""


class RunOutcome(Record):
    """What became of a request."""

    schema_version: Literal[1] = 1
    request: Sha256
    time: str
    """ISO 8601, UTC."""
    entry: Sha256 | None = None
    reason: str | None = None
    """Why it failed, in one sentence."""


@dataclass(frozen=True)
class Queued:
    """A request and where it stands.

    Attributes:
        request: What was asked for.
        claim: The last claim, if any.
        claims: How many there were.
        outcome: What became of it; None while it waits or runs.
    """

    request: ModelRequest
    claim: Claim | None
    claims: int
    outcome: RunOutcome | None

    def state(self, now: float) -> Literal["waiting", "running", "done", "failed"]:
        """Say in a word where it stands at a time, seconds since 1970."""
        if self.outcome is not None:
            return "failed" if self.outcome.entry is None else "done"
        return "running" if self.claim is not None and self.claim.expires > now else "waiting"


@dataclass
class Queue:
    """The requests of a store.

    Attributes:
        place: Of the store.
        lease: Seconds for which a claim holds; a running worker holds on three times as often.
        clock: Seconds since 1970. Clocks of machines that share a store must differ by less than the lease.
        worker: Name of this worker.
    """

    place: ObjectStore
    lease: float = 600
    clock: Callable[[], float] = time.time
    worker: str = field(default_factory=lambda: uuid.uuid4().hex)

    def add(self, request: ModelRequest) -> Queued:
        """Ask for a model; asked for before, it is where it was, or in again with the next number where it failed."""
        while True:
            self.place.write_once(f"requests/{request.id}.json", json_bytes(request))
            found = self.get(request.id)
            if found.outcome is None or found.outcome.entry is not None:
                return found
            request = request.model_copy(update={"attempt": request.attempt + 1})

    def get(self, request_id: str) -> Queued:
        """Return one request.

        Raises:
            StoreError: There is none of this id.
        """
        found = next((q for q in self.all() if q.request.id == request_id), None)
        if found is None:
            raise StoreError(f"{self.place.name} has no request {request_id[:12]}.")
        return found

    def all(self) -> list[Queued]:
        """Return every request that can be read, by id."""
        files = self.place.files("requests")
        claims: dict[str, int] = {}
        for match in filter(None, map(_CLAIM.fullmatch, files)):
            claims[match[1]] = max(claims.get(match[1], 0), int(match[2]))
        ids = [match[1] for match in filter(None, map(_REQUEST.fullmatch, files))]
        return [q for q in (self._read(i, claims.get(i, 0)) for i in ids) if q is not None]

    def take(self) -> Queued | None:
        """Claim a request that waits; None if none does, or others were faster.

        One that several workers did not survive, such as a model that no memory holds, fails instead: it would stop
        one worker after the other, before they come to other requests.
        """
        for queued in self.all():
            if queued.state(self.clock()) != "waiting":
                continue
            stopped = len(self._workers(queued))
            if stopped >= _MOST_WORKERS:
                self.finish(queued, reason=f"{stopped} workers stopped while they ran it.")
            elif self._claim(queued.request.id, queued.claims + 1):
                return queued
        return None

    def _workers(self, queued: Queued) -> set[str]:
        paths = [_claim_path(queued.request.id, number) for number in range(1, queued.claims + 1)]
        return {Claim.model_validate_json(data).worker for _, data in self.place.read_many(paths)}

    @contextmanager
    def held(self, queued: Queued) -> Iterator[None]:
        """Hold on to a request that was taken, for as long as the block runs."""
        done = threading.Event()

        def hold() -> None:
            number = queued.claims + 1
            while not done.wait(self.lease / 3):
                number += 1
                if not self._claim(queued.request.id, number):
                    return  # this worker was away for longer than the lease, and another one took over

        thread = threading.Thread(target=hold, name="claim", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def finish(self, queued: Queued, *, entry: str | None = None, reason: str | None = None) -> RunOutcome:
        """Say what became of a request; what was said first stays."""
        now = datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="seconds")
        outcome = RunOutcome(request=queued.request.id, time=now, entry=entry, reason=reason)
        path = _outcome_path(queued.request.id)
        if self.place.write_once(path, json_bytes(outcome)):
            return outcome
        return RunOutcome.model_validate_json(self.place.read(path))

    def _claim(self, request_id: str, number: int) -> bool:
        claim = Claim(request=request_id, worker=self.worker, expires=self.clock() + self.lease)
        return self.place.write_once(_claim_path(request_id, number), json_bytes(claim))

    def _read(self, request_id: str, claims: int) -> Queued | None:
        paths = [f"requests/{request_id}.json", _outcome_path(request_id)]
        if claims:
            paths.append(_claim_path(request_id, claims))
        found = dict(self.place.read_many(paths))
        try:
            request = ModelRequest.model_validate_json(found[paths[0]])
            outcome = RunOutcome.model_validate_json(found[paths[1]]) if paths[1] in found else None
            claim = Claim.model_validate_json(found[paths[-1]]) if claims else None
        except (KeyError, ValueError):
            return None
        return Queued(request, claim, claims, outcome) if request.id == request_id else None


def _claim_path(request_id: str, number: int) -> str:
    return f"requests/{request_id}.claim-{number}.json"


def _outcome_path(request_id: str) -> str:
    return f"requests/{request_id}.outcome.json"
