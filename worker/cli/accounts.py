"""The commands about accounts: `account` and `statement`."""

from typing import Annotated

import typer
from rich.console import RenderableType

from models.money import written
from models.outcomes import timestamp
from worker.cli.arguments import AsJson, from_stdin, moment, quoted
from worker.cli.endings import Failed, Status
from worker.cli.show import console, json_lines, plain, table, typed
from worker.reading import accounts
from worker.reading.reader import reader
from worker.reading.statement import Entry, Statement, pages
from worker.reading.statement import statement as statement_of
from worker.settings import Settings, database_url


def account(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Accounts; - reads ids from standard input.")],
    json: AsJson = False,
) -> None:
    """Show accounts: balances, limits, state."""
    wanted = [typed(id) for given in ids for id in (from_stdin() if given == "-" else [given])]
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
        raise Failed(Status.NO, f"there is no account {quoted(missing[0])}{more}")


def statement(
    id: Annotated[str, typer.Argument(metavar="ID", help="The account.")],
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="As it stood then, such as 2026-11-23T12:00:00Z.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Show an account's entries, each with the balance after it."""
    known = None if at is None else moment(at, "--at")
    with reader(database_url(Settings())) as engine:
        stated = statement_of(engine, id, known)
        if stated is None:
            raise Failed(Status.NO, f"there is no account {quoted(id)}")
        if json:
            json_lines([stated.as_json()])
            for page in pages(engine, stated):
                json_lines(entry.as_json() for entry in page)
            return
        out = console()
        for page in pages(engine, stated):
            out.print(_entries(page, stated))
        out.print(_stated(stated))


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
