"""Everything that is known of one id: the command, its outcome, the money it moved, and what could not be read.

The outcome is rebuilt as a redelivery would get it, by the same function. Nothing is looked up by time or by guess:
the inbox, transfers and dead letters all hold the command's id.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from models.fields import is_id
from models.outcomes import Outcome, said, timestamp
from worker.engine import inbox
from worker.postgres.engines import array, server_clock
from worker.reading import dead_letters
from worker.reading.dead_letters import Letter
from worker.reading.deadlines import OVERDUE

_TRANSFERS = text(
    """
    SELECT t.id::text, ledger.name AS ledger, ledger.currency, ledger.scale, t.sequence, t.source_id::text,
           t.destination_id::text, t.amount, t.kind, t.effective_at, t.metadata, t.created_at,
           t.source_version, t.source_balance, t.source_balance - coalesce(t.source_pending, 0) AS source_available,
           t.destination_version, t.destination_balance,
           t.destination_balance - coalesce(t.destination_pending, 0) AS destination_available,
           t.command_id::text, t.hold_id::text, t.reverses::text, ARRAY (
               SELECT back.id::text FROM equipoise.transfers back WHERE back.reverses = t.id ORDER BY back.sequence
           ) AS reversed_by
    FROM equipoise.transfers t JOIN equipoise.ledgers ledger ON ledger.number = t.ledger
    WHERE t.id = ANY (cast(:ids AS uuid[])) OR t.hold_id = ANY (cast(:ids AS uuid[]))
       OR t.command_id = ANY (cast(:ids AS uuid[]))
    ORDER BY t.ledger, t.sequence
    """
)
_HOLDS = text(
    f"""
    SELECT id::text, name AS ledger, currency, scale, source_id::text, destination_id::text, amount,
           CASE WHEN ended THEN 0 ELSE remaining END, captured, CASE WHEN ended THEN 'expired' ELSE state END,
           expires_at, created_at, CASE WHEN ended THEN expires_at ELSE ended_at END
    FROM (
        SELECT hold.*, ledger.name, ledger.currency, ledger.scale,
               state = 'pending' AND {OVERDUE} IS TRUE AS ended
        FROM equipoise.holds hold JOIN equipoise.ledgers ledger ON ledger.number = hold.ledger
        WHERE hold.id = ANY (cast(:ids AS uuid[]))
    ) AS hold
    ORDER BY created_at, id
    """  # noqa: S608  # our own rule
)


@dataclass(frozen=True, slots=True)
class Side:
    """One entry of a transfer."""

    account_id: str
    side: str
    version: int
    change: int
    balance: int
    available: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money that moved, with both its entries."""

    id: str
    ledger: str
    currency: str
    scale: int
    sequence: int
    amount: int
    created_at: datetime
    kind: str | None
    effective_at: datetime | None
    metadata: Mapping[str, Any] | None
    entries: tuple[Side, Side]
    command_id: str | None = None
    """The command, where that has made several transfers."""
    hold_id: str | None = None
    reverses: str | None = None
    reversed_by: Sequence[str] = ()

    def as_json(self) -> dict[str, object]:
        """Give it for programs; what was not said of it is left out."""
        told: dict[str, object] = {
            "id": self.id,
            "ledger": self.ledger,
            "currency": self.currency,
            "scale": self.scale,
            "sequence": self.sequence,
            "amount": self.amount,
            "created_at": timestamp(self.created_at),
        }
        told |= said(
            kind=self.kind,
            effective_at=self.effective_at and timestamp(self.effective_at),
            metadata=self.metadata,
        )
        told["entries"] = [_side_json(side) for side in self.entries]
        return told | said(
            command_id=self.command_id,
            hold_id=self.hold_id,
            reverses=self.reverses,
            reversed_by=self.reversed_by or None,
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """Money that is, or was, reserved."""

    id: str
    ledger: str
    currency: str
    scale: int
    source_id: str
    destination_id: str
    amount: int
    remaining: int
    captured: int
    state: str
    expires_at: datetime | None
    created_at: datetime
    ended_at: datetime | None

    def as_json(self) -> dict[str, object]:
        """Give it for programs."""
        moments = {name: getattr(self, name) for name in ("expires_at", "created_at", "ended_at")}
        return asdict(self) | {name: moment and timestamp(moment) for name, moment in moments.items()}


@dataclass(frozen=True, slots=True)
class Trace:
    """What an id stands for. `outcome` and `content` are None where no command with it was decided."""

    id: str
    outcome: Outcome | None
    content: Mapping[str, Any] | None
    transfers: list[Transfer] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether anything is known of it."""
        return self.outcome is not None or bool(self.transfers or self.letters or self.holds)

    def members(self) -> Iterator[tuple[str, Outcome]]:
        """Give a batch's members with their places (`3`, or `3.1` in a chain), in decision order."""
        entries: list[Any] = self.outcome.get("outcomes", []) if self.outcome else []
        for place, entry in enumerate(entries):
            if isinstance(entry, list):
                yield from ((f"{place}.{step}", member) for step, member in enumerate(entry))
            else:
                yield str(place), entry

    def as_json(self) -> dict[str, object]:
        """Give all of it for programs (docs/cli.md)."""
        return {
            "id": self.id,
            "outcome": self.outcome,
            "content": self.content,
            "transfers": [transfer.as_json() for transfer in self.transfers],
            "dead_letters": [letter.as_json() for letter in self.letters],
            "holds": [hold.as_json() for hold in self.holds],
        }


def trace(connection: Connection, id: str) -> Trace:
    """Follow an id, of a command, a batch or a transfer, to everything it left behind."""
    if not is_id(id):
        return Trace(id, None, None)
    known = inbox.find(connection, [id]).get(id)
    told = Trace(id, known.outcome if known else None, known.content() if known else None)
    moved = {id} | _transfer_ids(told.outcome) | {one for _, member in told.members() for one in _transfer_ids(member)}
    told.transfers.extend(_transfer(row) for row in connection.execute(_TRANSFERS, {"ids": array(moved)}))
    held = {id} | {transfer.hold_id for transfer in told.transfers if transfer.hold_id}
    told.holds.extend(
        Hold(*row) for row in connection.execute(_HOLDS, {"ids": array(held), "now": server_clock(connection)})
    )
    told.letters.extend(dead_letters.of_command(connection, id))
    return told


def _transfer_ids(outcome: Outcome | None) -> set[str]:
    return {transfer["id"] for transfer in outcome.get("transfers", [])} if outcome else set()


def _transfer(row: Any) -> Transfer:
    source = Side(row.source_id, "debit", row.source_version, -row.amount, row.source_balance, row.source_available)
    destination = Side(
        row.destination_id,
        "credit",
        row.destination_version,
        row.amount,
        row.destination_balance,
        row.destination_available,
    )
    return Transfer(
        id=row.id,
        ledger=row.ledger,
        currency=row.currency,
        scale=row.scale,
        sequence=row.sequence,
        amount=row.amount,
        created_at=row.created_at,
        kind=row.kind,
        effective_at=row.effective_at,
        metadata=row.metadata,
        entries=(source, destination),
        command_id=row.command_id,
        hold_id=row.hold_id,
        reverses=row.reverses,
        reversed_by=row.reversed_by,
    )


def _side_json(side: Side) -> dict[str, object]:
    return {
        "account_id": side.account_id,
        "side": side.side,
        "version": side.version,
        "change": side.change,
        "balance": side.balance,
        "available": side.available,
    }
