"""The proof of the books: everything that must hold of the rows, found out from the rows alone.

One state of the database is read, each transfer once, in the order in which it was committed; no program's word is
taken for anything, the worker's least of all. Memory holds one head an account of the ledger at hand, never the
transfers. What is proved:

- each transfer is as it was sealed, and so is each command that keeps its own content; the newest links are the
  ledger's own (`models.seals`)
- a ledger's sequences are 1 to n without a gap, and n is what the ledger counts: no transfer is missing, the last
  ones included; its times never go back
- an account's versions are 1 to n without a gap, each entry's balance is the one before plus the change, and the
  account's own counters and version are what its entries add up to; limits hold; a ledger's balances add up to zero
- what else the tables say of each other (`crosschecks`)
- the past is the one that checkpoints were signed of, and nothing is gone that they have seen (`checkpoints`)

Whoever may write every row can write another past, sealed and in itself sound. Only a checkpoint tells it from the
true one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Row, text

from models import seals
from worker.postgres.engines import read_lines
from worker.proving import crosschecks, walks
from worker.proving.checkpoints import Mark, Past
from worker.proving.verdicts import Findings, Kind, Progress, Verdict
from worker.proving.walks import CommandWalk, Head, TransferWalk
from worker.reading.reader import reader

ROWS_AT_ONCE = 5_000
"""Rows between two looks at the progress, and a round trip of those that are not streamed."""

_LEDGERS = text(
    """
    SELECT number, name, currency, scale, sequence, head, commands, commands_head
    FROM equipoise.ledgers ORDER BY number
    """
)
_ACCOUNTS = text(
    """
    SELECT id::text, version, debits_posted, credits_posted, debits_pending, credits_pending, min_balance, max_balance
    FROM equipoise.accounts WHERE ledger = :ledger ORDER BY id
    """
)
_COUNT_COMMANDS = text("SELECT count(*) FROM equipoise.inbox")


def verify(database_url: str, progress: Progress | None = None, past: Past | None = None) -> Verdict:
    """Prove the books of a database, all of it in one state; `past` is what checkpoints tell of it."""
    began = monotonic()
    findings = Findings()
    with reader(database_url) as engine, engine.connect() as connection:
        _Proof(connection, findings, progress or _silent, past or Past()).run()
    return Verdict(
        sound=not findings.faults,
        transfers=findings.transfers,
        accounts=findings.accounts,
        ledgers=findings.ledgers,
        commands=findings.commands,
        seconds=round(monotonic() - began, 3),
        faults=list(findings.faults.values()),
        checkpoints=findings.checkpoints,
    )


def _silent(_what: str, _proved: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class _Proof:
    """One run, in the transaction of its connection."""

    connection: Connection
    findings: Findings
    progress: Progress
    past: Past
    counts: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        for kind, row, detail in self.past.faults:
            self.findings.fault(kind, row, detail)
        self.findings.checkpoints = self.past.count
        self.findings.commands = self.connection.execute(_COUNT_COMMANDS).scalar_one()
        ledgers = self.connection.execute(_LEDGERS).all()
        transfers, commands = (sum(getattr(it, count) for it in ledgers) for count in ("sequence", "commands"))
        for ledger in ledgers:
            self._ledger(ledger, transfers, commands)
        for name in self.past.ledgers() - {ledger.name for ledger in ledgers}:
            self.findings.fault(Kind.TAIL_CUT, f"ledger {name}", "is gone, and a checkpoint has seen it")
        self.findings.transfers = self.counts["transfers"]
        crosschecks.run(self.connection, self.findings, self.progress)

    def _ledger(self, ledger: Row[Any], transfers: int, commands: int) -> None:
        self.findings.ledgers += 1
        genesis = seals.genesis(ledger.name, ledger.currency, ledger.scale)
        heads = self._transfers(ledger, genesis, transfers)
        self._accounts(ledger, heads)
        self._commands(ledger, genesis, commands)

    def _transfers(self, ledger: Row[Any], genesis: bytes, total: int) -> dict[bytes, Head]:
        """Follow a ledger's transfers; give where each of its accounts has come to."""
        walk = TransferWalk(self.findings, genesis)
        marks = self.past.transfers(ledger.name)
        if 0 in marks:
            marks[0].compare(self.findings, "transfers", 0, genesis, 0)
        lines = read_lines(self.connection, walks.TRANSFERS.format(ledger=ledger.number))
        walk.follow(self._counted(lines, "transfers", total), marks)
        if walk.sequence != ledger.sequence:
            detail = f"it counts {ledger.sequence} transfers, and the last one is {walk.sequence}"
            self.findings.fault(Kind.LEDGER_SEQUENCE, f"ledger {ledger.name}", detail)
        self._end(ledger, "transfers", walk.head, ledger.head, walk.sequence, marks)
        return walk.heads

    def _commands(self, ledger: Row[Any], genesis: bytes, total: int) -> None:
        walk = CommandWalk(self.findings, genesis)
        marks = self.past.commands(ledger.name)
        if 0 in marks:
            marks[0].compare(self.findings, "commands", 0, genesis)
        lines = read_lines(self.connection, walks.COMMANDS.format(ledger=ledger.number))
        walk.follow(self._counted(lines, "commands", total), marks)
        if walk.number != ledger.commands:
            detail = f"it counts {ledger.commands} sealed commands, and the last one is {walk.number}"
            self.findings.fault(Kind.LEDGER_COMMANDS, f"ledger {ledger.name}", detail)
        self._end(ledger, "commands", walk.head, ledger.commands_head, walk.number, marks)

    def _end(self, ledger: Row[Any], what: str, head: bytes, told: bytes, last: int, marks: dict[int, Mark]) -> None:
        """Compare a chain's end with what the ledger keeps of it, and with how far checkpoints have seen it."""
        row = f"ledger {ledger.name}"
        if head != told:
            self.findings.fault(Kind.LEDGER_HEAD, row, f"the newest link of its {what} is not the one it keeps")
        seen = max(marks, default=0)
        if seen > last:
            detail = f"its {what} end at {last}, and {marks[seen].source} has seen {seen}"
            self.findings.fault(Kind.TAIL_CUT, row, detail)

    def _counted(self, lines: Iterable[bytes], what: str, total: int) -> Iterator[bytes]:
        count = self.counts[what]
        for line in lines:
            if count % ROWS_AT_ONCE == 0:
                self.progress(what, count, total)
            count += 1
            yield line
        self.counts[what] = count
        self.progress(what, count, total)

    def _accounts(self, ledger: Row[Any], heads: dict[bytes, Head]) -> None:
        """Hold a ledger's accounts against where their entries have come to."""
        total = 0
        accounts = self.connection.execute(
            _ACCOUNTS.execution_options(yield_per=ROWS_AT_ONCE), {"ledger": ledger.number}
        )
        for account in accounts:
            self.findings.accounts += 1
            total += account.credits_posted - account.debits_posted
            self._account(account, heads.pop(account.id.encode(), Head()))
        for id in heads:
            detail = f"has entries in {ledger.name}, and is not there"
            self.findings.fault(Kind.UNKNOWN_ACCOUNT, f"account {id.decode()}", detail)
        if total != 0:
            self.findings.fault(Kind.LEDGER_NOT_ZERO, f"ledger {ledger.name}", f"its balances add up to {total}")

    def _account(self, account: Row[Any], head: Head) -> None:
        row = f"account {account.id}"
        if account.version != head.version:
            detail = f"counts {account.version} entries and has {head.version}"
            self.findings.fault(Kind.ACCOUNT_VERSION, row, detail)
        counted, added = (account.debits_posted, account.credits_posted), (head.debits, head.credits)
        if counted != added:
            detail = f"debits and credits are {counted}, and its entries add up to {added}"
            self.findings.fault(Kind.ACCOUNT_COUNTERS, row, detail)
        balance = account.credits_posted - account.debits_posted
        if account.min_balance is not None and balance - account.debits_pending < account.min_balance:
            detail = f"{balance - account.debits_pending} is below its limit of {account.min_balance}"
            self.findings.fault(Kind.LIMIT_BROKEN, row, detail)
        if account.max_balance is not None and balance + account.credits_pending > account.max_balance:
            detail = f"{balance + account.credits_pending} is above its limit of {account.max_balance}"
            self.findings.fault(Kind.LIMIT_BROKEN, row, detail)
