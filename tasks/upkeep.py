"""Scheduled work, on a queue of its own: plain Celery tasks, run by the pool when beat says so."""

import logging

from celery import shared_task

from worker.engine.expiry import expire_overdue
from worker.engine.settle import Settlement
from worker.proving import checkpoints, keys
from worker.proving.verify import verify
from worker.reading.reader import reader
from worker.settings import Settings, engine_of_this_process, urls

log = logging.getLogger(__name__)


@shared_task(name="upkeep.expire_holds")
def expire_holds() -> int:
    """Expire the holds that are overdue, and count them."""
    return expire_overdue(Settlement(engine_of_this_process()))


@shared_task(name="upkeep.verify", ignore_result=False)
def verify_books() -> dict[str, object]:
    """Prove the books, and give the verdict as `equipoise verify --json` prints it."""
    settings = Settings()
    kept = settings.checkpoints
    past = None
    if kept is not None and kept.file.exists():
        past = checkpoints.read_file(kept.file, keys.public_path(kept.key_file))
    verdict = verify(urls(settings).database_url, past=past)
    if not verdict.sound:
        log.critical("the books are not sound: %s", verdict.faults[0])
    return verdict.as_json()


@shared_task(name="upkeep.checkpoint")
def checkpoint_books() -> bool:
    """Write a signed checkpoint to the end of its file, and say whether there is such a file."""
    settings = Settings()
    kept = settings.checkpoints
    if kept is None:
        log.info("no checkpoint is made: EQUIPOISE_CHECKPOINT_FILE names no file")
        return False
    with reader(urls(settings).database_url) as engine:
        checkpoints.append(engine, keys.signing_key(kept.key_file), kept.file)
    return True
