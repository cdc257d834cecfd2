"""Connections that break where it matters: around COMMIT, in the middle of a group, and while a ledger is locked."""

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event

from models.outcomes import encode
from tests.conftest import libpq
from tests.database.proxy import Loss, proxied
from tests.factories import new_id, open_books, post
from worker.engine.settle import Settlement
from worker.postgres import locks
from worker.postgres.engines import OUTSIDE_TRANSACTIONS, committing_engine
from worker.postgres.failures import LedgerBusy

ENDED_S = 10
"""How long a server on a loaded machine may take to notice that a client is gone."""

HOLD = "SELECT pg_advisory_lock(hashtextextended('equipoise.ledger.' || %s, 0))"
TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'equipoise worker' AND pid <> pg_backend_pid()
"""
WAITERS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()"
PATIENT_MS = 60_000


@pytest.fixture
def master(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of the server's master."""
    with psycopg.connect(libpq(database_url), autocommit=True) as connection:
        yield connection


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="equipoise-proxy-"))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("lock", [True, False], ids=["locked", "unlocked"])
@pytest.mark.parametrize("loss", ["commit", "answer"])
def test_a_commit_in_doubt_has_one_effect_and_one_outcome(
    database_url: str, settlement: Settlement, folder: Path, loss: Loss, lock: bool
) -> None:
    _, [account, bank] = open_books(settlement, [100])
    command, refused = post(account, bank, 70), post(account, bank, 31)
    with proxied(database_url, folder) as (proxy, through):
        engine = committing_engine(through)
        settle = Settlement(engine, lock=lock)
        settle([post(account, bank, 101)])
        proxy.lose = loss

        outcomes = settle([command, refused])
        engine.dispose()

    assert proxy.lost == [loss]
    assert settle.retries == {"lost": 1}
    assert [outcome["status"] for outcome in outcomes] == ["applied", "insufficient_funds"]
    assert outcomes[0]["balances"][account]["balance"] == 30
    assert [encode(it) for it in settlement([command, refused])] == [encode(it) for it in outcomes]


@pytest.mark.parametrize(
    "statement", ["pg_advisory_lock", "FROM equipoise.inbox", "clock_timestamp", "UPDATE equipoise.accounts"]
)
def test_a_session_ended_in_the_middle_of_a_group_is_begun_again(
    database_url: str, master: psycopg.Connection[Any], statement: str
) -> None:
    engine = committing_engine(database_url, pool_size=1)
    settle = Settlement(engine)
    _, [account, bank] = open_books(settle, [100])
    ended: list[str] = []

    @event.listens_for(engine, "after_cursor_execute")
    def end(_c: Connection, _cursor: Any, sql: str, *_rest: Any) -> None:
        if statement in sql and not ended:
            ended.append(sql)
            master.execute(TERMINATE)

    [outcome] = settle([post(account, bank, 100)])

    assert ended
    assert outcome["status"] == "applied"
    assert outcome["balances"][account]["version"] == 2
    assert settle([post(account, bank, 1)])[0]["status"] == "insufficient_funds"
    engine.dispose()


def test_a_ledger_that_is_held_is_busy_and_others_go_on(
    settlement: Settlement, database_url: str, master: psycopg.Connection[Any]
) -> None:
    held, [account, bank] = open_books(settlement, [100])
    _, [other, other_bank] = open_books(settlement, [100])
    command = post(account, bank, 100)
    master.execute(HOLD, [held])

    with pytest.raises(LedgerBusy, match=held):
        settlement([command], patience_ms=20)

    assert master.execute(HELD).fetchone() == (0,)
    assert settlement([post(other, other_bank, 100)])[0]["status"] == "applied"
    master.execute("SELECT pg_advisory_unlock_all()")
    assert settlement([command])[0]["status"] == "applied"


@pytest.mark.parametrize("row", ["inbox", "accounts"])
def test_a_row_that_somebody_keeps_makes_its_ledger_busy(settlement: Settlement, database_url: str, row: str) -> None:
    """Be it COPY that waits for it, or an UPDATE."""
    held, [account, bank] = open_books(settlement, [100])
    command = post(account, bank, 100)
    with psycopg.connect(libpq(database_url)) as keeper:
        keep = {
            "inbox": "INSERT INTO equipoise.inbox (id, decided_at, type, status) VALUES (%s, now(), 't', 's')",
            "accounts": "SELECT FROM equipoise.accounts WHERE id = %s FOR UPDATE",
        }
        keeper.execute(keep[row].encode(), [command.id if row == "inbox" else account])

        with pytest.raises(LedgerBusy, match=held):
            settlement([command], patience_ms=20)
        keeper.rollback()

    assert settlement([command])[0]["status"] == "applied"


