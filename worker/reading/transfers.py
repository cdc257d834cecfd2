"""Transfers by account or ledger, time, kind, metadata and amount: a page at a time, in the order of commits.

The order is that of `sequence`, which is also the cursor: a page begins after a transfer, and what came since moves
nobody else's place. There are two ways to a page, and this module, not the planner, chooses between them:

- to **walk** from the cursor in the order of an index that has it: the ledger's sequence, a kind's, or an account's
  versions. It is short where what is asked for is common, or where the times leave little to walk;
- to **pick**: where metadata, a kind or an amount stand in few transfers of the ledger, those are found by the index of
  just that, and the page is taken from them.

The planner walks wherever it believes matches to be common, and it interpolates what it does not know: of a million
transfers it walked 395,000 to the 50 newest of 125 large ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, TextClause, text

from models.outcomes import said, timestamp
from worker.postgres.engines import array
from worker.reading.accounts import Account
from worker.reading.moments import sequence_before, version_of

TRANSFERS_AT_ONCE = 500
"""Transfers a page, about 100 KB."""
FEW = 1_000
"""Transfers to pick from. Where more match, one in 10,000 of ten million, a walk meets a page of 50 within 500,000."""

# No page is worth a scan of a table that only grows, however cheap it looks in a small one. Plans are made for the
# values that are asked for, since those decide which index is the short one.
_PLAN = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)"
)

_LEDGER = text("SELECT number, name, currency, scale, sequence FROM equipoise.ledgers WHERE name = :name")

# The account stands outside the union: PostgreSQL merges the two in the order of their indexes only if they are bare.
_OF_LEDGER = "SELECT sequence AS place, * FROM equipoise.transfers"
_OF_ACCOUNT = """
        SELECT source_id AS account_id, source_version AS place, * FROM equipoise.transfers
        UNION ALL
        SELECT destination_id, destination_version, * FROM equipoise.transfers
"""
_PAGE = """
    SELECT place, id::text, sequence, source_id::text, destination_id::text, amount, created_at, kind, effective_at,
           metadata, hold_id::text, reverses::text, command_id::text
    FROM ({transfers}) transfer
    WHERE {conditions}
    ORDER BY place {direction} LIMIT :count
