"""The command that tells of one command: `trace`."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from models.money import written
from models.outcomes import timestamp
from worker.cli.arguments import AsJson, quoted
from worker.cli.endings import Failed, Status
from worker.cli.show import console, json_lines, plain, table, typed
from worker.reading.reader import reader
from worker.reading.trace import Hold, Trace, Transfer
from worker.reading.trace import trace as trace_of
from worker.settings import Settings, database_url


def trace(
    id: Annotated[str, typer.Argument(metavar="COMMAND_ID", help="A command's, a batch's or a transfer's id.")],
    json: AsJson = False,
) -> None:
    """Follow a command to its outcome, the money it moved, and its dead letters."""
    with reader(database_url(Settings())) as engine, engine.connect() as connection:
        traced = trace_of(connection, typed(id))
    if json:
        json_lines([traced.as_json()])
    elif traced.found:
        console().print(traced_as_text(traced))
    if not traced.found:
        raise Failed(Status.NO, f"nothing is known of {quoted(id)}")


def traced_as_text(traced: Trace) -> RenderableType:
    """Tell of a command from the message to the entries."""
    told: list[RenderableType] = []
    if traced.outcome is not None:
        outcome = traced.outcome
        told.append(f"{outcome['type']} {outcome['id']}: [bold]{outcome['status']}[/] at {outcome['decided_at']}")
        if traced.content is not None:
            fields = {name: value for name, value in traced.content.items() if name not in ("type", "commands")}
            told.append(Text.from_markup("  " + plain(", ".join(f"{name} {value}" for name, value in fields.items()))))
        members = table("place", "member", "type", "status")
        for place, member in traced.members():
            members.add_row(place, plain(member.get("id", "")), plain(member.get("type", "")), member["status"])
        told += [members] if members.row_count else []
    elif traced.transfers:
        told.append(f"no command {traced.id} was decided")
    told += [_held(hold) for hold in traced.holds]
    told += [part for transfer in traced.transfers for part in _moved(transfer)]
    for letter in traced.letters:
        told.append(f"dead letter {letter.id}: {letter.reason}: {plain(letter.detail)}")
    return Group(*told)


def _moved(transfer: Transfer) -> list[RenderableType]:
    kind = f" ({plain(transfer.kind)})" if transfer.kind else ""
    amount = written(transfer.amount, transfer.currency, transfer.scale)
    laid = table(
        "account",
        "entry",
        "change",
        "balance",
        "available",
        right=("entry", "change", "balance", "available"),
        ids=("account",),
    )
    for side in transfer.entries:
        money = (written(it, transfer.currency, transfer.scale) for it in (side.change, side.balance, side.available))
        laid.add_row(side.account_id, str(side.version), *money)
    title = f"transfer {transfer.id}: {amount}{kind}, number {transfer.sequence} of ledger {transfer.ledger}"
    links = [f"  {what} {id}" for what, id in _links(transfer)]
    return [title, *links, laid]


def _links(transfer: Transfer) -> Iterator[tuple[str, str]]:
    """Name what a transfer belongs to, in a word and an id each."""
    linked = {
        "one of those of command": transfer.command_id,
        "captures hold": transfer.hold_id,
        "reverses transfer": transfer.reverses,
    }
    yield from ((what, id) for what, id in linked.items() if id)
    yield from (("is reversed by transfer", id) for id in transfer.reversed_by)


def _held(hold: Hold) -> str:
    amount, remaining = (written(it, hold.currency, hold.scale) for it in (hold.amount, hold.remaining))
    until = f", until {timestamp(hold.expires_at)}" if hold.expires_at and not hold.ended_at else ""
    return f"hold {hold.id}: {amount} from {hold.source_id}, {hold.state}, {remaining} reserved{until}"
