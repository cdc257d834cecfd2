"""While PostgreSQL or Redis is away, messages wait; then each is decided once, and nobody was buried meanwhile."""

import os
import random
import signal
from threading import Event, Thread
from time import monotonic

import pytest
import redis

from tests.worker.conftest import OpenBooks
from tests.worker.site import POOLS, Site, message, post

LOAD = 3_000


def load(accounts: list[str], count: int = LOAD) -> dict[str, bytes]:
    """Make messages by command id."""
    commands = [post(*random.sample(accounts, 2)) for _ in range(count)]
    return {command["id"]: message("transfers.post", command) for command in commands}


def all_decided_once(site: Site, sent: dict[str, bytes]) -> None:
    site.wait_decided(sent, within_s=120)
    site.wait_drained(within_s=120)
    assert site.transfers() == len(sent)
    assert site.dead_letters() == []
    assert site.books_balance()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("way", ["kill", pytest.param("stop", marks=pytest.mark.long)])
def test_an_outage_of_postgresql_makes_messages_wait(site: Site, open_books: OpenBooks, way: str, pool: str) -> None:
    _, accounts = open_books(50)
    worker = site.worker(pool=pool).ready()
    sent = load(accounts)
    site.push(*sent.values())
    site.wait(lambda: site.transfers() > 0)

    getattr(site.stack.postgres, way)()
    try:
        more = load(accounts, 500)
        site.push(*more.values())
        # Two looks at a database that is not there, and everything waits in its queue.
        site.wait(lambda: "everything goes back to the queue" in worker.log)
        site.wait(lambda: site.waiting() >= len(more))
    finally:
        site.stack.postgres.start()

    began = monotonic()
    all_decided_once(site, sent | more)
    print(f"PostgreSQL ({way}, {pool}): all decided {monotonic() - began:.1f} s after it was back")
    assert worker.alive
    assert site.call("transfers.post", **post(*accounts[:2]))["status"] == "applied"


@pytest.mark.parametrize(
    ("breaks", "mends"),
    [
        ("ALTER TABLE equipoise.inbox RENAME TO hidden", "ALTER TABLE equipoise.hidden RENAME TO inbox"),
        (
            "REVOKE INSERT ON equipoise.transfers FROM equipoise_worker",
            "GRANT INSERT ON equipoise.transfers TO equipoise_worker",
        ),
    ],
    ids=["a missing table", "a missing right"],
)
def test_a_broken_deployment_is_an_outage(site: Site, open_books: OpenBooks, breaks: str, mends: str) -> None:
    _, accounts = open_books(10)
    worker = site.worker().ready()
    sent = load(accounts, 200)
    with site.session() as session:
        session.execute(breaks.encode())
        site.push(*sent.values())
        site.wait(lambda: worker.log.count("everything goes back to the queue") >= 2)
        assert site.value("SELECT count(*) FROM equipoise.dead_letters") == 0
        session.execute(mends.encode())

    all_decided_once(site, sent)
    assert worker.alive


@pytest.mark.parametrize("pool", POOLS)
def test_restarts_of_redis_lose_nothing(site: Site, open_books: OpenBooks, pool: str) -> None:
    _, accounts = open_books(50)
    worker = site.worker(pool=pool).ready()
    sent = load(accounts, 6_000)
    site.push(*sent.values())
    site.wait(lambda: site.transfers() > 0)

    site.stack.valkey.restart()

    all_decided_once(site, sent)
    assert worker.alive
    assert site.call("transfers.post", **post(*accounts[:2]))["status"] == "applied"


def kills_under_load(site: Site, accounts: list[str], worker_kills: int, redis_kills: int) -> None:
    """Keep two workers under load while one of them or Redis is killed; then count what was lost."""
    kills = ["worker"] * worker_kills + ["redis"] * redis_kills
    random.Random(22).shuffle(kills)
    sent: dict[str, bytes] = {}
    workers = [site.worker(), site.worker()]
    for worker in workers:
        worker.ready()
    producer = Producer(site, accounts, sent)
    producer.start()
    for number, kill in enumerate(kills):
        done = site.transfers()
        site.wait(lambda done=done: site.transfers() > done + 100)
        if kill == "redis":
            assert site.stack.valkey.pid is not None
            os.kill(site.stack.valkey.pid, signal.SIGKILL)
            site.stack.valkey.restart()
        else:
            workers[number % 2].kill()
            workers[number % 2] = site.worker().ready()
    producer.stop()
    all_decided_once(site, sent)
    print(f"{worker_kills} kills of a worker, {redis_kills} of Redis: {len(sent)} sent, 0 lost")
    assert all(worker.alive for worker in workers)


class Producer(Thread):
    """Sends while others are killed; what Redis did not answer for is sent again, as any producer would."""

    def __init__(self, site: Site, accounts: list[str], sent: dict[str, bytes]) -> None:
        super().__init__(name="producer")
        self._site, self._accounts, self._sent = site, accounts, sent
        self._enough = Event()

    def stop(self) -> None:
        self._enough.set()
        self.join()

    def run(self) -> None:
        # 400 a second is under the rate of one worker, so that the last command is soon decided.
        while not self._enough.wait(0.05):
            some = load(self._accounts, 20)
            while not self._pushed(some):
                self._enough.wait(0.05)
            self._sent |= some

    def _pushed(self, messages: dict[str, bytes]) -> bool:
        try:
            self._site.push(*messages.values())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        return True


def test_kills_under_load_lose_nothing(site: Site, open_books: OpenBooks) -> None:
    _, accounts = open_books(50)

    kills_under_load(site, accounts, worker_kills=3, redis_kills=2)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_many_kills_under_load_lose_nothing(site: Site, open_books: OpenBooks) -> None:
    _, accounts = open_books(50)

    kills_under_load(site, accounts, worker_kills=30, redis_kills=10)
