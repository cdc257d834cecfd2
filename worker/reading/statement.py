"""An account's statement: its entries from the first to the newest, or to those of a moment.

A moment is a place in the order of commits, since an entry's time is when its group was decided, under the ledger's
lock, and never goes back: what stands in the statement of a moment stands there for ever.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from models.outcomes import said, timestamp
from worker.reading.accounts import Account, find
from worker.reading.moments import version_at

ENTRIES_AT_ONCE = 500
"""Entries a page, about 100 KB."""

ENTRY = """
    version, transfer_id::text, side, change, balance, available, other_id::text, sequence, created_at, kind,
    effective_at, metadata
"""
"""The columns of an `Entry`, in its order."""

_AFTER = text(
    """
    SELECT balance, available FROM equipoise.entries
    WHERE account_id = cast(:id AS uuid) AND version = :version LIMIT 1
    """
)
_PAGE = text(
    f"""
    SELECT {ENTRY} FROM equipoise.entries
    WHERE account_id = cast(:id AS uuid) AND version > :after AND version <= :last
    ORDER BY version LIMIT :count
    """  # noqa: S608  # of our own constants
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What an account held, now or at a moment, after `version` entries."""

    account: Account
    at: datetime | None
    balance: int
    available: int
    version: int

    def as_json(self) -> dict[str, object]:
        """Give the first line of the statement for programs; each entry is a line of its own."""
        return {
            "account_id": self.account.id,
            "ledger": self.account.ledger,
            "currency": self.account.currency,
            "scale": self.account.scale,
            "at": self.at and timestamp(self.at),
            "balance": self.balance,
            "available": self.available,
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transfer, with the account's balance and version after it."""

    version: int
    transfer_id: str
    side: str
    change: int
    balance: int
    available: int
    other_id: str
    sequence: int
    created_at: datetime
    kind: str | None
    effective_at: datetime | None
    metadata: dict[str, Any] | None

    def as_json(self) -> dict[str, object]:
        """Give an entry for programs; what was not said of the transfer is left out."""
        told: dict[str, object] = {
            "version": self.version,
            "transfer_id": self.transfer_id,
            "side": self.side,
            "change": self.change,
            "balance": self.balance,
            "available": self.available,
            "other_id": self.other_id,
            "sequence": self.sequence,
            "created_at": timestamp(self.created_at),
        }
        return told | said(
            kind=self.kind,
            effective_at=self.effective_at and timestamp(self.effective_at),
            metadata=self.metadata,
        )


def statement(engine: Engine, account_id: str, at: datetime | None = None) -> Statement | None:
    """Say what the account held; None where there is no such account."""
    with engine.connect() as connection:
        account = find(connection, [account_id]).get(account_id)
        if account is None:
            return None
        if at is None:
            return Statement(account, None, account.balance, account.available, account.version)
        version = version_at(connection, account_id, account.version, at)
        return Statement(account, at, *balance_after(connection, account_id, version), version)


def balance_after(connection: Connection, account_id: str, version: int) -> tuple[int, int]:
    """Give the balance, and what was available of it, after so many entries."""
    after = connection.execute(_AFTER, {"id": account_id, "version": version}).one_or_none()
    return (after.balance, after.available) if after else (0, 0)


def pages(engine: Engine, stated: Statement) -> Iterator[list[Entry]]:
    """Give the statement's entries in their order.

    A transaction a page, so that a reader who takes his time keeps none open: entries never change, and so pages of
    different moments fit together.
    """
    after = 0
    while after < stated.version:
        bounds = {"id": stated.account.id, "after": after, "last": stated.version, "count": ENTRIES_AT_ONCE}
        with engine.connect() as connection:
            page = [Entry(*row) for row in connection.execute(_PAGE, bounds)]
        if not page:
            return  # the books are broken, which `verify` tells
        yield page
        after = page[-1].version
