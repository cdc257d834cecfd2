"""The ledger's lock: one group at a time works on a ledger, so that hot accounts cause no conflicts.

A session lock of the connection that runs the transaction, taken before BEGIN, since a snapshot taken
before a wait is stale after it. It buys speed, never correctness: every law holds without it.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from worker.postgres.engines import OUTSIDE_TRANSACTIONS
from worker.postgres.failures import LedgerBusy, sqlstate

log = logging.getLogger(__name__)

LOCK_NOT_AVAILABLE = "55P03"
INSUFFICIENT_PRIVILEGE = "42501"
IDLE_HOLDER_TIMEOUT = "5s"
"""How long a frozen worker can hold a ledger outside a transaction before PostgreSQL ends its session."""

# One statement a group of locks. unnest keeps the array's order; a subquery would be free not to. The columns are
# computed from left to right, so that the patience counts for this very wait, and for rows' locks after it.
_LOCK = text(
    "SELECT set_config('lock_timeout', :patience, false), set_config('idle_session_timeout', :idle, false),"
    " pg_advisory_lock(hashtextextended(name, 0)) FROM unnest(cast(:names AS text[])) AS name"
)
# NULL: back to what the session began with.
_UNLOCK = text(
    "SELECT pg_advisory_unlock_all(),"
    " set_config('lock_timeout', NULL, false), set_config('idle_session_timeout', NULL, false)"
)

# In COPY the server waits for the client's rows, and no time-out of PostgreSQL's ends that wait (18.6: neither
# statement_timeout nor transaction_timeout nor the idle ones). Rows follow within a fraction of a second; a session
# that has been waiting for them for so long belongs to a frozen worker. `pg_locks` shows the two halves of the key.
_END_FROZEN = text(
    """
    SELECT pg_terminate_backend(holder.pid)
    FROM unnest(cast(:names AS text[])) AS name
    JOIN pg_locks held ON held.locktype = 'advisory' AND held.objsubid = 1 AND held.granted
        AND (held.classid::bigint << 32) | held.objid::bigint = hashtextextended(name, 0)
    JOIN pg_stat_activity holder ON holder.pid = held.pid AND holder.datname = current_database()
    WHERE holder.state = 'active' AND holder.wait_event = 'ClientRead'
        AND holder.state_change < clock_timestamp() - cast(:idle AS interval)
    """
)
# Sessions are seen and ended by the login that began them, whose rights ours has given up.
_AS_LOGIN = text("SET LOCAL ROLE NONE")


@contextmanager
def ledgers_locked(connection: Connection, ledgers: Collection[str], patience_ms: int) -> Iterator[None]:
    """Hold the locks of these ledgers, taken in ascending order of name.

    The connection must be outside a transaction. Raises LedgerBusy past `patience_ms`, be it the ledger's lock that
    somebody keeps, or a row's in the block. Every way out releases the locks, or ends the session that holds them.
    """
    if not ledgers:
        yield
        return
    names = [f"equipoise.ledger.{name}" for name in sorted(ledgers)]
    try:
        connection.execute(_LOCK, {"names": names, "idle": IDLE_HOLDER_TIMEOUT, "patience": f"{patience_ms}ms"})
        yield
    except (DBAPIError, psycopg.Error) as error:  # COPY's errors come as psycopg raises them
        if sqlstate(error) == LOCK_NOT_AVAILABLE:
            _end_frozen(connection, names)
            raise LedgerBusy(
                f"the lock of {', '.join(sorted(ledgers))} or of a row in it is kept by another session"
            ) from error
        raise
    finally:
        _release(connection)


def _end_frozen(connection: Connection, names: list[str]) -> None:
    """End the sessions that hold these locks for a worker that was frozen inside COPY, as far as we may."""
    connection.rollback()
    connection.execution_options(isolation_level="READ COMMITTED")
    try:
        with connection.begin():
            connection.execute(_AS_LOGIN)
            connection.execute(_END_FROZEN, {"names": names, "idle": IDLE_HOLDER_TIMEOUT})
    except DBAPIError as error:
        if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
            raise
        log.warning("a session that keeps a ledger belongs to another login, and cannot be ended: %s", error.orig)


def _release(connection: Connection) -> None:
    if connection.invalidated or connection.closed:
        return
    try:
        connection.rollback()
        connection.execution_options(isolation_level=OUTSIDE_TRANSACTIONS).execute(_UNLOCK)
        connection.rollback()
    except BaseException as error:
        # Unlocking failed, so the session is broken; ending it releases what it holds.
        connection.invalidate()
        if not isinstance(error, DBAPIError | psycopg.Error):
            raise
