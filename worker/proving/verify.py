"""The proof of the books: everything that must hold of the rows, found out from the rows alone.

One state of the database is read. Each transfer is walked once, in the order of commits; then the tables are compared
with each other by set-based statements. No program's word is taken for anything, the worker's least of all. Memory
holds what each account of the ledger at hand has come to, never the transfers. What is proved:

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
from worker.proving.checkpoints import Past
from worker.proving.verdicts import Findings, Kind, Progress, Verdict
from worker.proving.walks import Chain, Totals, TransferWalk
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
    return findings.verdict(monotonic() - began)


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
        for fault in self.past.faults:
            self.findings.fault(fault.kind, fault.row, fault.detail)
        self.findings.checkpoints = self.past.count
        self.findings.commands = self.connection.execute(_COUNT_COMMANDS).scalar_one()
        ledgers = self.connection.execute(_LEDGERS).all()
        transfers = sum(ledger.sequence for ledger in ledgers)
        commands = sum(ledger.commands for ledger in ledgers)
        for ledger in ledgers:
            self._ledger(ledger, transfers, commands)
        for name in self.past.ledgers() - {ledger.name for ledger in ledgers}:
            self.findings.fault(Kind.TAIL_CUT, f"ledger {name}", "is gone, and a checkpoint has seen it")
        self.findings.transfers = self.counts["transfers"]
        crosschecks.run(self.connection, self.findings, self.progress)

    def _ledger(self, ledger: Row[Any], transfers: int, commands: int) -> None:
        self.findings.ledgers += 1
        genesis = seals.genesis(ledger.name, ledger.currency, ledger.scale)
        self._accounts(ledger, self._transfers(ledger, genesis, transfers))
        self._commands(ledger, genesis, commands)

    def _transfers(self, ledger: Row[Any], genesis: bytes, total: int) -> dict[bytes, Totals]:
        """Follow a ledger's transfers; give what each of its accounts has come to."""
        chain = Chain(self.findings, ledger.name, "transfers", genesis, self.past.transfers(ledger.name))
        walk = TransferWalk(self.findings, chain)
        lines = read_lines(self.connection, walks.TRANSFERS.format(ledger=ledger.number))
        walk.follow(self._counted(lines, "transfers", total))
        if chain.place != ledger.sequence:
            detail = f"it counts {ledger.sequence} transfers, and the last one is {chain.place}"
            self.findings.fault(Kind.LEDGER_SEQUENCE, f"ledger {ledger.name}", detail)
        chain.end(ledger.head)
        return walk.totals

    def _commands(self, ledger: Row[Any], genesis: bytes, total: int) -> None:
        chain = Chain(self.findings, ledger.name, "commands", genesis, self.past.commands(ledger.name))
        lines = read_lines(self.connection, walks.COMMANDS.format(ledger=ledger.number))
        walks.follow_commands(self.findings, chain, self._counted(lines, "commands", total))
        if chain.place != ledger.commands:
            detail = f"it counts {ledger.commands} sealed commands, and the last one is {chain.place}"
            self.findings.fault(Kind.LEDGER_COMMANDS, f"ledger {ledger.name}", detail)
        chain.end(ledger.commands_head)

    def _counted(self, lines: Iterable[bytes], what: str, total: int) -> Iterator[bytes]:
        count = self.counts[what]
        for line in lines:
            if count % ROWS_AT_ONCE == 0:
                self.progress(what, count, total)
            count += 1
            yield line
        self.counts[what] = count
        self.progress(what, count, total)

    def _accounts(self, ledger: Row[Any], totals: dict[bytes, Totals]) -> None:
        """Hold a ledger's accounts against what their entries have come to."""
        total = 0
        accounts = self.connection.execute(
            _ACCOUNTS.execution_options(yield_per=ROWS_AT_ONCE), {"ledger": ledger.number}
        )
        for account in accounts:
            self.findings.accounts += 1
            total += account.credits_posted - account.debits_posted
            self._account(account, totals.pop(account.id.encode(), Totals()))
        for id in totals:
            detail = f"has entries in {ledger.name}, and is not there"
            self.findings.fault(Kind.UNKNOWN_ACCOUNT, f"account {id.decode()}", detail)
        if total != 0:
            self.findings.fault(Kind.LEDGER_NOT_ZERO, f"ledger {ledger.name}", f"its balances add up to {total}")

    def _account(self, account: Row[Any], totals: Totals) -> None:
        row = f"account {account.id}"
        if account.version != totals.version:
            detail = f"counts {account.version} entries and has {totals.version}"
            self.findings.fault(Kind.ACCOUNT_VERSION, row, detail)
        counted, added = (account.debits_posted, account.credits_posted), (totals.debits, totals.credits)
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
