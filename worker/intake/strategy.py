"""How Celery hands a command's message to the committer: in the consumer, without the pool.

Celery asks each task class for a strategy, which it calls with every message of that task. Ours judges the
message at the door and puts it before the committing thread. A message whose result Celery has more to do
with (a callback, a chain, a chord) goes the stock way instead: its task function settles it in the pool, and
Celery does the rest.
"""

import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import orjson
import redis
from billiard.einfo import ExceptionInfo
from celery import Celery, Task
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Reject
from celery.states import FAILURE
from celery.worker.strategy import default as stock_strategy

from models import contract
from models.dead_letters import Reason
from worker.broker.envelope import FLAW_HEADER
from worker.engine import crash
from worker.engine.decide import Item
from worker.intake.door import Delivery, dead_letter, judge
from worker.intake.request import Request

log = logging.getLogger(__name__)

ITEM_HEADER = "equipoise_item"
"""Set by the strategy on a message that goes the stock way: what the door made of it."""

ALARM_EVERY_S = 60.0
MAX_ALARMS = 100
"""Versions that are remembered: more than there will ever be, unless somebody makes them up."""

UNKNOWN_CONTRACT_WAIT_S = 5.0
"""How long a message of a contract that this worker does not know stays away from the queue."""


class Gathering:
    """The strategy of one task in one consumer. Celery calls it with every message that `take` left to it."""

    def __init__(self, task: Task, app: Celery, consumer: Any) -> None:
        self._task = task
        self._consumer = consumer
        self._stock: Callable[..., Any] = stock_strategy(task, app, consumer)

    def __call__(self, message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> Any:
        """Go the stock way: the task's function settles the command in the pool."""
        return self._stock(message, body, ack, reject, callbacks)

    def take(self, message: Any) -> bool:
        """Take a message over, for good; False: Celery has more to do with its result than we have."""
        delivery = read_delivery(message, self._task.name)
        judged = judge(delivery)
        request = make_request(message, delivery, judged.item, self._task)
        flaw = _read_times(request)
        if flaw:
            request.bury(Reason.MALFORMED, flaw)
        elif judged.linked and not request.overtaken():
            # What was judged is what is settled: Celery's own decoder reads some objects as dates and decimals.
            message.headers[ITEM_HEADER] = judged.item
            # Both were judged here; Celery's own reading of them acknowledges what it cannot convert.
            message.headers |= {"eta": None, "expires": None}
            return False
        self._consumer.committer.answers.received(request)
        crash.reached("received")
        self._consumer.committer.put(request)
        return True


def bounded(task: Task) -> Callable[..., Any]:
    """Give the task's tracer made to end a message whatever comes of sending what follows its command.

    By then the command is settled. What is raised outside of a task's body is told to nobody by a pool: the message
    would stay claimed, come back at each visibility timeout, and raise again.
    """
    trace = task.__trace__

    def traced(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        try:
            return trace(uuid, args, kwargs, request)
        except (Reject, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, _UNREACHABLE) or isinstance(error.__cause__, _UNREACHABLE):
                raise  # it comes back by itself, and the servers by then
            unsent[task.name] += 1
            log.exception(
                "%s[%s]: what should follow it cannot be sent, and its message is dropped; %d so far",
                task.name,
                uuid,
                unsent[task.name],
            )
            return trace_ok_t(ExceptionInfo(internal=True), TraceInfo(FAILURE, error), 0.0, None)

    return traced


_UNREACHABLE = (OSError, redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
"""What no link can provoke, unlike a refusal of the broker's: it says so of a queue whose name is another key's."""

unsent: Counter[str] = Counter()
"""Messages whose commands were settled, and whose callbacks, chains or chords failed, by task."""


class CommandTask(Task):
    """The class of every command's task: gathered by the consumer, settled in groups."""

    abstract = True
    Strategy = Gathering
    acks_late = True
    ignore_result = True


def put_off(message: Any, consumer: Any) -> bool:
    """Leave a message of an unknown contract to a newer worker; False: its contract is known here."""
    version = message.headers.get(contract.VERSION_HEADER)
    if version is None or str(version) == str(contract.VERSION):
        return False
    _alarm(str(message.headers.get("task"))[:80], str(version)[:40])
    tag, source = message.delivery_tag, message.channel
    consumer.timer.call_after(UNKNOWN_CONTRACT_WAIT_S, source.restore, ([tag],), {"at": "tail"})
    return True


_alarmed_at: dict[str, float] = {}


def _alarm(task: str, version: str) -> None:
    """Say so once a version and minute: such messages come round every few seconds until somebody acts."""
    if monotonic() - _alarmed_at.get(version, -ALARM_EVERY_S) < ALARM_EVERY_S:
        return
    if len(_alarmed_at) > MAX_ALARMS:
        _alarmed_at.clear()
    _alarmed_at[version] = monotonic()
    log.error(
        "ALARM: %a speaks contract %a, this worker speaks %d: update it; such messages go back to the queue",
        task,
        version,
        contract.VERSION,
    )


def is_plain(message: Any) -> bool:
    """Whether it is a message of a scheduled task as beat sends it: at once, without arguments."""
    try:
        args, fields, _ = orjson.loads(message.body)
    except (ValueError, TypeError):
        return False
    return (args, fields, message.headers.get("eta")) == ([], {}, None)


def bury(message: Any, flaw: str, consumer: Any) -> None:
    """Make a dead letter of a message that no strategy could take."""
    name = message.headers.get("task")
    delivery = read_delivery(message, name if isinstance(name, str) else contract.UNREADABLE_TASK)
    letter = dead_letter(delivery, Reason.MALFORMED, flaw)
    request = make_request(message, delivery, letter, consumer.app.tasks[contract.UNREADABLE_TASK])
    consumer.committer.answers.received(request)
    consumer.committer.put(request)


def make_request(message: Any, delivery: Delivery, item: Item, task: Task) -> Request:
    """Put together what is known of a message."""
    return Request(
        delivery=delivery,
        item=item,
        headers=message.headers,
        tag=message.delivery_tag,
        source=message.channel,
        task=task,
    )


def read_delivery(message: Any, task: str) -> Delivery:
    """Take from a message what the door needs."""
    headers = message.headers
    flaw = headers.get(FLAW_HEADER)
    if flaw is None and task != contract.UNREADABLE_TASK:
        flaw = _encoding_flaw(message)
    return Delivery(
        task=task,
        task_id=str(headers.get("id")),
        queue=str((message.delivery_info or {}).get("routing_key") or ""),
        body=message.body if isinstance(message.body, bytes) else str(message.body).encode("utf-8", "surrogatepass"),
        raw=message.raw,
        flaw=flaw,
    )


def _encoding_flaw(message: Any) -> str | None:
    if message.content_type != "application/json":
        return f"content type {message.content_type!r}: commands are application/json"
    if (message.content_encoding or "utf-8").lower() != "utf-8":
        return f"content encoding {message.content_encoding!r}: commands are UTF-8"
    return None


def _read_times(request: Request) -> str | None:
    """Read `expires` and refuse `eta`; give what is wrong with them."""
    try:
        expires = request.headers.get("expires")
        if expires is not None:
            request.expires = _moment(expires)
        eta = request.headers.get("eta")
        if eta is not None and _moment(eta) > datetime.now(UTC):
            return "eta: a command is decided when it is read; what shall wait belongs in a schedule, not in the queue"
    except (TypeError, ValueError) as error:
        return f"expires or eta: {error}"
    return None


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