"""
_METADATA = "metadata @> cast(:metadata AS jsonb)"
_KIND = "kind = :kind"
_AMOUNT = "amount BETWEEN :least AND :most"

# Each in the order of its index, so that this one serves it; that of metadata has no order.
_MATCHES = "SELECT sequence FROM equipoise.transfers WHERE ledger = :ledger AND {condition} {order} LIMIT :count"
_BY_METADATA = text(_MATCHES.format(condition=_METADATA, order=""))
_BY_KIND = text(_MATCHES.format(condition=_KIND, order="ORDER BY sequence"))
_BY_AMOUNT = text(_MATCHES.format(condition=_AMOUNT, order="ORDER BY amount"))


@dataclass(frozen=True, slots=True)
class Ledger:
    """The book that is read, and how many transfers it has: what comes later is not in the answer."""

    number: int
    name: str
    currency: str
    scale: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for in a ledger, or in an account of it. Times: from `since`, before `until`; None: all."""

    ledger: Ledger
    account: Account | None = None
    since: datetime | None = None
    until: datetime | None = None
    kind: str | None = None
    metadata: str | None = None
    """A JSON object that the transfer's contains."""
    amounts: tuple[int, int] | None = None
    """The least and the most, in minor units."""
    after: int | None = None
    """The sequence of the last transfer that is not wanted again."""
    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money that moved."""

    id: str
    sequence: int
    source_id: str
    destination_id: str
    amount: int
    created_at: datetime
    kind: str | None
    effective_at: datetime | None
    metadata: dict[str, Any] | None
    hold_id: str | None
    reverses: str | None
    command_id: str | None

    def as_json(self, ledger: Ledger) -> dict[str, object]:
        """Give it for programs; what was not said of it is left out."""
        told: dict[str, object] = {
            "id": self.id,
            "ledger": ledger.name,
            "currency": ledger.currency,
            "scale": ledger.scale,
            "sequence": self.sequence,
            "source_id": self.source_id,
            "destination_id": self.destination_id,
            "amount": self.amount,
            "created_at": timestamp(self.created_at),
        }
        return told | said(
            kind=self.kind,
            effective_at=self.effective_at and timestamp(self.effective_at),
            metadata=self.metadata,
            hold_id=self.hold_id,
            reverses=self.reverses,
            command_id=self.command_id,
        )


def find_ledger(connection: Connection, name: str) -> Ledger | None:
    """Look a ledger up by its name; None where there is none."""
    row = connection.execute(_LEDGER, {"name": name}).one_or_none()
    return None if row is None else Ledger(*row)


def transfers(engine: Engine, query: Query, most: int | None = None) -> Iterator[Transfer]:
    """Give the transfers that match, at most so many, a transaction a page."""
    with _looking(engine) as connection:
        low, high = _span(connection, query)
        condition, picked = _few(connection, query) if high - low > FEW else (None, [])
    if condition is not None and not picked:
        return  # nothing in the whole ledger meets it
    statement = _page(query, condition)
    left = high - low if most is None else most
    while low < high and left > 0:
        count = min(left, TRANSFERS_AT_ONCE)
        bounds = _bounds(query) | {"low": low, "high": high, "few": array(picked), "count": count}
        with _looking(engine) as connection:
            page = connection.execute(statement, bounds).all()
        yield from (Transfer(*row[1:]) for row in page)
        if len(page) < count:
            return
        left -= count
        low, high = (page[-1].place, high) if query.oldest_first else (low, page[-1].place - 1)


@contextmanager
def _looking(engine: Engine) -> Iterator[Connection]:
    """Open a transaction whose statements are planned as this module wants them."""
    with engine.connect() as connection:
        connection.execute(_PLAN)
        yield connection


def _span(connection: Connection, query: Query) -> tuple[int, int]:
    """Give the places between which to look, without the first: the ledger's, or the account's own."""
    low, high = 0, query.ledger.sequence
    if query.since is not None:
        low = sequence_before(connection, query.ledger.number, high, query.since)
    if query.until is not None:
        high = sequence_before(connection, query.ledger.number, high, query.until)
    if query.after is not None:
        low, high = (max(low, query.after), high) if query.oldest_first else (low, min(high, query.after - 1))
    if query.account is not None:
        id, last = query.account.id, query.account.version
        low, high = (version_of(connection, id, last, sequence) for sequence in (low, high))
    return low, high


def _few(connection: Connection, query: Query) -> tuple[str | None, list[int]]:
    """Give the condition that few of the ledger's transfers meet, with their sequences; None: there is no such."""
    ways = [
        (_METADATA, _BY_METADATA, query.metadata is not None),
        (_KIND, _BY_KIND, query.kind is not None and query.account is not None),  # a ledger's are walked in their order
        (_AMOUNT, _BY_AMOUNT, query.amounts is not None),
    ]
    for condition, statement, asked in ways:
        if asked:
            found = connection.execute(statement, _bounds(query) | {"count": FEW + 1}).scalars().all()
            if len(found) <= FEW:
                return condition, list(found)
    return None, []


def _page(query: Query, way: str | None) -> TextClause:
    """Write the query of a page; what leads to few transfers is not asked of them again."""
    conditions = {
        "ledger = :ledger": query.account is None or way is not None,
        "account_id = cast(:account AS uuid)": query.account is not None,
        "place > :low AND place <= :high": True,
        "sequence = ANY (cast(:few AS bigint[]))": way is not None,
        _KIND: query.kind is not None and way != _KIND,
        _METADATA: query.metadata is not None and way != _METADATA,
        _AMOUNT: query.amounts is not None and way != _AMOUNT,
    }
    return text(
        _PAGE.format(
            transfers=_OF_LEDGER if query.account is None else _OF_ACCOUNT,
            conditions=" AND ".join(condition for condition, asked in conditions.items() if asked),
            direction="ASC" if query.oldest_first else "DESC",
        )
    )


def _bounds(query: Query) -> dict[str, object]:
    least, most = query.amounts or (None, None)
    return {
        "ledger": query.ledger.number,
        "account": query.account and query.account.id,
        "kind": query.kind,
        "metadata": query.metadata,
        "least": least,
        "most": most,
    }
