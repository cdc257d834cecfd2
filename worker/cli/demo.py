"""The command `demo`: a month of a small marketplace through a real queue, with servers of its own that vanish after.

The files in `demo/` are the month, a file a phase; `demo/expected.json` says what must come of it, added up by who
wrote the story and never by an engine of ours. What happened is held against that before anything is called a success.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.progress import Progress, TaskID
from sqlalchemy import Connection, text

from models.money import written
from worker.cli.endings import Failed, Status
from worker.cli.proof import verdict_as_text
from worker.cli.serve import working
from worker.cli.show import console, plain, progress, table
from worker.cli.tracing import traced_as_text
from worker.postgres.migrate import migrate
from worker.proving.verdicts import Verdict
from worker.proving.verify import verify
from worker.reading.reader import reader
from worker.reading.trace import trace
from worker.sending.answers import Answer, Results
from worker.sending.exchange import send_and_wait
from worker.sending.lines import Reader
from worker.sending.messages import Publisher
from worker.settings import ROOT, Urls
from worker.stack.process import signals_held
from worker.stack.stack import Stack

STORY = ROOT / "demo"
PATIENCE_S = 30.0
"""Without any answer. A group takes milliseconds, the slowest machine seconds."""

SHOWN = 8
"""Reasons of dead letters: more would push the rest off the screen."""

MAX_DETAIL = 48
"""Characters of a reason: so that both tables stand side by side."""

_DECIDED = "SELECT status, count(*) FROM equipoise.inbox WHERE type <> 'batch' GROUP BY status"
_LETTERS = (
    "SELECT reason, detail, count(*) AS letters FROM equipoise.dead_letters GROUP BY reason, detail ORDER BY 3 DESC, 2"
)
_APPLIED = """
    SELECT type, count(*) FROM equipoise.inbox
    WHERE type <> 'batch' AND status = 'applied' GROUP BY type ORDER BY count(*) DESC, type
"""
_BALANCES = "SELECT id::text, credits_posted - debits_posted FROM equipoise.accounts"
_HOTTEST = """
    SELECT account.id::text, account.metadata ->> 'name' AS name, version,
           credits_posted - debits_posted AS balance, currency, scale
    FROM equipoise.accounts account JOIN equipoise.ledgers ledger ON ledger.number = account.ledger
    ORDER BY version DESC, account.id LIMIT 1
"""
_A_COMMAND = """
    SELECT id::text FROM equipoise.transfers
    WHERE kind = 'purchase' AND metadata IS NULL ORDER BY ledger, sequence LIMIT 1
"""


@dataclass(slots=True)
class Told:
    """What the worker answered: verdicts by status, those inside batches too, and how long it took."""

    statuses: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    seconds: float = 0.0

    def add(self, answer: Answer) -> None:
        """Count one line's verdicts."""
        self.lines += 1
        self.statuses.update(_statuses(answer.told))


def demo() -> None:
    """Start servers and a worker, send a month of commands through the queue, and show what happened."""
    expected = json.loads((STORY / "expected.json").read_text(encoding="utf-8"))
    out = console()
    with _temporary_folder() as folder, ExitStack() as running:
        out.print("starting PostgreSQL, Valkey and a Celery worker in a temporary folder")
        stack = running.enter_context(Stack(folder))
        where = Urls(stack.database_url, stack.broker_url, stack.result_url)
        migrate(where.database_url)
        running.enter_context(working(folder, where))
        told = _send_all(where)
        verdict = verify(where.database_url)
        with reader(where.database_url) as engine, engine.connect() as connection:
            out.print(_summary(connection, told, verdict))
            differences = _differences(connection, told, verdict, expected)
    if differences:
        raise Failed(Status.NO, f"not what the story foretells: {'; '.join(differences)}")
    out.print(f"all of it as {STORY.name}/expected.json foretells; nothing is left running")


def _send_all(where: Urls) -> Told:
    """Send one phase after the other: within a phase messages may come in any order, a phase needs the one before."""
    told = Told()
    files = sorted(STORY.glob("*.jsonl"))
    results = Results(where.result_url)
    with Publisher(where.broker_url) as publisher, progress() as bar:
        task = bar.add_task("moving money", total=sum(map(_lines, files)))
        began = monotonic()
        for file in files:
            _send_file(file, publisher, results, told, bar, task)
        told.seconds = monotonic() - began
    return told


