"""What a message's sender and watchers get once its group is committed: result, events, acknowledgement.

In that order, so that a message is forgotten last. Each step costs one round trip a group. A result or an
event that cannot be written is counted, and never keeps a message from being acknowledged.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from time import time
from typing import Any

from celery import Celery, signals, states
from celery.backends.redis import RedisBackend
from celery.worker.state import task_accepted, task_ready, task_reserved
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from models.dead_letters import DeadLetter, Reason
from models.outcomes import Outcome
from worker.engine import crash
from worker.intake.request import Request

log = logging.getLogger(__name__)

# Errors of a broker that is away, as redis-py, kombu and the socket say it.
AWAY = (RedisError, OperationalError, OSError)


MAX_EVENTS_TOGETHER = 500
"""Events in one message to the watchers: about 200 KB, and few round trips a group."""


class Answers:
    """Answers requests through one Celery app; `failed` counts what could not be written, by kind."""

    def __init__(self, app: Celery) -> None:
        self.failed: Counter[str] = Counter()
        self._app = app
        self._dispatcher: Any = None

    def watch(self, dispatcher: Any) -> None:
        """Send events through Celery's dispatcher, a new one after each reconnect, a group's together.

        None, where the worker was started without anything that sends events.
        """
        if dispatcher is not None:
            dispatcher.buffer_group = frozenset({"task"})
            dispatcher.buffer_limit = MAX_EVENTS_TOGETHER
        self._dispatcher = dispatcher

    def received(self, request: Request) -> None:
        """Tell watchers that a message is here."""
        task_reserved(request)
        signals.task_received.send(sender=self, request=request)
        if self._watched():
            self._send(
                "task-received",
                uuid=request.id,
                name=request.name,
                args=request.headers.get("argsrepr", ""),
                kwargs=request.headers.get("kwargsrepr", ""),
                root_id=request.headers.get("root_id"),
                parent_id=request.headers.get("parent_id"),
                retries=request.headers.get("retries", 0),
                eta=request.headers.get("eta"),
                expires=request.headers.get("expires"),
            )

    def started(self, group: Sequence[Request]) -> None:
        """Tell watchers that a group is being decided."""
        now = time()
        for request in group:
            request.time_start = now
            task_accepted(request)
            if self._watched():
                self._send("task-started", uuid=request.id)

    def decided(self, group: Sequence[Request], outcomes: Sequence[Outcome]) -> None:
        """Hand each request its outcome and acknowledge them all."""
        told = list(zip(group, outcomes, strict=True))
        self._store_results([(request, outcome) for request, outcome in told if request.wants_result])
        for request, outcome in told:
            self._announce(request, outcome)
        self.flush()
        crash.reached("before_ack")
        self.acknowledge(group)

    def acknowledge(self, group: Iterable[Request]) -> None:
        """Forget the messages. Where the broker is away they are delivered again, and answered from the inbox."""
        for source, requests in groupby(group, key=lambda request: request.source):
            settled = list(requests)
            try:
                source.acknowledge([request.tag for request in settled])
            except AWAY as error:
                self._failed("acknowledgement", len(settled), error)
            for request in settled:
                request.acknowledged = True

    def returned(self, request: Request) -> None:
        """Note that a request left the worker undecided: its message is back in the queue."""
        task_ready(request)

    def flush(self) -> None:
        """Publish the events that were gathered."""
        if not self._watched():
            return
        try:
            self._dispatcher.flush()
        except Exception as error:  # noqa: BLE001  # as results: a courtesy, whatever is wrong with it
            self._failed("event", 1, error)

    def _announce(self, request: Request, outcome: Outcome) -> None:
        runtime = time() - (request.time_start or request.received_at)
        letter = request.item if isinstance(request.item, DeadLetter) else None
        task_ready(request, successful=letter is None)
        if letter is None:
            signals.task_success.send(sender=request.task, result=outcome)
            if self._watched():
                self._send("task-succeeded", uuid=request.id, result=repr(outcome["status"]), runtime=runtime)
        elif letter.reason in (Reason.REVOKED, Reason.EXPIRED):
            expired = letter.reason is Reason.EXPIRED
            signals.task_revoked.send(
                sender=request.task, request=request, terminated=False, signum=None, expired=expired
            )
            if self._watched():
                self._send("task-revoked", uuid=request.id, terminated=False, signum=None, expired=expired)
        else:
            log.warning("dead letter %s: %s %s: %a", letter.id, request.name, letter.reason.value, letter.detail)
            if self._watched():
                exception = f"{letter.reason.value.capitalize()}({letter.detail!r})"
                self._send("task-failed", uuid=request.id, exception=exception, traceback=None)

    def _store_results(self, wanted: Sequence[tuple[Request, Outcome]]) -> None:
        if not wanted:
            return
        try:
            backend = self._app.backend
            if isinstance(backend, RedisBackend):
                _store_in_redis(backend, wanted)
            else:
                for request, outcome in wanted:
                    state, result = _result(request, outcome)
                    backend.store_result(request.id, result, state)
        except Exception as error:  # noqa: BLE001  # any backend may be configured, and raises what it likes
            self._failed("result", len(wanted), error)

    def _watched(self) -> bool:
        """Whether task events are on: the worker began with -E, or a watcher switched them on."""
        dispatcher = self._dispatcher
        return bool(dispatcher and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups))

    def _send(self, event: str, **fields: Any) -> None:
        try:
            self._dispatcher.send(event, **fields)
        except Exception as error:  # noqa: BLE001  # as `flush`
            self._failed("event", 1, error)

    def _failed(self, kind: str, count: int, error: Exception) -> None:
        self.failed[kind] += count
        log.error("%d %s(s) could not be written: %s", count, kind, error)


def _result(request: Request, outcome: Outcome) -> tuple[str, Any]:
    """Give Celery's state of a message, and its result in Celery's JSON."""
    if not isinstance(request.item, DeadLetter):
        return states.SUCCESS, outcome
    letter = request.item
    if letter.reason in (Reason.REVOKED, Reason.EXPIRED):
        # As Celery's own: `get` raises TaskRevokedError.
        return states.REVOKED, _exception("TaskRevokedError", letter.detail, "celery.exceptions")
    return states.FAILURE, _exception(letter.reason.value.capitalize(), letter.detail, "equipoise")


def _exception(type: str, message: str, module: str) -> dict[str, Any]:
    return {"exc_type": type, "exc_message": [message], "exc_module": module}


def _store_in_redis(backend: RedisBackend, wanted: Sequence[tuple[Request, Outcome]]) -> None:
    """Write results as Celery's Redis backend writes one, all in one round trip."""
    with backend.client.pipeline(transaction=False) as pipeline:
        for request, outcome in wanted:
            state, result = _result(request, outcome)
            meta = backend._get_result_meta(result, state, None, None) | {"task_id": request.id}
            key, value = backend.get_key_for_task(request.id), backend.encode(meta)
            pipeline.set(key, value, ex=backend.expires or None)
            pipeline.publish(key, value)
        pipeline.execute()
