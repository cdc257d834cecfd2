"""The inbox: every decided command with its outcome, the one place where "exactly once" lives.

An applied transfer's content and outcome are not stored twice: they are rebuilt from the transfer's row,
by the functions that made them. Everything else keeps its own content and answer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Row, text

from models import outcomes, seals
from models.books import Ledger
from models.commands import Batch, Command, Member, PostTransfer
from models.content import content_of
from models.outcomes import Moved, Outcome
from models.statuses import Status
from worker.engine import sealing
from worker.postgres.engines import array, copy_lines, json_text


class Known(NamedTuple):
    """What an id stands for: its outcome, and where its content is, which only a second command with the id needs."""

    outcome: Outcome
    source: Command | Batch | Row[Any]

    def content(self) -> Mapping[str, Any]:
        """Give the content that the id was first used for."""
        return content_of(self.source) if isinstance(self.source, Command | Batch) else _content(self.source)


_ENVELOPE = ("id", "type", "status", "decided_at")

_LITERAL = {Status.MALFORMED.value, Status.ID_REUSED.value, Status.CHAIN_FAILED.value}
"""Outcomes that no row holds: a batch's row keeps them itself, and those of its dry members."""

_FIND = text(
    """
    SELECT i.id::text, i.type, i.status, i.decided_at, i.content, i.answer,
           t.sequence, t.source_id::text, t.destination_id::text, t.amount, t.kind, t.effective_at, t.metadata,
           t.source_balance, t.source_balance - coalesce(t.source_pending, 0) AS source_available, t.source_version,
           t.destination_balance, t.destination_balance - coalesce(t.destination_pending, 0) AS destination_available,
           t.destination_version
    FROM equipoise.inbox i
    LEFT JOIN equipoise.transfers t ON t.id = i.id AND i.answer IS NULL AND i.status = 'applied'
    WHERE i.id = ANY (cast(:ids AS uuid[]))
    """
)
_COPY = f"COPY equipoise.inbox ({', '.join(sealing.COMMAND)}, ledger, number, seal) FROM STDIN"


_UNSEALED = b"\t\\N\t\\N\t\\N\n"


class Sealed(NamedTuple):
    """A row of the inbox and its place in a ledger's chain; none where its transfer's row tells the same."""

    line: bytes
    ledger: Ledger | None = None
    number: int = 0
    seal: int = 0


def find(connection: Connection, ids: Sequence[str]) -> dict[str, Known]:
    """Look up which of these commands were decided; ids that were not are absent.

    To be called outside the transaction that decides: a look-up that finds nothing locks the index page
    where the id would be. A command decided in between makes the insert fail with 23505: begin again.
    """
    known: dict[str, Known] = {}
    batches: list[Row[Any]] = []
    for row in connection.execute(_FIND, {"ids": array(ids)}):
        if row.type == "batch":
            batches.append(row)
        else:
            known[row.id] = Known(_outcome(row), row)
    if batches:
        _add_batches(connection, batches, known)
    return known


def seal(decided: Iterable[Known], ledger_of: Callable[[Command | Batch], Ledger | None]) -> list[Sealed]:
    """Make one row for each command decided just now, and add it to the chain of its ledger, if it has one.

    To be called before the ledgers are written.
    """
    return [_sealed(known, ledger_of) for known in decided]


def store(connection: Connection, rows: Iterable[Sealed]) -> None:
    """Write the rows, in the transaction of what they tell; the ledgers must have been written."""
    copy_lines(connection, _COPY, map(_with_seal, rows))


def _sealed(known: Known, ledger_of: Callable[[Command | Batch], Ledger | None]) -> Sealed:
    outcome, command = known
    assert isinstance(command, Command | Batch)
    answer = _answer(command, outcome)
    envelope = f"{command.id}\t{seals.as_copied(outcome['decided_at'])}\t{command.type}\t{outcome['status']}\t"
    if answer is None and _is_in_its_transfer(command, outcome):
        return Sealed((envelope + "\\N\t\\N").encode())
    line = envelope.encode() + seals.line((json_text(content_of(command)), json_text(answer)))
    ledger = ledger_of(command)
    if ledger is None:
        return Sealed(line)
    ledger.commands += 1
    ledger.commands_head = seals.link(ledger.commands_head, line)
    return Sealed(line, ledger, ledger.commands, seals.seal(ledger.commands_head))


