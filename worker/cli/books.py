"""The commands that read the books: `account`, `statement` and `trace`."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from models.money import written
from models.outcomes import timestamp
from worker.cli.endings import Failed, Status
from worker.cli.show import console, json_lines, plain, table, typed
from worker.reading import accounts
from worker.reading.reader import reader
from worker.reading.statement import Entry, Statement, pages
from worker.reading.statement import statement as statement_of
from worker.reading.trace import Hold, Trace, Transfer
from worker.reading.trace import trace as trace_of
from worker.settings import Settings, database_url

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


def account(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Accounts; - reads ids from standard input.")],
    json: AsJson = False,
) -> None:
    """Show accounts: balances, limits, state."""
    wanted = [typed(id) for given in ids for id in (_from_stdin() if given == "-" else [given])]
    with reader(database_url(Settings())) as engine, engine.connect() as connection:
        found = accounts.find(connection, wanted)
    if json:
        json_lines(accounts.answers(wanted, found))
        return
    numbers = ("balance", "available", "at least", "at most", "entries")
    laid = table("id", "ledger", *numbers, "state", right=numbers, ids=("id",))
    for one in (found[id] for id in wanted if id in found):
        laid.add_row(
            one.id,
            one.ledger,
            *(_money(amount, one) for amount in (one.balance, one.available, one.min_balance, one.max_balance)),
            str(one.version),
            one.state,
        )
    if laid.row_count:
        console().print(laid)
    missing = [id for id in wanted if id not in found]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise Failed(Status.NO, f"there is no account {_quoted(missing[0])}{more}")


def statement(
    id: Annotated[str, typer.Argument(metavar="ID", help="The account.")],
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="As it stood then, such as 2026-11-23T12:00:00Z.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Show an account's entries, each with the balance after it."""
    moment = None if at is None else _moment(at)
    with reader(database_url(Settings())) as engine:
        stated = statement_of(engine, id, moment)
        if stated is None:
            raise Failed(Status.NO, f"there is no account {_quoted(id)}")
        if json:
            json_lines([stated.as_json()])
            for page in pages(engine, stated):
                json_lines(entry.as_json() for entry in page)
            return
        out = console()
        for page in pages(engine, stated):
            out.print(_entries(page, stated))
        out.print(_stated(stated))


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
        raise Failed(Status.NO, f"nothing is known of {_quoted(id)}")


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


def _entries(page: list[Entry], stated: Statement) -> RenderableType:
    account = stated.account
    laid = table(
        "entry",
        "decided at",
        "kind",
        "from or to",
        "change",
        "balance",
        right=("entry", "change", "balance"),
        ids=("from or to",),
    )
    for entry in page:
        laid.add_row(
            str(entry.version),
            timestamp(entry.created_at),
            plain(entry.kind or ""),
            entry.other_id,
            written(entry.change, account.currency, account.scale),
            written(entry.balance, account.currency, account.scale),
        )
    return laid


def _stated(stated: Statement) -> str:
    account = stated.account
    moment = f"at {timestamp(stated.at)}" if stated.at else "now"
    balance, available = (
        written(amount, account.currency, account.scale) for amount in (stated.balance, stated.available)
    )
    return f"{account.id} {moment}: [bold]{balance}[/], available {available}, {stated.version} entries"


def _money(amount: int | None, account: accounts.Account) -> str:
    return "" if amount is None else written(amount, account.currency, account.scale)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time, such as 2026-11-23T12:00:00Z", param_hint="--at") from error
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone: end it with Z, or +01:00", param_hint="--at")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise typer.BadParameter(f"{text!r} is outside the years 1 to 9999 of UTC", param_hint="--at") from error


def _from_stdin() -> list[str]:
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split()


def _quoted(id: str) -> str:
    """Show what somebody typed, on one line."""
    return f"{id[:80]!a}"
