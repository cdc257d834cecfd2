"""Settle one command in the calling thread: what a task does when it is called as a plain function.

Celery calls it so for messages with callbacks, chains or chords; a test or a shell may too. It is the same
door and the same settlement, with a group of one.
"""

import logging
from time import sleep
from typing import Any

import orjson
from celery import current_task
from celery.exceptions import Reject

from models.dead_letters import DeadLetter
from models.outcomes import Outcome
from worker.engine.decide import Item
from worker.engine.settle import Settlement
from worker.intake.door import Delivery, Malformed, judge
from worker.intake.strategy import ITEM_HEADER
from worker.settings import engine_of_this_process

log = logging.getLogger(__name__)


PAUSE_S = 1.0
"""What a message waits here before it goes back: it may be claimed again at once."""


def settle_now(task: str, fields: dict[str, Any]) -> Outcome:
    """Settle one command and give its outcome.

    Raises Malformed where it breaks the contract (it is then a dead letter). As a Celery message it goes back to its
    queue, by Reject, whatever else is wrong: Celery would drop what raised.
    """
    request = current_task.request if current_task else None
    if request is None or not request.id:
        return _settle(_judged(task, "direct", fields))
    item = request.get(ITEM_HEADER) or _judged(task, str(request.id), fields)
    try:
        return _settle(item)
    except Malformed:
        raise
    except Exception as error:
        log.exception("%s[%s] goes back to its queue", task, request.id)
        sleep(PAUSE_S)
        raise Reject(error, requeue=True) from error


def _judged(task: str, task_id: str, fields: dict[str, Any]) -> Item:
    body = orjson.dumps([[], fields, {}])
    return judge(Delivery(task, task_id, queue="", body=body, raw=body + task_id.encode())).item


def _settle(item: Item) -> Outcome:
    outcome = Settlement(engine_of_this_process())([item])[0]
    if isinstance(item, DeadLetter):
        raise Malformed(item.detail)
    return outcome
