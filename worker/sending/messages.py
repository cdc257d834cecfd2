"""Lines as Celery messages (protocol 2), published many in a round trip.

A message's body is the line's own bytes between the two other parts that Celery's protocol wants, so that the door
judges exactly what was written. kombu's stock transport publishes: nothing of ours is needed for that.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

from kombu import Connection, Producer

from worker.sending.lines import BATCH, UNREADABLE, Line

QUEUE: Final = "commands"
MESSAGES_AT_ONCE: Final = 1_000
"""More than a read gives, as a rule: what bounds a round trip is `lines.BYTES_AT_ONCE`."""

BROKER_TIMEOUT_S: Final = 10.0
"""To connect, and for each answer. A broker takes a megabyte in milliseconds."""

_EMBED: Final = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'
_ORIGIN: Final = f"{os.getpid()}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class Message:
    """What goes into the queue. `shown` is all that Flower gets to see of the fields."""

    task: str
    body: bytes
    shown: dict[str, str]
    wants_result: bool
    task_id: str = field(default_factory=lambda: str(uuid4()))

    def headers(self) -> dict[str, Any]:
        """Give the headers of Celery's protocol 2."""
        return {
            "lang": "py",
            "task": self.task,
            "id": self.task_id,
            "root_id": self.task_id,
            "parent_id": None,
            "group": None,
            "eta": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": repr(self.shown),
            "origin": _ORIGIN,
            "ignore_result": not self.wants_result,
        }


def message(line: Line, *, wants_result: bool) -> Message:
    """Make the message of one line; what no task is known for goes as it is."""
    shown = {"type": line.task} | ({"id": line.id} if line.id else {})
    body = line.content if line.task == UNREADABLE else _body(line.content)
    return Message(line.task, body, shown, wants_result)


def batch(lines: Sequence[Line], *, wants_result: bool) -> Message:
    """Make one message of several lines that may share it: a batch with a new id, in their order."""
    id = str(uuid4())
    members = b",".join(line.content for line in lines)
    body = _body(b'{"type":"batch","id":"%s","commands":[%s]}' % (id.encode(), members))
    return Message(BATCH, body, {"type": BATCH, "id": id}, wants_result)


def _body(fields: bytes) -> bytes:
    return b"[[],%s,%s]" % (fields, _EMBED)


class Publisher:
    """Publishes messages for as long as a `with` block lasts. Raises kombu's `OperationalError` and redis' errors."""

    def __init__(self, broker_url: str) -> None:
        timeouts = {"socket_connect_timeout": BROKER_TIMEOUT_S, "socket_timeout": BROKER_TIMEOUT_S}
        self._connection = Connection(broker_url, transport_options=timeouts)
        self._producer: Any = None

    def __enter__(self) -> Self:
        self._producer = Producer(self._connection.channel())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.release()

    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages into the queue, in their order, in one round trip where the broker can."""
        with self._producer.batch(max_size=MESSAGES_AT_ONCE):
            for one in messages:
                self._producer.publish(
                    one.body,
                    exchange="",
                    routing_key=QUEUE,
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers=one.headers(),
                    correlation_id=one.task_id,
                    delivery_mode=2,
                )
