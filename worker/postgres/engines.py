"""Engines: one a purpose, each with its role, isolation and time-outs. Who connects says what for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url

OUTSIDE_TRANSACTIONS = "AUTOCOMMIT"
SERIALIZABLE = "SERIALIZABLE"

_EVERYWHERE = {
    # One way to write a moment, whatever the server's default: rows are sealed as PostgreSQL writes them.
    "timezone": "UTC",
    "datestyle": "ISO",
}
COMMITTING = {
    # Durable when acknowledged, whatever the server's default: `off` lost 30 of 30 when a backend was killed.
    "synchronous_commit": "on",
    # A sequential scan under SERIALIZABLE locks the whole table against everybody: 20 % spurious aborts on
    # 16 rows, 0.2 % without.
    "enable_seqscan": "off",
    # Without the ledgers' locks, how long a row's lock is waited for. (`locks` sets its own for a ledger's.)
    "lock_timeout": "2s",
    # The largest batch (10,000 commands) takes under a second here; twenty times that is a fault.
    "statement_timeout": "20s",
    # A worker frozen inside a transaction holds its ledger's lock for at most this long.
    "idle_in_transaction_session_timeout": "5s",
}
READING = {
    "default_transaction_read_only": "on",
    # A reader blocks no writer, but what it holds open keeps VACUUM from cleaning up.
    "idle_in_transaction_session_timeout": "60s",
}
_CLOCK = text("SELECT clock_timestamp()")

TRANSACTION_TIMEOUT = "30s"
"""From PostgreSQL 17 on; a bound on everything between BEGIN and COMMIT. Longer than `statement_timeout`: it would
take that one's place otherwise."""


class NotPostgres(ValueError):
    """A database URL names another kind of database, or one that keeps no UTF-8."""


def psycopg_url(url: str) -> URL:
    """Read a database URL; `postgresql://` means psycopg 3. Raises NotPostgres on another database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        raise NotPostgres(f"the database must be PostgreSQL, not {parsed.get_backend_name()!r}")
    return parsed.set(drivername="postgresql+psycopg")


def committing_engine(url: str, *, pool_size: int = 2) -> Engine:
    """Make the engine that settles groups: role `equipoise_worker`, SERIALIZABLE unless told otherwise.

    A connection that broke while it was idle is found out by its first statement, and what it was for begins again: a
    ping before each group would cost a round trip of fifteen.
    """
    engine = _engine(url, "equipoise worker", COMMITTING, pool_size=pool_size, max_overflow=0)

    @event.listens_for(engine, "connect")
    def bound_whole_transactions(connection: Any, _record: Any) -> None:
        if connection.info.server_version >= 170000:
            _run(connection, f"SET transaction_timeout = '{TRANSACTION_TIMEOUT}'")

    _take_role(engine, "equipoise_worker")
    return engine


def reading_engine(url: str) -> Engine:
    """Make the engine for people who look: role `equipoise_reader`, one consistent snapshot a transaction.

    SERIALIZABLE READ ONLY DEFERRABLE: REPEATABLE READ can show a state that no serial order has
    (PostgreSQL manual, 13.2.3), and a deferrable reader neither aborts nor makes a writer abort.
    """
    settings = READING | {"default_transaction_deferrable": "on"}
    engine = _engine(url, "equipoise reader", settings, pool_size=1, max_overflow=1)
    _take_role(engine, "equipoise_reader")
    return engine


def migration_engine(url: str) -> Engine:
    """Make the engine that changes the schema, as the user of the URL."""
    # Longer than any group may take (`TRANSACTION_TIMEOUT`): who keeps a table for longer than that is stuck.
    return _engine(url, "equipoise migrate", {"lock_timeout": "60s"}, pool_size=1, isolation_level="READ COMMITTED")


def server_clock(connection: Connection) -> datetime:
    """Tell the time by PostgreSQL's clock, one clock however many hosts; where a snapshot is waited for, after that."""
    now: datetime = connection.execute(_CLOCK).scalar_one()
    return now


def array(values: Iterable[str | int]) -> str:
    """Write ids or numbers as PostgreSQL's array literal; psycopg would look into each for what needs quoting."""
    return "{" + ",".join(map(str, values)) + "}"


def json_text(value: Mapping[str, Any] | None) -> str | None:
    """Write what goes into a column of JSON; None: NULL."""
    return None if value is None else orjson.dumps(value).decode()


def copy_rows(connection: Connection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    """Run `COPY … FROM STDIN` in the connection's transaction; SQLAlchemy has no word for it."""
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            copy.write_row(row)


def copy_lines(connection: Connection, statement: str, lines: Iterable[bytes]) -> None:
    """Run `COPY … FROM STDIN` with lines of COPY's own text format, in the connection's transaction."""
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.write(b"".join(lines))


def read_lines(connection: Connection, query: str) -> Iterator[bytes]:
    """Run `COPY (query) TO STDOUT` and give its lines without their ends, as they come; parameters it has none."""
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT".encode()) as copy:
        for row in copy:
            yield bytes(row)[:-1]


def _engine(url: str, name: str, settings: dict[str, str], **options: Any) -> Engine:
    session = " ".join(f"-c {key}={value}" for key, value in (_EVERYWHERE | settings).items())
    connect = {"application_name": name, "options": session, "connect_timeout": 5, "client_encoding": "utf8"}
    options.setdefault("isolation_level", SERIALIZABLE)
    # What commands carry is their senders' own: it stands in no log and in no dead letter's reason.
    engine = create_engine(psycopg_url(url), connect_args=connect, hide_parameters=True, **options)

    @event.listens_for(engine, "connect")
    def require_utf8(connection: Any, _record: Any) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise NotPostgres(f"the database's encoding is {encoding}: make it with ENCODING 'UTF8' TEMPLATE template0")

    return engine


def _take_role(engine: Engine, role: str) -> None:
    """Give up every right of the login that the role does not have."""

    @event.listens_for(engine, "connect")
    def take_role(connection: Any, _record: Any) -> None:
        _run(connection, f"SET ROLE {role}")


def _run(connection: Any, statement: str) -> None:
    """Run one statement on a bare psycopg connection, leaving no transaction open."""
    autocommit, connection.autocommit = connection.autocommit, True
    connection.execute(statement)
    connection.autocommit = autocommit
