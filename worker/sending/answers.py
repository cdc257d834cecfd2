"""What came of the messages that were sent: each outcome as it is, each dead letter with its line."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from celery import Celery, states

from models.statuses import Status
from worker.sending.lines import Line


class Result(NamedTuple):
    """A message's result: the outcome; or, where it became a dead letter, the reason and the detail."""

    outcome: dict[str, Any] | None
    reason: str = ""
    detail: str = ""


class Results:
    """Reads Celery's result backend, which must be able to read many at once, as Redis can."""

    def __init__(self, result_url: str) -> None:
        self._backend = Celery("sender", backend=result_url, set_as_current=False).backend

    def arrived(self, task_ids: Sequence[str]) -> dict[str, Result]:
        """Give the results that are there, in one round trip."""
        backend = self._backend
        values = backend.mget([backend.get_key_for_task(id) for id in task_ids])
        found = {id: orjson.loads(value) for id, value in zip(task_ids, values, strict=True) if value is not None}
        return {id: _result(meta) for id, meta in found.items() if meta["status"] in states.READY_STATES}


def _result(meta: dict[str, Any]) -> Result:
    if meta["status"] == states.SUCCESS:
        return Result(meta["result"])
    error = meta["result"]
    message = error["exc_message"]
    return Result(None, error["exc_type"].lower(), str(message[0] if isinstance(message, list) else message))


class Place(NamedTuple):
    """Which line is answered."""

    number: int
    id: str | None

    @classmethod
    def of(cls, line: Line) -> "Place":
        return cls(line.number, line.id)


class Answer(NamedTuple):
    """One line's answer: an outcome, or in its place what became a dead letter."""

    line: int
    told: dict[str, Any]

    def encode(self) -> bytes:
        """Give the answer's bytes, compact, the keys in the contract's order."""
        return orjson.dumps(self.told)


def answer(place: Place, result: Result) -> Answer:
    """Answer a line with its message's result."""
    if result.outcome is None:
        return dead(place, result.reason, result.detail)
    return Answer(place.number, result.outcome)


def member_answer(place: Place, outcome: dict[str, Any]) -> Answer:
    """Answer a line that shared a message: its outcome is what it would have been alone."""
    if outcome["status"] == Status.MALFORMED:
        return dead(place, outcome["status"], outcome["detail"])
    return Answer(place.number, outcome)


def dead(place: Place, reason: str, detail: str) -> Answer:
    """Tell of a dead letter: which line it was, and why."""
    id = {"id": place.id} if place.id else {}
    return Answer(place.number, {**id, "line": place.number, "status": reason, "detail": detail})
