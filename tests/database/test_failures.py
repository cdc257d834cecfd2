"""What the server's errors mean to the worker: each provoked on a real server, then classified."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from tests.conftest import libpq
from tests.factories import new_id
from tests.waiting import wait_until
from worker.postgres.engines import committing_engine, migration_engine
from worker.postgres.failures import Failure, LedgerBusy, classify, is_passing, sqlstate

Session = psycopg.Connection[Any]
CONFLICT, LOST, COMMAND, OUTAGE = Failure.CONFLICT, Failure.LOST, Failure.COMMAND, Failure.OUTAGE


@pytest.fixture
def sessions(empty_database_url: str) -> Iterator[Callable[[], Session]]:
    """Opens sessions on a database with a table `t` of two rows."""
    opened: list[Session] = []

    def session() -> Session:
        opened.append(psycopg.connect(libpq(empty_database_url)))
        return opened[-1]

    first = session()
    first.execute("CREATE TABLE t (id integer PRIMARY KEY CHECK (id < 100), n integer NOT NULL REFERENCES t (id))")
    first.execute("INSERT INTO t VALUES (1, 1), (2, 1)")
    first.commit()
    yield session
    for it in opened:
        it.close()


# What one statement provokes. `do('…')` raises what no test can provoke for real: a full disk, a promoted replica.
ONE_STATEMENT = [
    ("23505", CONFLICT, "INSERT INTO t VALUES (1, 1)"),
    ("53200", CONFLICT, "do('53200')"),
    ("22003", COMMAND, "SELECT 2147483647::integer + 1"),
    ("22021", COMMAND, r"SELECT convert_from('\xff', 'UTF8')"),
    ("22P02", COMMAND, "SELECT 'x'::uuid"),
    ("22P05", COMMAND, "SELECT convert_to('漢', 'LATIN1')"),
    ("23000", COMMAND, "do('23000')"),
    ("23502", COMMAND, "INSERT INTO t VALUES (3, NULL)"),
    ("23503", COMMAND, "INSERT INTO t VALUES (3, 4)"),
    ("23514", COMMAND, "INSERT INTO t VALUES (100, 1)"),
    ("57014", OUTAGE, "SET LOCAL statement_timeout = 1; SELECT pg_sleep(60)"),
    ("25006", OUTAGE, "SET TRANSACTION READ ONLY; DELETE FROM t"),
    ("42P01", OUTAGE, "SELECT FROM missing"),
    ("42703", OUTAGE, "SELECT missing FROM t"),
    ("42501", OUTAGE, "SET LOCAL ROLE pg_monitor; DELETE FROM t"),
    ("3F000", OUTAGE, "CREATE TABLE missing.t ()"),
    ("53100", OUTAGE, "do('53100')"),
    ("57P03", OUTAGE, "do('57P03')"),
    ("08006", OUTAGE, "do('08006')"),
    ("XX000", OUTAGE, "do('XX000')"),
    ("ZZ999", OUTAGE, "do('ZZ999')"),
    ("P0001", OUTAGE, "DO $$ BEGIN RAISE EXCEPTION 'whatever'; END $$"),
]


@pytest.mark.parametrize(("state", "failure", "statement"), ONE_STATEMENT)
def test_an_error_of_the_server_has_its_class(
    sessions: Callable[[], Session], empty_database_url: str, state: str, failure: Failure, statement: str
) -> None:
    if statement.startswith("do("):
        statement = f"DO $$ BEGIN RAISE EXCEPTION 'provoked' USING ERRCODE = {statement[3:-1]}; END $$"

    with pytest.raises(psycopg.Error) as bare:
        sessions().execute(statement)
    engine = migration_engine(empty_database_url)
    with pytest.raises(DBAPIError) as wrapped, engine.connect() as connection:
        connection.exec_driver_sql(statement.replace("%", "%%"))
    engine.dispose()

    assert (sqlstate(bare.value), sqlstate(wrapped.value)) == (state, state)
    assert (classify(bare.value), classify(wrapped.value)) == (failure, failure)
    assert is_passing(bare.value) is (failure is CONFLICT)


def test_a_serialization_failure_is_a_conflict(sessions: Callable[[], Session]) -> None:
    one, other = sessions(), sessions()
    for session in (one, other):
        session.rollback()
        session.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        session.execute("SELECT FROM t")
    one.execute("UPDATE t SET n = 2 WHERE id = 1")
    one.commit()

    with pytest.raises(psycopg.Error) as conflict:
        other.execute("UPDATE t SET n = 1 WHERE id = 1")

    assert sqlstate(conflict.value) == "40001"
    assert classify(conflict.value) is CONFLICT


def test_a_deadlock_is_a_conflict(sessions: Callable[[], Session]) -> None:
    one, other = sessions(), sessions()
    for session, row in ((one, 1), (other, 2)):
        session.execute("SET deadlock_timeout = '20ms'")
        session.execute("UPDATE t SET n = 1 WHERE id = %s", [row])

    def cross(session: Session, row: int) -> BaseException | None:
        try:
            session.execute("UPDATE t SET n = 1 WHERE id = %s", [row])
        except psycopg.Error as error:
            session.rollback()
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        errors = list(filter(None, pool.map(cross, (one, other), (2, 1))))

    assert [(sqlstate(error), classify(error)) for error in errors] == [("40P01", CONFLICT)]


def test_a_lock_that_is_not_to_be_had_is_an_outage(sessions: Callable[[], Session]) -> None:
    sessions().execute("LOCK TABLE t")

    with pytest.raises(psycopg.Error) as refused:
        sessions().execute("LOCK TABLE t NOWAIT")

    assert sqlstate(refused.value) == "55P03"
    assert classify(refused.value) is OUTAGE
    assert classify(LedgerBusy("m")) is Failure.BUSY
    assert not is_passing(LedgerBusy("m"))


@pytest.mark.parametrize(
    ("state", "failure", "how"),
    [("57P01", LOST, "SELECT pg_terminate_backend(%s)"), ("25P03", OUTAGE, "SELECT %s")],
)
def test_a_session_that_was_ended_has_its_class(
    sessions: Callable[[], Session], state: str, failure: Failure, how: str
) -> None:
    session, master = sessions(), sessions()
    session.execute("SET idle_in_transaction_session_timeout = '20ms'" if state == "25P03" else "SELECT 1")
    gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
    master.execute(how, [session.info.backend_pid])
    master.commit()
    master.autocommit = True
    wait_until(lambda: master.execute(gone, [session.info.backend_pid]).fetchone() == (True,))

    with pytest.raises(psycopg.Error) as ended:
        session.execute("SELECT 1")

    assert sqlstate(ended.value) == state
    assert classify(ended.value) is failure


def test_a_server_without_room_or_reach_is_an_outage(empty_database_url: str) -> None:
    role = f"crowd_{new_id()[:8]}"
    url = make_url(empty_database_url)
    with psycopg.connect(libpq(empty_database_url), autocommit=True) as master:
        master.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'crowd' CONNECTION LIMIT 0")
        try:
            for unreachable in (
                url.set(username=role, password="crowd"),
                url.set(database="missing"),
                url.set(query={"host": "/nowhere"}),
            ):
                engine = committing_engine(unreachable.render_as_string(hide_password=False))
                with pytest.raises(DBAPIError) as refused:
                    engine.connect()
                assert classify(refused.value) is OUTAGE
                assert not is_passing(refused.value)
                engine.dispose()
        finally:
            master.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("value", ["\x00", "\ud800"], ids=["NUL", "a lone surrogate"])
def test_a_text_that_cannot_be_sent_is_the_commands_fault(
    sessions: Callable[[], Session], empty_database_url: str, value: str
) -> None:
    with pytest.raises((psycopg.DataError, UnicodeEncodeError)) as refused:
        sessions().execute("SELECT %s", [value])
    engine = migration_engine(empty_database_url)
    with pytest.raises((DBAPIError, UnicodeEncodeError)) as wrapped, engine.connect() as connection:
        connection.exec_driver_sql("SELECT %s", (value,))
    engine.dispose()

    assert classify(refused.value) is COMMAND
    assert classify(wrapped.value) is COMMAND


def test_a_broken_invariant_is_looked_for_in_the_commands() -> None:
    assert classify(AssertionError()) is COMMAND
    assert not is_passing(AssertionError())
