"""Scheduled work, on a queue of its own: plain Celery tasks, run by the pool when beat says so."""

import logging

from celery import shared_task

from worker.engine.expiry import expire_overdue
from worker.engine.settle import Settlement
from worker.reading.verify import verify
from worker.settings import Settings, engine_of_this_process, urls

log = logging.getLogger(__name__)


@shared_task(name="upkeep.expire_holds")
def expire_holds() -> int:
    """Expire the holds that are overdue, and count them."""
    return expire_overdue(Settlement(engine_of_this_process()))


@shared_task(name="upkeep.verify", ignore_result=False)
def verify_books() -> dict[str, object]:
    """Prove the books, and give the verdict as `equipoise verify --json` prints it."""
    verdict = verify(urls(Settings()).database_url)
    if not verdict.sound:
        log.critical("the books do not balance: %s", verdict.faults[0])
    return verdict.as_json()
