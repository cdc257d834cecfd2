"""The commands that carry books from one place to another: `import` and `export`."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from io import BufferedReader
from time import monotonic
from typing import Annotated, Any

import orjson
import psycopg
import typer
from sqlalchemy.exc import DBAPIError

from models.commands import COMMANDS
from worker.cli.arguments import AsJson, quoted
from worker.cli.endings import Failed, Status, told
from worker.cli.files import opened, size_of
from worker.cli.show import console, json_lines, progress, table, typed, visible, warn
from worker.engine.settle import Settlement
from worker.porting import exporting
from worker.porting.importing import Importer, Refusal, Settled, Unstorable, check
from worker.porting.judging import Judged, Name, judged, sha256_of
from worker.porting.lines import lines
from worker.porting.opening import OpeningBalance
from worker.porting.rows import BadHeader, Header, Writer
from worker.postgres.engines import committing_engine
from worker.postgres.failures import LedgerBusy
from worker.reading.reader import reader
from worker.settings import Settings, database_url

NAMED_TO_PEOPLE = 20
"""Refused lines shown to people: a screen. Programs get all."""

GOES_ON = "importing the same again goes on where it stopped"


REPAIR = "correct a malformed line where it stands, put what was refused right at the file's end"
"""A malformed line used no id up; what was refused keeps its verdict, and all others their places."""


class Format(StrEnum):
    """How commands are written: a JSON object a line, or a row of a table."""

    JSONL = "jsonl"
    CSV = "csv"


# -- Export ------------------------------------------------------------------------------------------------------------


def export(
    ledger: Annotated[str, typer.Argument(metavar="LEDGER", help="The ledger's name.")],
    format: Annotated[Format, typer.Option(help="How to write the commands.")] = Format.JSONL,  # noqa: A002  # the option's name
) -> None:
    """Write a ledger as the commands that make it again, to standard output."""
    out = sys.stdout.buffer
    with reader(database_url(Settings())) as engine, engine.connect() as connection, progress() as bar:
        name = typed(ledger)
        found = exporting.export(connection, name)
        if found is None:
            raise Failed(Status.NO, f"there is no ledger {quoted(name)}")
        task = bar.add_task("exporting", total=found.commands_at_least)
        header, written = _writer(format)
        out.write(header)
        for count, command in enumerate(found.commands()):
            out.write(written(command))
            if count % exporting.ROWS_AT_ONCE == 0:
                bar.update(task, completed=count)
    out.flush()


def _writer(format_: Format) -> tuple[bytes, Callable[[Mapping[str, Any]], bytes]]:
    """Give what stands before the commands, and how each is written."""
    if format_ is Format.CSV:
        writer = Writer(exporting.COLUMNS)
        return writer.header(), writer.row
    return b"", lambda command: orjson.dumps(command) + b"\n"


# -- Import ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """What has become of the file so far."""

    statuses: Counter[str] = field(default_factory=Counter)
    settled: int = 0
    known: int = 0
    refused: int = 0

    def add(self, settled: Settled) -> None:
        """Count some more lines."""
        self.statuses.update(settled.statuses)
        self.settled += settled.settled
        self.known += settled.known
        self.refused += len(settled.refusals)


def _not_empty(name: str | None) -> str | None:
    """Refuse a name that is empty, as that of a variable is that nobody set: imports would share it."""
    if name == "":
        raise typer.BadParameter("it is empty")
    return name


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Commands and opening balances; - is standard input.")],
    format: Annotated[  # noqa: A002  # the option's name
        Format | None, typer.Option(help="How they are written; else the file's name says it: .csv, or JSON lines.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(callback=_not_empty, help="What ids are made of for lines without; else the file's SHA-256."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge each line, settle none.")] = False,
    json: AsJson = False,
) -> None:
    """Settle the commands of a file in its order, and opening balances. Run again, it goes on where it stopped."""
    began = monotonic()
    with opened(file) as source, progress() as bar:
        named = Name(None if name is None else typed(name), lambda: sha256_of(source))
        task = bar.add_task("importing", total=size_of(source.fileno()))
        tally = _Tally()
        what = _judged(source, named, format or _format_of(file), guessed=format is None and not _says_its_format(file))
        with _ending_early():
            for settled in check(what) if dry_run else _settled(what):
                _tell_refusals(settled.refusals, tally, json=json)
                tally.add(settled)
                bar.update(task, completed=settled.ends_at)
        still_the_same = named.still_holds()
    if not json and tally.refused > NAMED_TO_PEOPLE:
        warn(f"and {tally.refused - NAMED_TO_PEOPLE} more (--json names all)")
    _tell(tally, named, monotonic() - began, json=json)
    not_applied = f"not applied: {tally.refused:,}"
    again = _again(named) if tally.settled and named.was_needed and name is None else ""
    if not still_the_same:
        also = f"; {not_applied}" if tally.refused else ""
        raise Failed(Status.DATA, f"the file changed while it was read{also}{again and f'; import it {again}'}")
    if tally.refused:
        raise Failed(Status.NO, f"{not_applied}{again and f'; {REPAIR}, and import it {again}'}")


def _again(name: Name) -> str:
    """Say under which name to import what is not the same file any more."""
    return f"again with --name {name.value}: without that, lines without ids are applied again: money moves twice"


def _judged(file: BufferedReader, name: Name, format_: Format, *, guessed: bool) -> Iterator[Judged]:
    """Judge each line of a file, of which the first may name the columns."""
    found = lines(file)
    header = None
    if format_ is Format.CSV:
        first = next(found, None)
        if first is None:
            return
        try:
            header = Header(first.content, [*COMMANDS.values(), OpeningBalance])
        except BadHeader as error:
            raise Failed(Status.DATA, str(error)) from error
    for place, line in enumerate(found):
        one = judged(line, name, header)
        if guessed and place == 0 and one.detail is not None and not line.content.lstrip().startswith(b"{"):
            one = replace(one, detail=f"{one.detail}; read as JSON lines: a table needs --format csv")
        yield one


def _settled(what: Iterator[Judged]) -> Iterator[Settled]:
    """Settle lines; what ends it before the last of them is told in one line, which says how to go on."""
    engine = committing_engine(database_url(Settings()))
    try:
        settlement = Settlement(engine)
        settlement.known([])  # a database that is away, or of another schema, is told of at once
        try:
            yield from Importer(settlement).run(what)
        except DBAPIError as error:
            status, message = told(error)
            raise Failed(status, f"{message}; {GOES_ON}") from error
        except (LedgerBusy, psycopg.Error) as error:
            raise Failed(Status.UNAVAILABLE, f"{str(error).splitlines()[0]}; {GOES_ON}") from error
        except Unstorable as error:
            raise Failed(Status.DATA, f"{error}; what stands before it is committed") from error
    finally:
        engine.dispose()


@contextmanager
def _ending_early() -> Iterator[None]:
    """Say of Ctrl-C or SIGTERM that nothing is lost by it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        warn(f"ended early; {GOES_ON}")
        raise


