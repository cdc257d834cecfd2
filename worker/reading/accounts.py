"""Accounts as they are now, with what is needed to show them: the ledger's name, currency and scale.

A hold that is overdue reserves nothing (`worker.reading.deadlines`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from models.fields import is_id
from worker.postgres.engines import array, server_clock
from worker.reading.deadlines import OVERDUE

_FIND = text(
    f"""
    SELECT account.id::text, ledger.name AS ledger, ledger.currency, ledger.scale, debits_posted, credits_posted,
           debits_pending - CASE WHEN debits_pending = 0 THEN 0 ELSE (
               SELECT coalesce(sum(remaining), 0) FROM equipoise.holds
               WHERE source_id = account.id AND state = 'pending' AND {OVERDUE}
           )::bigint END,
           credits_pending - CASE WHEN credits_pending = 0 THEN 0 ELSE (
               SELECT coalesce(sum(remaining), 0) FROM equipoise.holds
               WHERE destination_id = account.id AND state = 'pending' AND {OVERDUE}
           )::bigint END,
           min_balance, max_balance, state, version, metadata
    FROM equipoise.accounts account JOIN equipoise.ledgers ledger ON ledger.number = account.ledger
    WHERE account.id = ANY (cast(:ids AS uuid[]))
    """  # noqa: S608  # of our own constants
)
IDS_AT_ONCE = 1_000
"""Ids a query: 40 KB of them, and a look-up well under the time of its round trip on a far server."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who holds money, and how much, in minor units of the ledger's currency."""

    id: str
    ledger: str
    currency: str
    scale: int
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int
    min_balance: int | None
    max_balance: int | None
    state: str
    version: int
    metadata: dict[str, Any] | None

    @property
    def balance(self) -> int:
        """What it holds, reserved or not."""
        return self.credits_posted - self.debits_posted

    @property
    def available(self) -> int:
        """What no hold reserves."""
        return self.balance - self.debits_pending

    def as_json(self) -> dict[str, object]:
        """Give the keys that other programs depend on, in their order (docs/cli.md)."""
        return {
            "id": self.id,
            "ledger": self.ledger,
            "balance": self.balance,
            "available": self.available,
            "debits_posted": self.debits_posted,
            "credits_posted": self.credits_posted,
            "debits_pending": self.debits_pending,
            "credits_pending": self.credits_pending,
            "min_balance": self.min_balance,
            "max_balance": self.max_balance,
            "state": self.state,
            "version": self.version,
        }


def find(connection: Connection, ids: Sequence[str], now: datetime | None = None) -> dict[str, Account]:
    """Look accounts up, all in one state of the books, with what is reserved `now` (None: by PostgreSQL's clock).

    What is no id, or nobody's, is absent.
    """
    now = now or server_clock(connection)
    found: dict[str, Account] = {}
    real = [id for id in ids if is_id(id)]
    for start in range(0, len(real), IDS_AT_ONCE):
        for row in connection.execute(_FIND, {"ids": array(real[start : start + IDS_AT_ONCE]), "now": now}):
            found[row.id] = Account(*row)
    return found


def answers(ids: Iterable[str], found: dict[str, Account]) -> Iterable[dict[str, object]]:
    """Give each id's answer for programs, in the order of the ids."""
    for id in ids:
        account = found.get(id)
        yield {"id": id, "state": "not_found"} if account is None else account.as_json()
