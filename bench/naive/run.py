"""Measure the naive worker: fill its queue, start it, and time it until every transfer has moved its cent.

`python -m bench.naive.run DATABASE_URL BROKER_URL` prints the rates; `bench.run` puts them beside ours. The broker's
database must be the naive worker's own, since stock kombu keeps what is unacknowledged under one name for all queues.
Everything waits for facts: what the broker still holds, and balances that equal those worked out beforehand.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import IO, Any, Self

from celery import Celery
from sqlmodel import Session, col, create_engine, insert, select, text

from bench.naive.worker import QUEUE, SCHEMA, User
from bench.naive.worker import app as worker_app
from bench.naive.worker import transfer as transfer_task

ROOT = Path(__file__).parents[2]
USERS = 1_000
FIRST_BALANCE = 1_000_000  # more than any user can send, so that no transfer is refused
HOT_USER = 1
STALLED_AFTER_S = 60.0  # the task's own patience with conflicts
STOPPED_AFTER_S = 30.0
POLL_S = 0.01  # two commands to the broker: nothing beside the hundreds a second that the worker itself sends

Transfer = tuple[int, int]  # who sends a cent to whom


@dataclass(frozen=True, slots=True)
class Pool:
    """A way to run Celery's worker."""

    name: str
    concurrency: int

    def __str__(self) -> str:
        return self.name if self.name == "solo" else f"{self.name} {self.concurrency}"


POOLS = (Pool("solo", 1), Pool("prefork", 2), Pool("prefork", 8))


def create_tables(database_url: str) -> None:
    """Create the schema anew, with its users; ANALYZE, since small tables unknown to the planner are locked whole."""
    engine = create_engine(database_url)
    users = [{"id": n, "username": f"user {n}", "balance": FIRST_BALANCE} for n in range(1, USERS + 1)]
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        User.metadata.create_all(connection)
        connection.execute(insert(User), users)
        connection.execute(text(f'ANALYZE {SCHEMA}."user"'))
    engine.dispose()


def draw_transfers(count: int, *, hot: bool) -> list[Transfer]:
    """Draw who sends to whom; when hot, each transfer has the hot user on one of its sides."""
    dice = Random(count)
    transfers: list[Transfer] = []
    for n in range(count):
        one, other = dice.sample(range(2 if hot else 1, USERS + 1), 2)
        transfers.append(((HOT_USER, other) if n % 2 else (one, HOT_USER)) if hot else (one, other))
    return transfers


def balances_after(transfers: list[Transfer]) -> dict[int, int]:
    moved: Counter[int] = Counter()
    for sender, receiver in transfers:
        moved[sender] -= 1
        moved[receiver] += 1
    return {user_id: FIRST_BALANCE + moved[user_id] for user_id in range(1, USERS + 1)}


def read_balances(database_url: str) -> dict[int, int]:
    engine = create_engine(database_url)
    with Session(engine) as session:
        balances = dict(session.exec(select(User.id, User.balance).order_by(col(User.id))).all())
    engine.dispose()
    return balances


class Broker:
    """The naive worker's broker, seen from outside: fills the queue, and counts what is not yet acknowledged."""

    def __init__(self, url: str) -> None:
        self.app = Celery("filler", broker=url, set_as_current=False)
        self.app.conf.update(worker_app.conf.changes)
        self.app.conf.broker_url = url
        self.connection: Any = self.app.connection_for_write()

    def __enter__(self) -> Self:
        self.redis = self.connection.default_channel.client
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.release()

    def fill(self, transfers: list[Transfer]) -> None:
        self.redis.delete(QUEUE, "unacked", "unacked_index")
        with self.connection.Producer() as producer, producer.batch():
            for sender, receiver in transfers:
                self.app.send_task(transfer_task.name, (sender, receiver, 1), queue=QUEUE, producer=producer)

    def held(self) -> int:
        """Count the messages that wait or are being worked on."""
        waiting, unacknowledged = self.redis.pipeline().llen(QUEUE).hlen("unacked").execute()
        return int(waiting + unacknowledged)


@contextmanager
def running_worker(database_url: str, broker_url: str, pool: Pool, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker in a process group of its own, so that its children end with it."""
    command = [sys.executable, "-m", "celery", "-A", "bench.naive.worker", "worker", "--loglevel", "WARNING"]
    command += ["--pool", pool.name, "--concurrency", str(pool.concurrency)]
    environment = os.environ | {"NAIVE_DATABASE_URL": database_url, "NAIVE_BROKER_URL": broker_url}
    if os.geteuid() == 0:
        environment |= {"C_FORCE_ROOT": "1"}  # else Celery warns of pickle, which is not accepted here anyway
    worker = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield worker
    finally:
        worker.terminate()
        try:
            worker.wait(STOPPED_AFTER_S)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def measure(database_url: str, broker_url: str, pool: Pool, count: int, *, hot: bool = False) -> float:
    """Return transfers a second, having checked that each of the `count` was applied once.

    The first tenth is not timed: workers begin one after the other, and each connects at its first transfer.
    """
    transfers = draw_transfers(count, hot=hot)
    create_tables(database_url)
    with Broker(broker_url) as broker, tempfile.TemporaryFile() as log:
        broker.fill(transfers)
        assert broker.held() == count
        with running_worker(database_url, broker_url, pool, log) as worker:
            try:
                return time_drain(broker, worker, count, lambda: read_balances(database_url), balances_after(transfers))
            except NotDrainedError as error:
                log.seek(0)
                error.add_note(log.read().decode(errors="replace")[-4_000:])
                raise


class NotDrainedError(Exception):
    """The worker died, stalled, or moved money that it should not have."""


def time_drain(
    broker: Broker,
    worker: subprocess.Popen[bytes],
    count: int,
    read: Callable[[], dict[int, int]],
    balances: dict[int, int],
) -> float:
    """Watch until the queue is empty and the balances are right; return the rate of the last nine tenths."""
    began, began_at_held, held, moved_at = 0.0, 0, count, time.monotonic()
    while True:
        now_held, now = broker.held(), time.monotonic()
        if now_held < held:
            held, moved_at = now_held, now
            if not began and held <= count * 9 // 10:
                began, began_at_held = now, held
        if held == 0 and read() == balances:
            return began_at_held / (moved_at - began)
        if worker.poll() is not None:
            raise NotDrainedError(f"the worker ended with {worker.returncode}, {held} of {count} messages left")
        if now - moved_at > STALLED_AFTER_S:
            raise NotDrainedError(f"no message in {STALLED_AFTER_S:g} s, {held} of {count} left, or balances are wrong")
        time.sleep(POLL_S)


def main(database_url: str, broker_url: str) -> None:
    for hot, count in ((False, 3_000), (True, 500)):
        for pool in POOLS:
            rate = measure(database_url, broker_url, pool, count, hot=hot)
            print(f"{'hot' if hot else 'spread':6}  {pool!s:9}  {rate:7,.0f} transfers/s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