def _tell_refusals(refusals: list[Refusal], tally: _Tally, *, json: bool) -> None:
    """Name what was not applied: to programs all of it, to people the first of it."""
    if json:
        json_lines(refusal.as_json() for refusal in refusals)
        return
    for refusal in refusals[: max(0, NAMED_TO_PEOPLE - tally.refused)]:
        id = f" ({refusal.id})" if refusal.id else ""
        detail = f": {refusal.detail}" if refusal.detail else ""
        warn(f"line {refusal.line}{id}: {refusal.status}{visible(detail)}")


def _tell(tally: _Tally, name: Name, seconds: float, *, json: bool) -> None:
    """Say what became of all lines."""
    if json:
        told_ = {"statuses": dict(sorted(tally.statuses.items())), "known": tally.known, "refused": tally.refused}
        json_lines([told_ | {"name": name.value if name.was_needed else None, "seconds": round(seconds, 3)}])
        return
    laid = table("status", "commands", right=("commands",))
    for status, count in tally.statuses.most_common():
        laid.add_row(status, f"{count:,}")
    out = console()
    if laid.row_count:
        out.print(laid)
    before = f", {tally.known:,} of them decided before" if tally.known else ""
    out.print(f"{sum(tally.statuses.values()):,} commands{before}, in {seconds:.1f} s")


def _format_of(file: str) -> Format:
    return Format.CSV if file.lower().endswith(".csv") else Format.JSONL


def _says_its_format(file: str) -> bool:
    return file.lower().endswith((".csv", ".jsonl", ".ndjson", ".json"))
