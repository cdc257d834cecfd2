"""A ledger as the commands that make it again in an empty database: accounts, transfers in their order, holds, limits.

All of it in one state of the books, read by cursors of the server, so that memory holds a page of rows. Accounts are
opened without limits, since those of the past are not known to a transfer, and get the present ones at the end, as they
get their states. An id that is no command's own is a UUIDv5: exporting twice gives the same bytes, and importing twice
changes nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import orjson
from sqlalchemy import Connection, Row, text

from models.commands import leg_id
from models.contract import MAX_COMMAND_BYTES
from models.outcomes import said, timestamp
from worker.postgres.engines import server_clock
from worker.reading.deadlines import OVERDUE

ROWS_AT_ONCE: Final = 5_000
"""Rows a round trip, about 2 MB."""

PAUSE: Final = "1h"
"""How long whoever takes the rows may take none: a full disk that somebody clears, a pager. A reader's usual minute is
for small answers; an export that is cut off begins again with its first row. For so long VACUUM waits."""

COLUMNS: Final = (
    "type", "id", "ledger", "currency", "scale", "account_id", "source_id", "destination_id", "amount", "kind",
    "effective_at", "transfer_id", "expires_at", "min_balance", "max_balance", "owner_id", "destinations", "sources",
    "metadata",
)  # fmt: skip
"""Every field that an exported command may have, in the order of a CSV file's columns."""

_NAMESPACE: Final = uuid5(NAMESPACE_URL, "equipoise:export")

_LEDGER = "SELECT number, name, currency, scale, sequence FROM equipoise.ledgers WHERE name = :name"
_COUNT_ACCOUNTS = "SELECT count(*) FROM equipoise.accounts WHERE ledger = :number"
_ACCOUNTS = """
    SELECT id::text, owner_id::text, min_balance, max_balance, state, metadata
    FROM equipoise.accounts WHERE ledger = :number ORDER BY id
"""
# Only a split's transfers are made by a split again; an exchange's other half is another ledger's.
_TRANSFERS = """
    SELECT id::text, source_id::text, destination_id::text, amount, kind, coalesce(effective_at, created_at) AS moment,
           metadata, reverses::text, CASE WHEN command_id IS NOT NULL THEN (
               SELECT id::text FROM equipoise.inbox command WHERE id = command_id AND type = 'transfers.split'
           ) END AS split_id
    FROM equipoise.transfers WHERE ledger = :number ORDER BY sequence
"""
_HOLDS = f"""
    SELECT id::text, source_id::text, destination_id::text, remaining, kind, effective_at, metadata, expires_at
    FROM equipoise.holds hold JOIN equipoise.ledgers ledger ON ledger.number = hold.ledger
    WHERE hold.ledger = :number AND state = 'pending' AND {OVERDUE} IS NOT TRUE
    ORDER BY id
"""  # noqa: S608  # of our own constants


@dataclass(frozen=True, slots=True)
class Export:
    """One ledger, in the state of the connection's transaction."""

    connection: Connection
    ledger: Row[Any]
    now: datetime

    @property
    def commands_at_least(self) -> int:
        """How many commands it takes but for those about holds, limits and states."""
        count: int = 1 + self.connection.execute(text(_COUNT_ACCOUNTS), {"number": self.ledger.number}).scalar_one()
        return count + int(self.ledger.sequence)

    def commands(self) -> Iterator[dict[str, Any]]:
        """Give the commands, each as it travels in a file."""
        name = self.ledger.name
        yield _command("ledgers.open", _id(name), ledger=name, currency=self.ledger.currency, scale=self.ledger.scale)
        for account in self._rows(_ACCOUNTS):
            yield _opened(account, name)
        for split_id, legs in groupby(self._rows(_TRANSFERS), key=lambda row: row.split_id):
            yield from _moves(split_id, legs)
        yield from map(_reserved, self._rows(_HOLDS))
        for account in self._rows(_ACCOUNTS):
            yield from _bounded(account)

    def _rows(self, statement: str) -> Iterable[Row[Any]]:
        values = {"number": self.ledger.number, "now": self.now}
        return self.connection.execute(text(statement).execution_options(yield_per=ROWS_AT_ONCE), values)


