"""A site of a test's own: servers that it may break, a fresh database, real workers, and the facts to wait for."""

import json
import os
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import psycopg
import pytest
import redis
from celery import Celery
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url

from tests.broker.server import die_with_owner
from tests.waiting import wait_until
from worker.postgres.migrate import migrate
from worker.stack.stack import Stack

ROOT = Path(__file__).parents[2]
TEMPLATE = "migrated"
VISIBILITY_S = 3.0
"""Short, so that a test sees a redelivery soon; three times the interval at which overdue claims are looked for."""

READY_WITHIN_S = 60.0
SETTLED_WITHIN_S = 60.0
"""Bounds of waiting, not promises of speed: the machine may be busy with other things."""

POOLS = ["threads", pytest.param("solo", marks=pytest.mark.long)]
"""Pools to run a test with. Threads are what the settings say; solo is as good, and tried in the long runs."""

Fields = dict[str, Any]


def new_id() -> str:
    return str(uuid4())


def message(task: str, fields: Fields, *, embed: Fields | None = None, **headers: Any) -> bytes:
    """Make a message as a stock producer leaves it in Redis; headers may be changed."""
    links = {"callbacks": None, "errbacks": None, "chain": None, "chord": None} | (embed or {})
    return envelope(json.dumps([[], fields, links]).encode(), {"task": task} | headers)


def envelope(body: bytes, headers: Fields, **changes: Any) -> bytes:
    """Wrap a body that may be anything at all."""
    id = headers.get("id") or new_id()
    usual = {"lang": "py", "id": id, "root_id": id, "parent_id": None, "group": None, "retries": 0, "eta": None}
    usual |= {"expires": None, "ignore_result": True, "timelimit": [None, None], "argsrepr": "()", "kwargsrepr": "{}"}
    properties = {"correlation_id": id, "delivery_mode": 2, "priority": 0, "body_encoding": "base64"}
    properties |= {"delivery_info": {"exchange": "", "routing_key": "commands"}, "delivery_tag": new_id()}
    whole = {"body": b64encode(body).decode(), "content-encoding": "utf-8", "content-type": "application/json"}
    return json.dumps(whole | {"headers": usual | headers, "properties": properties} | changes).encode()


