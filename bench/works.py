"""Equipoise's own works: fill the queue, let a worker that is up drain it, check the books.

The worker is the real one, started as `celery --app worker.app worker`, results and events off, its database
and its queue fresh each time. Time runs from the moment the queue appears (one RENAME) until nothing is left
of it, so the worker's start is not in it.
"""

import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count as counted
from pathlib import Path
from random import Random
from typing import IO, Any
from uuid import UUID

import orjson
from celery import Celery
from sqlalchemy import Engine, create_engine, make_url, text

from bench.naive.run import NotDrainedError
from models.commands import OpenAccount, OpenLedger
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine, psycopg_url
from worker.postgres.migrate import migrate
from worker.proving.verify import verify

ROOT = Path(__file__).parents[1]
ACCOUNTS = 1_000
DATABASE = "equipoise_bench"
START_MS = 1_790_000_000_000  # in September 2026, when the first of the time-ordered ids was made
STALLED_AFTER_S = 60.0
POLL_S = 0.005  # two commands to the broker: nothing beside what a group costs

Command = dict[str, object]


def measure(
    database_url: str, broker_url: str, count: int, *, batch: int = 1, hot: bool = False, time_ordered: bool = True
) -> float:
    """Give transfers a second through the queue, `batch` to a message, every one of them applied and proved.

    Commands have the ids that docs/commands.md recommends, UUIDv7, unless `time_ordered` is false: then UUIDv4.
    """
    dice = Random(f"{count} {batch} {hot}")
    url = _fresh_database(database_url)
    accounts = _open_accounts(url, dice)
    ids = _ids_of_7(dice) if time_ordered else iter(lambda: _id(dice), None)
    commands = [_transfer(next(ids), accounts, dice, hot=hot) for _ in range(count)]
    messages = [_message(commands[place : place + batch], dice) for place in range(0, count, batch)]
    redis = Celery("filler", broker=broker_url, set_as_current=False).connection_for_write().channel().client
    redis.flushdb()
    for place in range(0, len(messages), 500):
        redis.lpush("filled", *messages[place : place + 500])
    with tempfile.TemporaryFile() as log:
        try:
            with _worker(url, broker_url, log):
                began = time.monotonic()
                redis.rename("filled", "commands")
                # Both in one step: a message that comes back from a claim is in neither if they are asked in turn.
                _until(lambda: not any(redis.pipeline().llen("commands").hlen("unacked_claims").execute()))
                seconds = time.monotonic() - began
        except NotDrainedError as error:
            log.seek(0)
            error.add_note(log.read().decode(errors="replace")[-4_000:])
            raise
    verdict = verify(url)
    assert verdict.sound, verdict.faults
    assert verdict.transfers == count, f"{verdict.transfers} of {count} transfers were applied"
    return count / seconds


def _fresh_database(database_url: str) -> str:
    server: Engine = create_engine(psycopg_url(database_url), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {DATABASE}"))
    server.dispose()
    url = make_url(database_url).set(database=DATABASE).render_as_string(hide_password=False)
    migrate(url)
    return url


def _open_accounts(url: str, dice: Random) -> list[str]:
    engine = committing_engine(url)
    settle = Settlement(engine)
    accounts = [_id(dice) for _ in range(ACCOUNTS)]
    settle([OpenLedger(id=_id(dice), ledger="bench", currency="EUR", scale=2)])
    settle([OpenAccount(id=_id(dice), account_id=id, ledger="bench", min_balance=None) for id in accounts])
    engine.dispose()
    return accounts


def _transfer(id: str, accounts: list[str], dice: Random, *, hot: bool) -> Command:
    source, destination = dice.sample(accounts, 2)
    if hot:
        source, destination = accounts[0], dice.choice(accounts[1:])
    return {"id": id, "source_id": source, "destination_id": destination, "amount": dice.randint(1, 10_000)}


def _message(commands: list[Command], dice: Random) -> bytes:
    """Make the message that Celery's producer would have made, as it lies in Redis."""
    task, fields = "transfers.post", commands[0]
    if len(commands) > 1:
        task = "batch"
        fields = {"id": _id(dice), "commands": [{"type": "transfers.post"} | command for command in commands]}
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    headers = {
        "lang": "py",
        "task": task,
        "id": _id(dice),
        "root_id": None,
        "parent_id": None,
        "group": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": "bench",
        "ignore_result": True,
    }
    properties: dict[str, Any] = {
        "correlation_id": headers["id"],
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "commands"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": _id(dice),
    }
    return orjson.dumps(
        {
            "body": b64encode(orjson.dumps([[], fields, embed])).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )


def _id(dice: Random) -> str:
    return str(UUID(int=dice.getrandbits(128), version=4))


def _ids_of_7(dice: Random) -> Iterator[str]:
    """Give UUIDv7s (RFC 9562) of one moment after the other, 16 a millisecond: about what a worker takes."""
    for place in counted(START_MS * 16):
        yield str(UUID(int=place // 16 << 80 | 7 << 76 | dice.getrandbits(12) << 64 | 2 << 62 | dice.getrandbits(62)))


@contextmanager
def _worker(database_url: str, broker_url: str, log: IO[bytes]) -> Iterator[None]:
    """Run the worker; give control once it says that it is ready."""
    command = [sys.executable, "-P", "-m", "celery", "--app", "worker.app", "worker", "--loglevel", "INFO"]
    addresses = {
        "EQUIPOISE_DATABASE_URL": database_url,
        "EQUIPOISE_BROKER_URL": broker_url,
        "EQUIPOISE_RESULT_URL": "cache+memory://",
        "PYTHONPATH": str(ROOT),
    }
    worker = subprocess.Popen(
        [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"],
        cwd=ROOT,
        env=os.environ | addresses,
        stdout=log,
        stderr=subprocess.STDOUT,
    )

    def is_ready() -> bool:
        if worker.poll() is not None:
            raise NotDrainedError(f"the worker ended with {worker.returncode}")
        log.seek(0)
        return b" ready." in log.read()

    try:
        _until(is_ready)
        yield
    finally:
        worker.terminate()
        worker.wait()


def _until(fact: Callable[[], bool]) -> None:
    """Wait for a fact, in small steps, for a bounded time."""
    gives_up = time.monotonic() + STALLED_AFTER_S
    while not fact():
        if time.monotonic() > gives_up:
            raise NotDrainedError(f"not so after {STALLED_AFTER_S:g} s")
        time.sleep(POLL_S)