def export(connection: Connection, ledger: str) -> Export | None:
    """Find the ledger; None where there is none of that name. The transaction may idle for as long as `PAUSE`."""
    connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{PAUSE}'"))
    row = connection.execute(text(_LEDGER), {"name": ledger}).one_or_none()
    return None if row is None else Export(connection, row, server_clock(connection))


def _opened(account: Row[Any], ledger: str) -> dict[str, Any]:
    opened = _command("accounts.open", _id(account.id, "open"), account_id=account.id, ledger=ledger)
    return opened | {"min_balance": None} | said(owner_id=account.owner_id, metadata=account.metadata)


def _moves(split_id: str | None, transfers: Iterable[Row[Any]]) -> Iterable[dict[str, Any]]:
    """Make some transfers again: each by itself, or all by the split that made them, if that is not too long."""
    if split_id is None:
        return map(_moved, transfers)
    legs = list(transfers)
    split = _split(split_id, legs)
    # Shares may have taken less room than what they came to.
    return [split] if len(orjson.dumps(split)) <= MAX_COMMAND_BYTES else map(_moved, legs)


def _moved(transfer: Row[Any]) -> dict[str, Any]:
    """Post a transfer again, or reverse the one that it reverses; with the moment it was made, if it has no other."""
    moment = {"effective_at": timestamp(transfer.moment)}
    if transfer.reverses is not None:
        return _command(
            "transfers.reverse", transfer.id, transfer_id=transfer.reverses, amount=transfer.amount, **moment
        )
    sides = {"source_id": transfer.source_id, "destination_id": transfer.destination_id}
    about = said(kind=transfer.kind, **moment, metadata=transfer.metadata)
    return _command("transfers.post", transfer.id, **sides, amount=transfer.amount) | about


def _split(id: str, legs: Sequence[Row[Any]]) -> dict[str, Any]:
    """Split an amount again, by the amounts that came of it."""
    assert [leg.id for leg in legs] == [leg_id(id, place) for place in range(1, len(legs) + 1)]
    first = legs[0]
    about = said(kind=first.kind, effective_at=timestamp(first.moment), metadata=first.metadata)
    if all(leg.source_id == first.source_id for leg in legs):
        parts = [{"account_id": leg.destination_id, "amount": leg.amount} for leg in legs]
        sides = {"source_id": first.source_id, "destinations": parts}
    else:
        parts = [{"account_id": leg.source_id, "amount": leg.amount} for leg in legs]
        sides = {"sources": parts, "destination_id": first.destination_id}
    return _command("transfers.split", id, **sides, amount=sum(leg.amount for leg in legs)) | about


def _reserved(hold: Row[Any]) -> dict[str, Any]:
    """Reserve what remains of a hold, until the moment it would have been reserved to."""
    about = said(
        kind=hold.kind,
        effective_at=hold.effective_at and timestamp(hold.effective_at),
        expires_at=hold.expires_at and timestamp(hold.expires_at),
        metadata=hold.metadata,
    )
    sides = {"source_id": hold.source_id, "destination_id": hold.destination_id}
    return _command("transfers.hold", hold.id, **sides, amount=hold.remaining) | about


def _bounded(account: Row[Any]) -> Iterator[dict[str, Any]]:
    """Give an account its present limits, and its state."""
    limits = {"min_balance": account.min_balance, "max_balance": account.max_balance}
    if limits != {"min_balance": None, "max_balance": None}:
        yield _command("accounts.limit", _id(account.id, "limit", *limits.values()), account_id=account.id, **limits)
    if account.state != "open":
        type_ = {"frozen": "accounts.freeze", "closed": "accounts.close"}[account.state]
        yield _command(type_, _id(account.id, account.state), account_id=account.id)


def _command(type_: str, id: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "id": id} | fields


def _id(*what: object) -> str:
    return str(uuid5(_NAMESPACE, " ".join(map(str, what))))
