"""The command that looks for transfers: `transfers`, by ledger or account, time, kind, metadata and amount."""

from functools import partial
from typing import Annotated, Any

import orjson
import typer
from rich.console import RenderableType
from sqlalchemy import Connection

from models.contract import MAX_AMOUNT, MAX_COUNTER, MAX_DEPTH
from models.money import written
from models.outcomes import timestamp
from worker.cli.arguments import MAX_LIMIT, AsJson, moment, quoted
from worker.cli.arguments import amount as amount_of
from worker.cli.endings import Failed, Status
from worker.cli.show import console, json_lines, plain, table, typed
from worker.intake.decoder import Unreadable, decode, depth, first_flaw
from worker.reading import accounts
from worker.reading.accounts import Account
from worker.reading.reader import reader
from worker.reading.transfers import Ledger, Query, Transfer, find_ledger
from worker.reading.transfers import transfers as transfers_of
from worker.settings import Settings, database_url

SHOWN_TO_PEOPLE = 50
"""A screen or two; programs get all unless they say otherwise."""

LEAST_AMOUNT = 1
"""What the contract lets move at the least, in minor units; see `MAX_AMOUNT`."""


def transfers(
    ledger: Annotated[str | None, typer.Option(metavar="NAME", help="All of a ledger's.")] = None,
    account: Annotated[str | None, typer.Option(metavar="ID", help="Those from and to an account.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Committed then or later.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Committed before then.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Of this kind.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=TEXT", help="With this text in the metadata; may be repeated.")
    ] = None,
    metadata_json: Annotated[
        str | None,
        typer.Option(metavar="OBJECT", help="""With this in the metadata, such as '{"order": {"no": 7}}'."""),
    ] = None,
    amount: Annotated[str | None, typer.Option(metavar="AMOUNT", help="Of exactly this, such as 12.50.")] = None,
    min_amount: Annotated[str | None, typer.Option(metavar="AMOUNT", help="Of this or more.")] = None,
    max_amount: Annotated[str | None, typer.Option(metavar="AMOUNT", help="Of this or less.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MAX_LIMIT, help="So many; people get 50, programs all.")
    ] = None,
    after: Annotated[
        int | None, typer.Option(metavar="SEQUENCE", min=1, max=MAX_COUNTER, help="Go on after this transfer.")
    ] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In the order of commits.")] = False,
    json: AsJson = False,
) -> None:
    """Look for transfers, newest first. Needs --ledger or --account; all that is said must be so."""
    if (ledger is None) == (account is None):
        raise typer.BadParameter("name the ledger or the account to look in, one of them", param_hint="--ledger")
    begins = None if since is None else moment(since, "--since")
    ends = None if until is None else moment(until, "--until")
    contained = _metadata(metadata or [], metadata_json)
    with reader(database_url(Settings())) as engine:
        with engine.connect() as connection:
            book, side = _book(connection, ledger, account)
        query = Query(
            book,
            side,
            since=begins,
            until=ends,
            kind=None if kind is None else typed(kind),
            metadata=contained,
            amounts=_amounts(book, amount, min_amount, max_amount),
            after=after,
            oldest_first=oldest_first,
        )
        if json:
            json_lines(transfer.as_json(book) for transfer in transfers_of(engine, query, limit))
            return
        most = limit or SHOWN_TO_PEOPLE
        found = list(transfers_of(engine, query, most + 1))
    console().print(_laid(found[:most], book) if found else "no such transfers")
    if len(found) > most:
        console().print(f"and more than these {most}: --after {found[most - 1].sequence}")


def _book(connection: Connection, ledger: str | None, account: str | None) -> tuple[Ledger, Account | None]:
    side = None
    if account is not None:
        side = accounts.find(connection, [account]).get(account)
        if side is None:
            raise Failed(Status.NO, f"there is no account {quoted(account)}")
        ledger = side.ledger
    assert ledger is not None
    book = find_ledger(connection, typed(ledger))
    if book is None:
        raise Failed(Status.NO, f"there is no ledger {quoted(ledger)}")
    return book, side


def _metadata(pairs: list[str], whole: str | None) -> str | None:
    """Put what the metadata must contain into one JSON object; None: anything."""
    contained = {} if whole is None else _object(typed(whole))
    for pair in pairs:
        key, equals, value = typed(pair).partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=TEXT", param_hint="--metadata")
        if key in contained:
            raise typer.BadParameter(f"{key!r} is asked for twice", param_hint="--metadata")
        contained[key] = value
    return orjson.dumps(contained).decode() if contained else None


def _object(text: str) -> dict[str, Any]:
    """Read an object as strictly as the door does: what it refuses, no transfer has."""

    def refuse(reason: str) -> typer.BadParameter:
        return typer.BadParameter(f"{text!r}: {reason}", param_hint="--metadata-json")

    try:
        value, _ = decode(text.encode())
    except Unreadable as error:
        raise refuse(str(error)) from error
    if not isinstance(value, dict) or not value:
        raise refuse("not an object with something in it")
    flaw = f"deeper than {MAX_DEPTH} levels" if depth(value) > MAX_DEPTH else first_flaw(value)
    if flaw:
        raise refuse(flaw)
    return value


def _amounts(ledger: Ledger, exactly: str | None, least: str | None, most: str | None) -> tuple[int, int] | None:
    read = partial(amount_of, currency=ledger.currency, scale=ledger.scale)
    if exactly is not None and (least is not None or most is not None):
        raise typer.BadParameter("leaves no room for --min-amount or --max-amount", param_hint="--amount")
    if exactly is not None:
        the_one = read(exactly, "--amount")
        return the_one, the_one
    if least is None and most is None:
        return None
    return (
        LEAST_AMOUNT if least is None else read(least, "--min-amount"),
        MAX_AMOUNT if most is None else read(most, "--max-amount"),
    )


def _laid(found: list[Transfer], ledger: Ledger) -> RenderableType:
    sides = "id, from, to"  # one above the other: three ids have no room beside each other
    laid = table("number", "decided at", sides, "kind", "amount", right=("number", "amount"), ids=(sides,))
    for transfer in found:
        laid.add_row(
            str(transfer.sequence),
            timestamp(transfer.created_at)[:19],
            f"{transfer.id}\n{transfer.source_id}\n{transfer.destination_id}",
            plain(transfer.kind or ""),
            written(transfer.amount, ledger.currency, ledger.scale),
        )
    return laid
