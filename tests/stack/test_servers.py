"""Each server alone: what accepts its URL, and how it is killed and restarted in place while the other runs on."""

import os
import signal
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.connection import Connection
from sqlalchemy import create_engine, text

from tests.stack.owners import connect, inhabitants
from tests.stack.test_death import BUSY
from tests.waiting import wait_until
from worker.stack.process import StackError
from worker.stack.stack import Stack, running_stack
from worker.stack.valkey import Valkey


def test_sqlalchemy_takes_the_database_url(stack: Stack) -> None:
    engine = create_engine(stack.database_url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT current_database()")).scalar_one()
    engine.dispose()

    assert found == "equipoise"


def test_kombu_celery_and_redis_take_the_urls_of_the_socket(stack: Stack) -> None:
    assert send_and_ask(stack.valkey) == (1, "applied")


def test_kombu_celery_and_redis_take_the_urls_of_a_port(folder: Path) -> None:
    with Stack(folder, valkey_port=0) as stack:
        assert send_and_ask(stack.valkey) == (1, "applied")


def send_and_ask(valkey: Valkey) -> tuple[int, str]:
    """Send a message, and store a result; return how many messages redis-py sees, and the result Celery reads."""
    with Connection(valkey.broker_url) as connection, connection.SimpleQueue("accepted") as queue:  # type: ignore[no-untyped-call]
        queue.put({"amount": 7})
    backend = Celery(broker=valkey.broker_url, backend=valkey.result_url).backend
    with redis.Redis.from_url(valkey.client_url) as client:
        client.set("result", "applied")
        return client.llen("accepted"), backend.get("result").decode()


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_valkey_comes_back_in_place_with_what_it_had(stack: Stack, end: str) -> None:
    with redis.Redis.from_url(stack.valkey.client_url) as client:
        client.set("kept", "before")
        postgres_pid, broker_url = stack.postgres.pid, stack.broker_url

        getattr(stack.valkey, end)()
        assert stack.valkey.pid is None
        assert inhabitants(stack.folder / "valkey") == []
        stack.valkey.start()

        assert client.get("kept") == b"before"
    assert (stack.postgres.pid, stack.broker_url) == (postgres_pid, broker_url)
    running = running_stack(stack.folder)
    assert running is not None
    assert running.valkey_pid == stack.valkey.pid


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_postgres_comes_back_in_place_with_what_it_had(stack: Stack, end: str) -> None:
    with connect(stack.database_url) as connection:
        connection.execute(f"CREATE TABLE kept_by_{end} AS SELECT 7 AS amount")
    busy = connect(stack.database_url)
    busy.pgconn.send_query(BUSY)
    valkey_pid, database_url = stack.valkey.pid, stack.database_url

    getattr(stack.postgres, end)()
    assert stack.postgres.pid is None
    assert inhabitants(stack.folder / "postgres") == []
    stack.postgres.start()

    with connect(stack.database_url) as connection:
        assert connection.execute(f"SELECT amount FROM kept_by_{end}").fetchone() == (7,)
    assert (stack.valkey.pid, stack.database_url) == (valkey_pid, database_url)
    running = running_stack(stack.folder)
    assert running is not None
    assert running.postgres_pid == stack.postgres.pid
    busy.close()


def test_a_restart_replaces_the_process(stack: Stack) -> None:
    before = (stack.postgres.pid, stack.valkey.pid)

    stack.postgres.restart()
    stack.valkey.restart()

    assert set(before).isdisjoint({stack.postgres.pid, stack.valkey.pid, None})


def test_servers_that_somebody_else_killed_can_be_started_again(stack: Stack) -> None:
    for server in (stack.postgres, stack.valkey):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: server.pid is None, what="the server is gone")  # noqa: B023

        server.start()

        assert server.pid is not None


def test_a_running_server_is_not_started_twice(stack: Stack) -> None:
    with pytest.raises(StackError, match=f"running already, as process {stack.valkey.pid}"):
        stack.valkey.start()


def test_a_stale_pid_file_that_names_a_living_process_keeps_nobody_from_starting(stack: Stack) -> None:
    stack.postgres.kill()
    stale = stack.folder / "postgres" / "postmaster.pid"
    lines = stale.read_text().splitlines(keepends=True)
    stale.write_text("".join([f"{stack.valkey.pid}\n", *lines[1:]]))

    stack.postgres.start()

    assert stack.postgres.pid is not None