def _with_seal(row: Sealed) -> bytes:
    if row.ledger is None:
        return row.line + _UNSEALED
    return b"%b\t%b\n" % (row.line, seals.line((row.ledger.number, row.number, row.seal)))


def _answer(command: Command | Batch, outcome: Outcome) -> Mapping[str, Any] | None:
    """Say what of an outcome must be written: nothing beyond the envelope where its transfer tells the rest."""
    if isinstance(command, PostTransfer) and "transfers" in outcome:
        return None
    if isinstance(command, Batch):
        return {"outcomes": _layout(outcome["outcomes"], command.commands)}
    return {name: value for name, value in outcome.items() if name not in _ENVELOPE} or None


def _is_in_its_transfer(command: Command | Batch, outcome: Outcome) -> bool:
    """Whether the transfer's row tells the whole content: not where less was moved than was named."""
    return "transfers" in outcome and isinstance(command, PostTransfer) and not command.up_to


def _layout(nested: Sequence[Outcome | list[Outcome]], members: Sequence[Member | tuple[Member, ...]]) -> list[Any]:
    """Say how a batch's row remembers its members: by id where a row has the outcome, else the outcome itself."""
    layout: list[Any] = []
    for entry, member in zip(nested, members, strict=True):
        if isinstance(entry, list):
            assert isinstance(member, tuple)
            layout.append(_layout(entry, member))
        else:
            literal = entry["status"] in _LITERAL or (isinstance(member, Command) and member.dry_run)
            layout.append(entry if literal else entry["id"])
    return layout


def _content(row: Row[Any]) -> Mapping[str, Any]:
    if row.content is not None:
        stored: Mapping[str, Any] = orjson.loads(row.content)
        return stored
    content = {
        "type": row.type,
        "source_id": row.source_id,
        "destination_id": row.destination_id,
        "amount": row.amount,
        "kind": row.kind,
        "effective_at": row.effective_at and outcomes.timestamp(row.effective_at),
        "metadata": row.metadata,
    }
    return {name: value for name, value in content.items() if value is not None}


def _outcome(row: Row[Any]) -> Outcome:
    decided_at = outcomes.timestamp(row.decided_at)
    if row.sequence is None:
        return outcomes.decided(row.id, row.type, row.status, decided_at, row.answer and orjson.loads(row.answer))
    moved = Moved(
        row.id,
        row.sequence,
        row.source_id,
        row.destination_id,
        row.amount,
        {"balance": row.source_balance, "available": row.source_available, "version": row.source_version},
        {
            "balance": row.destination_balance,
            "available": row.destination_available,
            "version": row.destination_version,
        },
    )
    return outcomes.transferred(row.id, row.type, decided_at, moved)


def _add_batches(connection: Connection, batches: Sequence[Row[Any]], known: dict[str, Known]) -> None:
    """Put batches together from their members: an id in `answer` stands for the member's own outcome."""
    layouts = {row.id: orjson.loads(row.answer)["outcomes"] for row in batches}
    named = {id for layout in layouts.values() for id in _ids(layout)} - known.keys()
    members = known | find(connection, sorted(named)) if named else known

    def fill(layout: list[Any]) -> list[Any]:
        return [
            members[entry].outcome if isinstance(entry, str) else fill(entry) if isinstance(entry, list) else entry
            for entry in layout
        ]

    for row in batches:
        answer = {"outcomes": fill(layouts[row.id])}
        outcome = outcomes.decided(row.id, row.type, Status.APPLIED.value, outcomes.timestamp(row.decided_at), answer)
        known[row.id] = Known(outcome, row)


def _ids(layout: Iterable[Any]) -> Iterable[str]:
    for entry in layout:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, list):
            yield from _ids(entry)
