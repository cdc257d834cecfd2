"""Moments as places: how far the books had come at a time, counted in an account's entries or a ledger's transfers.

`created_at` never goes back as an account's `version` or a ledger's `sequence` grows: the group's time is read under
the ledger's lock, the ledger's row refuses to turn back, and `verify` proves it of every transfer. So the place of a
time is found by halving, in about as many look-ups as the history's length has bits, each in a unique index that is
there anyway. An index by time would cost every transfer what this costs a question.
"""

from datetime import datetime

from sqlalchemy import Connection, TextClause, text

# The first `low` are known to be before the place, and those after `high` to be past it. What a look-up does not find
# counts as past (the books are broken, which `verify` tells). OFFSET 0 has each look-up made once, not once a CASE.
_HALVING = """
    WITH RECURSIVE halving (low, high) AS (
        SELECT cast(0 AS bigint), cast(:last AS bigint)
        UNION ALL
        SELECT CASE WHEN reached THEN middle ELSE low END, CASE WHEN reached THEN high ELSE middle - 1 END
        FROM (SELECT low, high, (low + high + 1) / 2 AS middle FROM halving WHERE low < high) half
        CROSS JOIN LATERAL (SELECT coalesce(({look}), false) AS reached OFFSET 0) looked
    )
    SELECT low FROM halving WHERE low = high
"""
_TRANSFER = "SELECT {reached} FROM equipoise.transfers WHERE ledger = :ledger AND sequence = middle"
_ENTRY = "SELECT {reached} FROM equipoise.entries WHERE account_id = cast(:id AS uuid) AND version = middle LIMIT 1"


def _halving(look: str, reached: str) -> TextClause:
    return text(_HALVING.format(look=look.format(reached=reached)))


_VERSION_AT = _halving(_ENTRY, "created_at <= cast(:at AS timestamptz)")
_VERSION_OF = _halving(_ENTRY, "sequence <= :sequence")
_SEQUENCE_BEFORE = _halving(_TRANSFER, "created_at < cast(:at AS timestamptz)")


def version_at(connection: Connection, account_id: str, last: int, at: datetime) -> int:
    """Count the account's entries at or before a time; it has `last` of them."""
    return _place(connection, _VERSION_AT, id=account_id, last=last, at=at)


def version_of(connection: Connection, account_id: str, last: int, sequence: int) -> int:
    """Count the account's entries up to a transfer of its ledger, whose own it need not be; it has `last` of them."""
    return _place(connection, _VERSION_OF, id=account_id, last=last, sequence=sequence)


def sequence_before(connection: Connection, ledger: int, last: int, at: datetime) -> int:
    """Count the ledger's transfers before a time; it has `last` of them."""
    return _place(connection, _SEQUENCE_BEFORE, ledger=ledger, last=last, at=at)


def _place(connection: Connection, statement: TextClause, **bounds: object) -> int:
    place: int = connection.execute(statement, bounds).scalar_one()
    return place