def _send_file(file: Path, publisher: Publisher, results: Results, told: Told, bar: Progress, task: TaskID) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for burst in send_and_wait(Reader(descriptor), publisher, results, PATIENCE_S):
            for answer in burst:
                told.add(answer)
            bar.update(task, completed=told.lines)
    finally:
        os.close(descriptor)


def _summary(connection: Connection, told: Told, verdict: Verdict) -> RenderableType:
    traced = trace(connection, connection.execute(text(_A_COMMAND)).scalar_one())
    hot = connection.execute(text(_HOTTEST)).one()
    return Group(
        Columns([_answered(told), _letters(connection)], padding=(0, 2)),
        "applied: " + ", ".join(f"{count:,} {name}" for name, count in _numbers(connection, _APPLIED).items()),
        f"[bold]{verdict.transfers / told.seconds:,.0f} transfers/s[/]: {verdict.transfers:,} through the queue in"
        f" {told.seconds:.1f} s, each of them on disk before it was answered",
        f"hottest account: [bold]{plain(hot.name)}[/], {hot.version:,} entries, holds"
        f" {written(hot.balance, hot.currency, hot.scale)}",
        "",
        "[bold]One command, from its message to its entries[/]",
        traced_as_text(traced),
        "",
        Group("[bold]The books, proved from the rows[/]", verdict_as_text(verdict)),
    )


def _answered(told: Told) -> RenderableType:
    laid = table("status", "commands", right=("commands",), title="What the worker answered")
    for status, count in told.statuses.most_common():
        laid.add_row(status, f"{count:,}")
    return laid


def _letters(connection: Connection) -> RenderableType:
    laid = table("reason", "detail", "letters", right=("letters",), title="Dead letters")
    rows = connection.execute(text(_LETTERS)).all()
    for row in rows[:SHOWN]:
        laid.add_row(row.reason, plain(row.detail[:MAX_DETAIL]), str(row.letters))
    rest = rows[SHOWN:]
    if rest:
        laid.add_row("…", f"and {len(rest)} more details", str(sum(row.letters for row in rest)))
    return laid


def _differences(connection: Connection, told: Told, verdict: Verdict, expected: Mapping[str, Any]) -> list[str]:
    """Say where what happened is not what was foretold."""
    differences = _unlike("answered", told.statuses, expected["answered"])
    decided = _numbers(connection, _DECIDED)
    differences += _unlike("decided", decided, expected["decided"])
    balances = _numbers(connection, _BALANCES)
    differences += _unlike("balances", balances, expected["balances"])
    letters = sum(row.letters for row in connection.execute(text(_LETTERS)))
    hot = connection.execute(text(_HOTTEST)).one()
    differences += _unlike("dead letters", {"all": letters}, {"all": sum(expected["dead_letters"].values())})
    differences += _unlike("transfers", {"all": verdict.transfers}, {"all": expected["transfers"]})
    differences += _unlike("hottest", {hot.name: hot.version}, expected["hottest"])
    if not verdict.sound:
        differences.append(f"the books are not sound: {verdict.faults[0]}")
    return differences


def _numbers(connection: Connection, statement: str) -> dict[str, int]:
    return {name: number for name, number in connection.execute(text(statement)).tuples()}  # noqa: C416  # rows are no pairs to mypy


def _unlike(what: str, found: Mapping[str, int], expected: Mapping[str, int]) -> list[str]:
    """Name the first difference of two tables of numbers; none where they are alike."""
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            return [f"{what}: {name}: {found.get(name, 'none')} in place of {expected.get(name, 'none')}"]
    return []


def _statuses(told: Any) -> Iterator[str]:
    """Give the verdicts that an outcome holds: a batch's own is that of its members."""
    if isinstance(told, list):
        for one in told:
            yield from _statuses(one)
    elif "outcomes" in told:
        yield from _statuses(told["outcomes"])
    else:
        yield told["status"]


def _lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards, however the block ends."""
    folder: Path | None = None
    try:
        with signals_held():
            folder = Path(tempfile.mkdtemp(prefix="equipoise-demo-"))
        yield folder
    finally:
        with signals_held():
            if folder is not None:
                shutil.rmtree(folder)