class Worker:
    """A real worker in a process of its own, and its log."""

    def __init__(self, number: int, log: Path, arguments: Iterable[str], environment: dict[str, str]) -> None:
        self.name = f"w{number}@test"
        self.log_path = log
        command = [sys.executable, "-P", "-m", "celery", "--app", "worker.app", "worker", "--loglevel", "INFO"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--hostname", self.name, "--without-gossip", "--without-mingle", *arguments],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_owner,  # prctl takes no lock that a thread of ours could hold
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ready(self) -> Self:
        def is_ready() -> bool:
            assert self.alive, self.log
            return " ready." in self.log

        wait_until(is_ready, READY_WITHIN_S)
        return self

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask for a warm shutdown; give the exit status."""
        self.process.terminate()
        return self.process.wait(READY_WITHIN_S)


class Site:
    """One database and one empty broker, with workers that are gone when the test is."""

    def __init__(self, stack: Stack, database: str, folder: Path) -> None:
        self.stack = stack
        self.database_url = make_url(stack.database_url).set(database=database).render_as_string(hide_password=False)
        self.result_url = stack.result_url
        self.folder = folder
        self.redis = redis.Redis.from_url(stack.valkey.client_url, retry=Retry(NoBackoff(), 0))
        self.producer = Celery("producer", broker=stack.broker_url, backend=stack.result_url, set_as_current=False)
        self.producer.conf.update(task_default_queue="commands", result_expires=600)
        self.connection = self.producer.connection_for_write()
        self._workers: list[Worker] = []
        self.environment = {
            "EQUIPOISE_DATABASE_URL": self.database_url,
            "EQUIPOISE_BROKER_URL": stack.broker_url,
            "EQUIPOISE_RESULT_URL": stack.result_url,
            "EQUIPOISE_VISIBILITY_TIMEOUT_S": str(VISIBILITY_S),
            "PYTHONPATH": str(ROOT),
        }

    def worker(self, *arguments: str, pool: str = "threads", **environment: str) -> Worker:
        """Start a worker; it is not waited for."""
        number = len(self._workers)
        log = self.folder / f"worker-{number}.log"
        worker = Worker(number, log, ["--pool", pool, *arguments], self.environment | environment)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            if worker.alive:
                worker.kill()
        self.connection.close()
        self.producer.close()
        self.redis.close()

    # What a producer does.

    def push(self, *messages: bytes, queue: str = "commands") -> None:
        for place in range(0, len(messages), 500):
            self.redis.lpush(queue, *messages[place : place + 500])

    def call(self, task: str, **fields: Any) -> Any:
        """Send a command as any Celery producer does, and give its outcome; raises what Celery raises."""
        return self.send(task, **fields).get(timeout=SETTLED_WITHIN_S)

    def send(self, task: str, *, options: Fields | None = None, **fields: Any) -> Any:
        return self.producer.send_task(task, kwargs=fields, **({"ignore_result": False} | (options or {})))

    def revoke(self, task_id: str) -> None:
        """Tell the worker, of which there is one, to revoke a message; return when it knows."""
        revoked = self.producer.control.revoke(task_id, reply=True, limit=1, timeout=10, connection=self.connection)
        assert revoked and "ok" in str(revoked[0]), revoked

    # What can be seen from outside.

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection[Any]]:
        """A session of the superuser's, each statement a transaction unless `transaction()` says otherwise."""
        url = make_url(self.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.session() as session:
            return session.execute(query.encode(), values).fetchall()

    def value(self, query: str, *values: Any) -> Any:
        return self.rows(query, *values)[0][0]

    def transfers(self) -> int:
        return int(self.value("SELECT count(*) FROM equipoise.transfers"))

    def decided(self, ids: Iterable[str]) -> int:
        return int(self.value("SELECT count(*) FROM equipoise.inbox WHERE id = ANY (%s::uuid[])", list(ids)))

    def dead_letters(self) -> list[tuple[str, str]]:
        """Give reason and detail of each."""
        return [(reason, detail) for reason, detail in self.rows("SELECT reason, detail FROM equipoise.dead_letters")]

    def waiting(self) -> int:
        return int(self.redis.llen("commands"))

    def claimed(self) -> int:
        return int(self.redis.hlen("unacked_claims"))

    def drained(self) -> bool:
        """Whether nothing waits and nothing is claimed, at one moment: a message may go back between two looks."""
        with self.redis.pipeline(transaction=True) as both:
            return both.llen("commands").hlen("unacked_claims").execute() == [0, 0]

    def wait(self, fact: Callable[[], Any], within_s: float = SETTLED_WITHIN_S) -> Any:
        """Wait for a fact while every worker that should live does."""
        try:
            return wait_until(fact, within_s)
        except AssertionError as error:
            for worker in self._workers:
                error.add_note(f"--- {worker.name}, status {worker.process.poll()}\n{worker.log[-4_000:]}")
            error.add_note(f"{self.waiting()} waiting, {self.claimed()} claimed")
            raise

    def wait_decided(self, ids: Iterable[str], within_s: float = SETTLED_WITHIN_S) -> None:
        ids = list(ids)
        self.wait(lambda: self.decided(ids) == len(ids), within_s)

    def wait_drained(self, within_s: float = SETTLED_WITHIN_S) -> None:
        self.wait(self.drained, within_s)

    def books_balance(self) -> bool:
        """Whether what the accounts hold is what the transfers moved, and no money was made or lost."""
        moved = "SELECT coalesce(sum(amount), 0) FROM equipoise.transfers WHERE"
        wrong = self.value(
            f"""
            SELECT count(*) FROM equipoise.accounts a
            WHERE a.credits_posted <> ({moved} destination_id = a.id) OR a.debits_posted <> ({moved} source_id = a.id)
            """
        )
        total = self.value("SELECT coalesce(sum(credits_posted - debits_posted), 0) FROM equipoise.accounts")
        gaps = self.value("SELECT count(*) FROM equipoise.ledgers l WHERE sequence <> "
                          "(SELECT count(*) FROM equipoise.transfers t WHERE t.ledger = l.number)")  # fmt: skip
        return (wrong, total, gaps) == (0, 0, 0)


def settle(site: Site, *items: Any) -> list[Any]:
    """Settle in this process, as no worker is up yet."""
    from worker.engine.settle import Settlement
    from worker.postgres.engines import committing_engine

    engine = committing_engine(site.database_url)
    try:
        return list(Settlement(engine)(items))
    finally:
        engine.dispose()


def post(source_id: str, destination_id: str, amount: int = 1, **fields: Any) -> Fields:
    """Make a transfer's fields, with an id of its own."""
    return {"id": new_id(), "source_id": source_id, "destination_id": destination_id, "amount": amount} | fields


@contextmanager
def own_stack(folder: Path) -> Iterator[Stack]:
    """A stack with a migrated database `migrated`, to be copied; nothing that Redis has answered is ever lost."""
    with Stack(folder, appendfsync="always") as stack:
        _administer(stack, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        migrate(make_url(stack.database_url).set(database=TEMPLATE).render_as_string(hide_password=False))
        yield stack


@contextmanager
def own_site(stack: Stack, folder: Path) -> Iterator[Site]:
    """A site with a copy of the migrated database, and nothing in the broker."""
    name = f"test_{uuid4().hex}"
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
    _administer(stack, copy)
    site = Site(stack, name, folder)
    site.redis.flushall()
    try:
        yield site
    finally:
        site.close()
        _administer(stack, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _administer(stack: Stack, statement: sql.Composed) -> None:
    url = make_url(stack.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
