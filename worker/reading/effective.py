"""An account's statement by effective date: what counted at a time, as it was known then or is known now.

An entry counts from its `effective_at` on, and where its sender gave none from its commit. So there are two times: what
counts until (`effective`), and what was committed until (`at`). A transfer that is dated back changes what is known now
of a past day, and never what was known on it. Reservations have no effective date, hence no `available` here.

The balance is not added up from the beginning. It is the balance by commits at the earlier of the two times, less what
was committed by then and counts only later, and with what was committed later and counts by then. Only entries with an
`effective_at` can be either, and those have indexes of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from typing import Any

from sqlalchemy import Engine, TextClause, text

from models.outcomes import timestamp
from worker.reading.accounts import Account, find
from worker.reading.moments import version_at
from worker.reading.statement import ENTRIES_AT_ONCE, ENTRY, Entry, balance_after

# Either branch is read through the account's dated entries or through its versions, whichever range is shorter.
_DIFFERENCE = text(
    """
    SELECT coalesce(sum(change), 0)::bigint AS change, coalesce(sum(entries), 0)::bigint AS entries
    FROM (
        SELECT -change AS change, -1 AS entries FROM equipoise.entries
        WHERE account_id = cast(:id AS uuid) AND effective_at > cast(:effective AS timestamptz) AND version <= :counted
        UNION ALL
        SELECT change, 1 FROM equipoise.entries
        WHERE account_id = cast(:id AS uuid) AND effective_at <= cast(:effective AS timestamptz)
          AND version > :counted AND version <= :known
    ) dated
    """
)
# Where the planner believes dated entries to be few, it would sort all of them for each page.
_IN_ORDER = text("SELECT set_config('enable_sort', 'off', true)")
_UNDATED = text(
    f"""
    SELECT {ENTRY} FROM equipoise.entries
    WHERE account_id = cast(:id AS uuid) AND effective_at IS NULL AND version > :version AND version <= :counted
    ORDER BY version LIMIT :count
    """  # noqa: S608  # of our own constants
)
_DATED = text(
    f"""
    SELECT {ENTRY} FROM equipoise.entries
    WHERE account_id = cast(:id AS uuid) AND effective_at <= cast(:effective AS timestamptz) AND version <= :known
      AND (effective_at, version) > (cast(:moment AS timestamptz), :version)
    ORDER BY effective_at, version LIMIT :count
    """  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class EffectiveStatement:
    """What an account held at `effective`, as known after its first `known` entries: those until `at`."""

    account: Account
    at: datetime | None
    effective: datetime
    balance: int
    entries: int
    """How many count."""
    known: int
    counted: int
    """Entries committed by the earlier of the two times: an undated one among the known counts if it is one of them."""

    def as_json(self) -> dict[str, object]:
        """Give the first line of the statement for programs; each entry is a line of its own."""
        return {
            "account_id": self.account.id,
            "ledger": self.account.ledger,
            "currency": self.account.currency,
            "scale": self.account.scale,
            "at": self.at and timestamp(self.at),
            "effective": timestamp(self.effective),
            "balance": self.balance,
            "entries": self.entries,
            "version": self.known,
        }


@dataclass(frozen=True, slots=True)
class CountedEntry:
    """An entry in its place by effective date, with the balance there."""

    entry: Entry
    balance: int

    @property
    def moment(self) -> datetime:
        """When it counts from."""
        return _moment(self.entry)

    def as_json(self) -> dict[str, object]:
        """Give it for programs: an entry without what was available, and the balance in this order."""
        told = self.entry.as_json() | {"balance": self.balance}
        del told["available"]
        return told


def effective_statement(
    engine: Engine, account_id: str, effective: datetime, at: datetime | None = None
) -> EffectiveStatement | None:
    """Say what the account held by effective date; None where there is no such account."""
    with engine.connect() as connection:
        account = find(connection, [account_id]).get(account_id)
        if account is None:
            return None
        known = account.version if at is None else version_at(connection, account_id, account.version, at)
        counted = version_at(connection, account_id, known, effective)
        balance, _ = balance_after(connection, account_id, counted)
        bounds = {"id": account_id, "effective": effective, "counted": counted, "known": known}
        dated = connection.execute(_DIFFERENCE, bounds).one()
    return EffectiveStatement(account, at, effective, balance + dated.change, counted + dated.entries, known, counted)


def entries(engine: Engine, stated: EffectiveStatement) -> Iterator[CountedEntry]:
    """Give the entries that count, in the order of their effective moments, then of their commits.

    Two orders that indexes have are merged, each read a page and a transaction at a time.
    """
    balance = 0
    for entry in merge(_read(engine, stated, _UNDATED), _read(engine, stated, _DATED), key=_place):
        balance += entry.change
        yield CountedEntry(entry, balance)


def _read(engine: Engine, stated: EffectiveStatement, query: TextClause) -> Iterator[Entry]:
    bounds = {
        "id": stated.account.id,
        "effective": stated.effective,
        "counted": stated.counted,
        "known": stated.known,
        "count": ENTRIES_AT_ONCE,
    }
    place: dict[str, Any] = {"moment": "-infinity", "version": 0}
    while True:
        with engine.connect() as connection:
            connection.execute(_IN_ORDER)
            page = [Entry(*row) for row in connection.execute(query, bounds | place)]
        yield from page
        if len(page) < ENTRIES_AT_ONCE:
            return
        place = dict(zip(("moment", "version"), _place(page[-1]), strict=True))


def _moment(entry: Entry) -> datetime:
    return entry.effective_at or entry.created_at


def _place(entry: Entry) -> tuple[datetime, int]:
    return _moment(entry), entry.version
