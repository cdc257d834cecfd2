"""The rows of holds: read where commands name them or their time has come; written set-based, as the whole journal."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from models.books import Hold, Ledger
from worker.postgres.engines import array, copy_rows, json_text

_COLUMNS = """
    id::text, ledger, source_id::text, destination_id::text, amount, remaining, expires_at, captured, state,
    kind, effective_at, metadata
"""
_FIND = text(f"SELECT {_COLUMNS} FROM equipoise.holds WHERE id = ANY (cast(:ids AS uuid[]))")  # noqa: S608  # our own
_OVERDUE = text(
    f"""
    SELECT {_COLUMNS} FROM equipoise.holds
    WHERE state = 'pending' AND expires_at <= cast(:now AS timestamptz)
      AND (source_id = ANY (cast(:ids AS uuid[])) OR destination_id = ANY (cast(:ids AS uuid[])))
    """  # noqa: S608  # our own columns
)
_COPY = """
    COPY equipoise.holds (
        id, ledger, source_id, destination_id, amount, remaining, captured, state, expires_at,
        created_at, ended_at, kind, effective_at, metadata
    ) FROM STDIN
"""
_UPDATE = text(
    """
    UPDATE equipoise.holds AS hold
    SET amount = changed.amount, remaining = changed.remaining, captured = changed.captured, state = changed.state,
        expires_at = changed.expires_at,
        ended_at = CASE WHEN changed.state = 'pending' THEN NULL ELSE cast(:decided_at AS timestamptz) END
    FROM unnest(
        cast(:ids AS uuid[]), cast(:amounts AS bigint[]), cast(:remaining AS bigint[]), cast(:captured AS bigint[]),
        cast(:states AS text[]), cast(:expires_at AS timestamptz[])
    ) AS changed (id, amount, remaining, captured, state, expires_at)
    WHERE hold.id = changed.id
    """
)


def find(connection: Connection, ids: Collection[str]) -> Sequence[Row[Any]]:
    """Read the holds with these ids; `hold` makes one of a row."""
    return connection.execute(_FIND, {"ids": array(ids)}).all() if ids else []


def overdue(connection: Connection, accounts: Collection[str], now: datetime) -> Sequence[Row[Any]]:
    """Read the holds on these accounts that are pending and should not be any more."""
    return connection.execute(_OVERDUE, {"ids": array(accounts), "now": now}).all()


def hold(row: Row[Any], ledger: Ledger) -> Hold:
    """Make a hold of its row."""
    id, _, *rest = tuple(row)
    return Hold(id, ledger, *rest)


def place(connection: Connection, placed: Sequence[Hold], decided_at: str) -> None:
    """Write new holds, as they are at the end of their group."""
    if placed:
        copy_rows(connection, _COPY, (_row(hold, decided_at) for hold in placed))


def update(connection: Connection, changed: Sequence[Hold], decided_at: str) -> None:
    """Write what has become of earlier holds."""
    if not changed:
        return
    values = {
        "ids": array(hold.id for hold in changed),
        "amounts": array(hold.amount for hold in changed),
        "remaining": array(hold.remaining for hold in changed),
        "captured": array(hold.captured for hold in changed),
        "states": [hold.state for hold in changed],
        "expires_at": [hold.expires_at for hold in changed],
    }
    updated = connection.execute(_UPDATE, values | {"decided_at": decided_at})
    assert updated.rowcount == len(changed)


def _row(hold: Hold, decided_at: str) -> tuple[Any, ...]:
    return (
        hold.id,
        hold.ledger.number,
        hold.source_id,
        hold.destination_id,
        hold.amount,
        hold.remaining,
        hold.captured,
        hold.state,
        hold.expires_at,
        decided_at,
        None if hold.state == "pending" else decided_at,
        hold.kind,
        hold.effective_at,
        json_text(hold.metadata),
    )