def test_the_patience_counts_for_the_very_wait_and_is_gone_after_it(
    database_url: str, settlement: Settlement, master: psycopg.Connection[Any]
) -> None:
    """A session that would wait for ever, were it not told otherwise in the statement that waits."""
    ledger, [account, bank] = open_books(settlement, [100])
    engine = committing_engine(database_url, pool_size=1)
    seen: list[Any] = []

    @event.listens_for(engine, "checkin")
    def look(connection: Any, _record: Any) -> None:
        seen.append(connection.execute("SELECT current_setting('lock_timeout')").fetchone()[0])
        connection.rollback()

    settle = Settlement(engine)
    settle([post(account, bank, 1)], patience_ms=77)
    assert set(seen) == {"2s"}
    with engine.connect() as session:
        session.exec_driver_sql("SET SESSION lock_timeout = 0")
        session.commit()
    master.execute(HOLD, [ledger])

    with pytest.raises(LedgerBusy):
        settle([post(account, bank, 1)], patience_ms=20)

    engine.dispose()


def test_a_ledger_is_free_when_its_holder_is_ended(
    settlement: Settlement, database_url: str, master: psycopg.Connection[Any]
) -> None:
    ledger, [account, bank] = open_books(settlement, [100])
    with psycopg.connect(libpq(database_url), autocommit=True) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute(HOLD, [ledger])
        waiting = pool.submit(settlement, [post(account, bank, 100)], patience_ms=PATIENT_MS)
        while master.execute(WAITERS).fetchone() != (1,):
            assert not waiting.done()

        master.execute("SELECT pg_terminate_backend(%s)", [holder.info.backend_pid])

        assert waiting.result()[0]["status"] == "applied"


def test_a_session_may_idle_for_seconds_while_it_holds_a_ledger_and_for_ever_otherwise(settlement: Settlement) -> None:
    """Its worker may be frozen outside a transaction, where nothing else would end it."""
    with settlement.engine.connect() as connection:
        outside = connection.execution_options(isolation_level=OUTSIDE_TRANSACTIONS)

        with locks.ledgers_locked(outside, ["a"], PATIENT_MS):
            holding = outside.exec_driver_sql("SHOW idle_session_timeout").scalar_one()
        released = outside.exec_driver_sql("SHOW idle_session_timeout").scalar_one()

    assert (holding, released) == ("5s", "0")


def test_who_waits_for_the_first_of_several_ledgers_holds_none_of_the_others(
    settlement: Settlement, master: psycopg.Connection[Any]
) -> None:
    """In one order for everybody, so that two who want the same ledgers never wait for each other."""

    def take() -> None:
        with settlement.engine.connect() as connection:
            outside = connection.execution_options(isolation_level=OUTSIDE_TRANSACTIONS)
            with locks.ledgers_locked(outside, ["b", "a"], PATIENT_MS):
                pass

    master.execute(HOLD, ["a"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(take)
        while master.execute(WAITERS).fetchone() != (1,):
            assert not waiting.done()
        held_meanwhile = master.execute(HELD).fetchone()
        master.execute("SELECT pg_advisory_unlock_all()")
        waiting.result()

    assert held_meanwhile == (0,)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize(
    "statement", ["pg_advisory_lock", "FROM equipoise.inbox", "UPDATE equipoise.accounts", "pg_advisory_unlock_all"]
)
def test_no_way_out_leaves_a_lock_behind(
    database_url: str,
    master: psycopg.Connection[Any],
    statement: str,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Or PostgreSQL would end the session of an idle holder within the time that is waited for here.
    monkeypatch.setattr(locks, "IDLE_HOLDER_TIMEOUT", "1h")
    engine = committing_engine(database_url, pool_size=1)
    settle = Settlement(engine)
    _, [account, bank] = open_books(settle, [100])
    raised: list[str] = []

    @event.listens_for(engine, "before_cursor_execute" if "unlock" in statement else "after_cursor_execute")
    def interrupt(_c: Connection, _cursor: Any, sql: str, *_rest: Any) -> None:
        if statement in sql and not raised:
            raised.append(sql)
            raise error

    with pytest.raises(error):
        settle([post(account, bank, 60)])

    ends = monotonic() + ENDED_S
    while master.execute(HELD).fetchone() != (0,):
        # A session that was ended takes a moment; one that went back to the pool with its lock keeps it for ever.
        assert monotonic() < ends
    assert settle([post(account, bank, 30, id=new_id())])[0]["status"] == "applied"
    engine.dispose()
