"""However an owner ends, nothing of its stack stays behind, and the next stack in the folder has what was committed."""

import os
import signal
from pathlib import Path

import pytest
import redis

from tests.stack.owners import (
    WAIT_S,
    await_stack,
    connect,
    existing_shared_memory,
    inhabitants,
    kill,
    launch,
    release,
    shared_memory_of,
    wait_until_uninhabited,
)
from tests.waiting import wait_until
from worker.stack.lock import lock_is_held, take_lock
from worker.stack.stack import Stack, running_stack

BUSY = b"SELECT count(*) FROM generate_series(1, 1000000000000)"
"""Keeps a backend computing: it waits for nothing, so that it could notice that its postmaster is gone."""


def test_a_killed_owner_leaves_no_process_and_no_shared_memory(owned_folder: Path, identity: str) -> None:
    owner = launch(owned_folder, identity)
    running, _ = await_stack(owner)
    busy = connect(running.database_url)
    busy.pgconn.send_query(BUSY)
    memory = shared_memory_of(running.postgres_pid)
    assert len(inhabitants(owned_folder)) > 5
    assert len(memory) > 1

    kill(owner)

    wait_until_uninhabited(owned_folder)
    wait_until(lambda: memory.isdisjoint(existing_shared_memory()), what="the shared memory is gone")
    assert running_stack(owned_folder) is None
    busy.close()


def test_what_was_committed_before_the_owner_was_killed_is_there_after(owned_folder: Path, identity: str) -> None:
    owner = launch(owned_folder, identity)
    running, _ = await_stack(owner)
    with connect(running.database_url) as connection, redis.Redis.from_url(running.client_url) as client:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS amount")
        client.rpush("commands", "kept")
    kill(owner)

    owner = launch(owned_folder, identity)  # at once: it has to wait for the dying itself
    running, _ = await_stack(owner)

    with connect(running.database_url) as connection, redis.Redis.from_url(running.client_url) as client:
        assert connection.execute("SELECT amount FROM kept").fetchone() == (7,)
        assert client.lrange("commands", 0, -1) == [b"kept"]
    assert release(owner) == 0


def test_a_server_is_not_started_before_the_last_process_of_an_earlier_one_is_gone(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    left_over = take_lock(folder / "postgres.lock")  # as a backend would hold it that is still dying
    assert left_over is not None
    owner = launch(folder, "ourselves")
    wait_until((folder / "postgres.log").exists, what="it is PostgreSQL's turn")

    os.close(left_over)

    await_stack(owner)
    assert lock_is_held(folder / "postgres.lock")  # by the server itself, and by nobody else
    assert release(owner) == 0
    assert not lock_is_held(folder / "postgres.lock")


@pytest.mark.parametrize(
    "sign", ["valkey.log", "postgres.unfinished/base", "postgres", "postgres/postmaster.pid", "stack.json"]
)
def test_an_owner_killed_while_it_starts_leaves_a_folder_that_works(folder: Path, sign: str) -> None:
    owner = launch(folder, "ourselves")
    wait_until((folder / sign).exists, what=f"there is {sign}")
    kill(owner)
    wait_until_uninhabited(folder)

    with Stack(folder) as stack, connect(stack.database_url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("equipoise",)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_ends_both_servers_in_good_order(folder: Path, number: signal.Signals, status: int) -> None:
    owner = launch(folder, "ourselves")
    await_stack(owner)

    owner.send_signal(number)
    owner.wait(WAIT_S)

    assert release(owner) == status
    assert inhabitants(folder) == []
    assert not (folder / "stack.json").exists()
    assert "database system is shut down" in (folder / "postgres.log").read_text()
    assert "Valkey is now ready to exit" in (folder / "valkey.log").read_text()


def test_ctrl_c_in_a_terminal_reaches_the_owner_alone(stack: Stack) -> None:
    assert stack.postgres.pid is not None
    assert stack.valkey.pid is not None

    sessions = {os.getsid(pid) for pid in (stack.postgres.pid, stack.valkey.pid)}

    assert os.getsid(0) not in sessions


def test_an_exception_ends_both_servers(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), Stack(folder):
        1 / 0  # noqa: B018

    assert inhabitants(folder) == []
    assert running_stack(folder) is None


def test_the_programs_own_handling_of_sigterm_stays_or_comes_back(folder: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Stack(folder):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with Stack(folder):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sockets_that_a_killed_owner_left_elsewhere_are_taken_over(folder: Path) -> None:
    long_folder = folder / ("long" * 40)
    owner = launch(long_folder, "ourselves")
    await_stack(owner)
    kill(owner)
    wait_until_uninhabited(folder)

    with Stack(long_folder) as stack:
        sockets = stack.postgres.sockets

    assert not sockets.exists()
