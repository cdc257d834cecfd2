"""The commands about accounts: `account`, now and with what is reserved, and `statement`, at any time."""

from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from typing import Annotated

import typer
from rich.console import RenderableType
from sqlalchemy import Engine

from models.money import written
from models.outcomes import timestamp
from worker.cli.arguments import AsJson, from_stdin, moment, quoted
from worker.cli.endings import Failed, Status
from worker.cli.show import console, json_lines, plain, table, typed
from worker.postgres.engines import server_clock
from worker.reading import accounts, open_holds
from worker.reading.accounts import Account
from worker.reading.effective import CountedEntry, EffectiveStatement, effective_statement
from worker.reading.effective import entries as entries_counted
from worker.reading.open_holds import OpenHolds
from worker.reading.reader import reader
from worker.reading.statement import ENTRIES_AT_ONCE, Entry, Statement, pages
from worker.reading.statement import statement as statement_of
from worker.settings import Settings, database_url


def account(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Accounts; - reads ids from standard input.")],
    json: AsJson = False,
    holds: Annotated[bool, typer.Option("--holds", help="And the pending holds on them, of the same moment.")] = False,
) -> None:
    """Show accounts: balances, limits, state."""
    wanted = [typed(id) for given in ids for id in (from_stdin() if given == "-" else [given])]
    with reader(database_url(Settings())) as engine, engine.connect() as connection:
        now = server_clock(connection)
        found = accounts.find(connection, wanted, now)
        held = open_holds.find(connection, found, now) if holds else {}
    if json:
        json_lines(_with_holds(answer, held) for answer in accounts.answers(wanted, found))
        return
    shown = [found[id] for id in wanted if id in found]
    if shown:
        console().print(_accounts(shown))
    for one in shown:
        if one.id in held:
            console().print(_holds(held[one.id], one))
    missing = [id for id in wanted if id not in found]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise Failed(Status.NO, f"there is no account {quoted(missing[0])}{more}")


def statement(
    id: Annotated[str, typer.Argument(metavar="ID", help="The account.")],
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="As it stood then, such as 2026-11-23T12:00:00Z.")
    ] = None,
    effective: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="What counts by then, by `effective_at`; with --at, as it was known then."),
    ] = None,
    balance: Annotated[bool, typer.Option("--balance", help="The balance alone, without the entries.")] = False,
    json: AsJson = False,
) -> None:
    """Show an account's entries, each with the balance after it."""
    known = None if at is None else moment(at, "--at")
    counting = None if effective is None else moment(effective, "--effective")
    with reader(database_url(Settings())) as engine:
        if counting is None:
            stated = statement_of(engine, id, known)
            if stated is not None:
                return _show(engine, stated, entries=not balance, json=json)
        else:
            counted = effective_statement(engine, id, counting, known)
            if counted is not None:
                return _show_effective(engine, counted, entries=not balance, json=json)
    raise Failed(Status.NO, f"there is no account {quoted(id)}")


def _show(engine: Engine, stated: Statement, *, entries: bool, json: bool) -> None:
    if json:
        json_lines([stated.as_json()])
    for page in pages(engine, stated) if entries else ():
        if json:
            json_lines(entry.as_json() for entry in page)
        else:
            console().print(_entries(page, stated))
    if not json:
        console().print(_stated(stated))


def _show_effective(engine: Engine, stated: EffectiveStatement, *, entries: bool, json: bool) -> None:
    if json:
        json_lines([stated.as_json()])
    rest = entries_counted(engine, stated) if entries else iter(())
    while page := list(islice(rest, ENTRIES_AT_ONCE)):
        if json:
            json_lines(entry.as_json() for entry in page)
        else:
            console().print(_counted(page, stated))
    if not json:
        console().print(_stated_effective(stated))


def _with_holds(answer: dict[str, object], held: dict[str, OpenHolds]) -> dict[str, object]:
    of_it = held.get(str(answer["id"]))
    return answer if of_it is None else answer | of_it.as_json()


def _accounts(shown: Iterable[Account]) -> RenderableType:
    numbers = ("balance", "available", "at least", "at most", "entries")
    laid = table("id", "ledger", *numbers, "state", right=numbers, ids=("id",))
    for one in shown:
        laid.add_row(
            one.id,
            one.ledger,
            *(_money(amount, one) for amount in (one.balance, one.available, one.min_balance, one.max_balance)),
            str(one.version),
            one.state,
        )
    return laid


def _holds(held: OpenHolds, account: Account) -> RenderableType:
    if not held.holds:
        return f"{account.id}: no hold is pending"
    numbers = ("reserved", "of", "captured")
    laid = table("hold", "from or to", *numbers, "until", right=numbers, ids=("hold", "from or to"))
    laid.title = f"holds pending on {account.id}" + (", the first of them" if held.more else "")
    for hold in held.holds:
        sign = -1 if hold.side == "debit" else 1
        laid.add_row(
            hold.id,
            hold.other_id,
            *(_money(it, account) for it in (sign * hold.remaining, hold.amount, hold.captured)),
            _until(hold.expires_at),
        )
    return laid


def _until(expires_at: datetime | None) -> str:
    return "no deadline" if expires_at is None else timestamp(expires_at)[:19]


def _entries(page: list[Entry], stated: Statement) -> RenderableType:
    return _lines("decided at", ((entry, entry.created_at, entry.balance) for entry in page), stated.account)


def _counted(page: list[CountedEntry], stated: EffectiveStatement) -> RenderableType:
    return _lines("counts from", ((it.entry, it.moment, it.balance) for it in page), stated.account)


def _lines(when: str, lines: Iterable[tuple[Entry, datetime, int]], account: Account) -> RenderableType:
    numbers = ("entry", "change", "balance")
    laid = table("entry", when, "kind", "from or to", "change", "balance", right=numbers, ids=("from or to",))
    for entry, then, balance in lines:
        laid.add_row(
            str(entry.version),
            timestamp(then),
            plain(entry.kind or ""),
            entry.other_id,
            _money(entry.change, account),
            _money(balance, account),
        )
    return laid


def _stated(stated: Statement) -> str:
    account = stated.account
    balance, available = (_money(amount, account) for amount in (stated.balance, stated.available))
    return f"{account.id} {_then(stated.at)}: [bold]{balance}[/], available {available}, {stated.version} entries"


def _stated_effective(stated: EffectiveStatement) -> str:
    balance = _money(stated.balance, stated.account)
    until = f"effective {timestamp(stated.effective)}, as known {_then(stated.at)}"
    return f"{stated.account.id} {until}: [bold]{balance}[/], {stated.entries} entries"


def _then(at: datetime | None) -> str:
    return f"at {timestamp(at)}" if at else "now"


def _money(amount: int | None, account: Account) -> str:
    return "" if amount is None else written(amount, account.currency, account.scale)
