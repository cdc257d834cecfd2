"""The holds that are pending on accounts: what is told of an account's `debits_pending` and `credits_pending` in full.

As in `accounts`, a hold that is overdue is none any more (`worker.reading.deadlines`).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from models.outcomes import said, timestamp
from worker.postgres.engines import array
from worker.reading.accounts import IDS_AT_ONCE
from worker.reading.deadlines import OVERDUE

HOLDS_OF_AN_ACCOUNT = 10_000
"""About 4 MB of JSON: more than people look through, and what a program can take in one line."""

_FIND = text(
    f"""
    SELECT account.id::text AS account_id, hold.id::text, side, other_id::text, amount, remaining, captured, expires_at,
           hold.created_at, kind, effective_at, hold.metadata
    FROM equipoise.accounts account JOIN equipoise.ledgers ledger ON ledger.number = account.ledger
    CROSS JOIN LATERAL (
        (SELECT 'debit' AS side, destination_id AS other_id, source.* FROM equipoise.holds source
         WHERE source_id = account.id AND state = 'pending' AND {OVERDUE} IS NOT TRUE
         ORDER BY expires_at LIMIT :count)
        UNION ALL
        (SELECT 'credit', source_id, destination.* FROM equipoise.holds destination
         WHERE destination_id = account.id AND state = 'pending' AND {OVERDUE} IS NOT TRUE
         ORDER BY expires_at LIMIT :count)
        ORDER BY expires_at, created_at, id LIMIT :count
    ) hold
    WHERE account.id = ANY (cast(:ids AS uuid[]))
    """  # noqa: S608  # of our own constants
)


@dataclass(frozen=True, slots=True)
class OpenHold:
    """Money that is reserved on an account: by it (`debit`), or for it (`credit`)."""

    id: str
    side: str
    other_id: str
    amount: int
    remaining: int
    captured: int
    expires_at: datetime | None
    created_at: datetime
    kind: str | None
    effective_at: datetime | None
    metadata: dict[str, Any] | None

    def as_json(self) -> dict[str, object]:
        """Give it for programs; what was not said of it is left out."""
        told: dict[str, object] = {
            "id": self.id,
            "side": self.side,
            "other_id": self.other_id,
            "amount": self.amount,
            "remaining": self.remaining,
            "captured": self.captured,
            "expires_at": self.expires_at and timestamp(self.expires_at),
            "created_at": timestamp(self.created_at),
        }
        return told | said(
            kind=self.kind,
            effective_at=self.effective_at and timestamp(self.effective_at),
            metadata=self.metadata,
        )


@dataclass(frozen=True, slots=True)
class OpenHolds:
    """An account's, nearest deadline first; `more`: it has others, and these are only the first."""

    holds: list[OpenHold]
    more: bool

    def as_json(self) -> dict[str, object]:
        """Give what an account's line has at its end."""
        return {"holds": [hold.as_json() for hold in self.holds]} | ({"more_holds": True} if self.more else {})


def find(
    connection: Connection, ids: Iterable[str], now: datetime, most: int = HOLDS_OF_AN_ACCOUNT
) -> dict[str, OpenHolds]:
    """Give the holds of accounts that exist, pending at `now`, all in the connection's one state of the books."""
    wanted = list(ids)
    found: defaultdict[str, list[OpenHold]] = defaultdict(list)
    for start in range(0, len(wanted), IDS_AT_ONCE):
        bounds = {"ids": array(wanted[start : start + IDS_AT_ONCE]), "count": most + 1, "now": now}
        for account_id, *hold in connection.execute(_FIND, bounds):
            found[account_id].append(OpenHold(*hold))
    return {id: OpenHolds(found[id][:most], len(found[id]) > most) for id in wanted}
