"""A worker killed at any point of a command's way leaves one effect, and one outcome, behind."""

import json
from time import time

import pytest

from tests.worker.conftest import OpenBooks
from tests.worker.site import POOLS, VISIBILITY_S, Site, message, new_id, post
from worker.engine.crash import POINTS

REDELIVERED_WITHIN_S = VISIBILITY_S + 2
"""The promise: the visibility timeout, and two seconds for the sweep and the group."""


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("point", POINTS)
def test_a_command_survives_the_worker_that_had_it(site: Site, open_books: OpenBooks, point: str, pool: str) -> None:
    _, (source, destination) = open_books()
    armed = {"EQUIPOISE_TEST_CRASH_AT": point, "EQUIPOISE_TEST_CRASH_DIR": str(site.folder)}
    workers = [site.worker(pool=pool, **armed), site.worker(pool=pool, **armed)]
    for worker in workers:
        worker.ready()
    command, task_id = post(source, destination, 7), new_id()

    site.push(message("transfers.post", command, id=task_id, ignore_result=False))

    site.wait((site.folder / point).exists)
    killed_at = time()
    site.wait(lambda: [worker.alive for worker in workers].count(False) == 1)
    site.wait_drained()
    recovered_s = time() - killed_at
    print(f"{point}, {pool}: settled {recovered_s:.1f} s after the kill")
    assert recovered_s < REDELIVERED_WITHIN_S
    assert site.transfers() == site.decided([command["id"]]) == 1
    assert site.dead_letters() == []
    assert site.books_balance()
    told = json.loads(site.redis.get(f"celery-task-meta-{task_id}"))
    assert told["status"] == "SUCCESS"
    assert json.dumps(told["result"]) == json.dumps(site.call("transfers.post", **command))
    assert [worker.process.returncode for worker in workers if not worker.alive] == [-9]
