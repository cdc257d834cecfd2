"""The proof of the books: everything that must hold of the rows, found out from the rows alone.

One state of the database is read, each transfer once, in the order in which it was committed; no program's word is
taken for anything, the worker's least of all. Memory holds one head an account of the ledger at hand, never the
transfers. What is proved:

- a ledger's sequences are 1 to n without a gap, and n is what the ledger counts: no transfer is missing, the last
  ones included; its times never go back
- an account's versions are 1 to n without a gap, each entry's balance is the one before plus the change, and the
  account's own counters and version are what its entries add up to; limits hold; a ledger's balances add up to zero
- every applied command that moves money has its transfers, every transfer and account its command, with its time
- what is pending is what holds reserve, a hold's captures are its transfers, and no transfer was reversed beyond itself

What nothing else depends on cannot be missed: a refusal that was removed, a fact beside the money that was changed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Row, text

from worker.reading.reader import reader

ROWS_AT_ONCE = 5_000
"""Rows a round trip, about 1 MB."""

Progress = Callable[[int, int], None]
"""Called now and then with the transfers that are proved and those that there are."""


class Kind(StrEnum):
    """What can be wrong; of each kind the first bad row is named."""

    SEQUENCE_GAP = "sequence_gap"
    LEDGER_SEQUENCE = "ledger_sequence"
    TIME_WENT_BACK = "time_went_back"
    UNKNOWN_LEDGER = "unknown_ledger"
    UNKNOWN_ACCOUNT = "unknown_account"
    VERSION_GAP = "version_gap"
    BALANCE_BROKEN = "balance_broken"
    ACCOUNT_VERSION = "account_version"
    ACCOUNT_COUNTERS = "account_counters"
    LIMIT_BROKEN = "limit_broken"
    LEDGER_NOT_ZERO = "ledger_not_zero"
    TRANSFER_MISSING = "transfer_missing"
    COMMAND_MISSING = "command_missing"
    ACCOUNT_PENDING = "account_pending"
    HOLD_CAPTURED = "hold_captured"
    REVERSED_TOO_MUCH = "reversed_too_much"
    TIME_DIFFERS = "time_differs"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first bad row of a kind, and what is wrong with it."""

    kind: Kind
    row: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.row}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the books are sound, how much was read for it, and how long that took."""

    sound: bool
    transfers: int
    accounts: int
    ledgers: int
    commands: int
    seconds: float
    faults: list[Fault]

    def as_json(self) -> dict[str, object]:
        """Give it for programs (docs/cli.md)."""
        return asdict(self)


def verify(database_url: str, progress: Progress | None = None) -> Verdict:
    """Prove the books of a database, all of it in one state."""
    began = monotonic()
    with reader(database_url) as engine, engine.connect() as connection:
        proof = _Proof(connection, progress or _silent)
        proof.run()
    return Verdict(
        sound=not proof.faults,
        transfers=proof.transfers,
        accounts=proof.accounts,
        ledgers=proof.ledgers,
        commands=proof.commands,
        seconds=round(monotonic() - began, 3),
        faults=list(proof.faults.values()),
    )


def _silent(_proved: int, _total: int) -> None:
    """Show no progress."""


_LEDGERS = "SELECT number AS ledger, name, sequence FROM equipoise.ledgers ORDER BY number"
_TRANSFERS = """
    SELECT ledger, sequence, id::text, source_id::text, destination_id::text, amount,
           source_version, destination_version, source_balance, destination_balance, created_at
    FROM equipoise.transfers ORDER BY ledger, sequence
"""
_ACCOUNTS = """
    SELECT ledger, id::text, version, debits_posted, credits_posted, debits_pending, credits_pending,
           min_balance, max_balance
    FROM equipoise.accounts ORDER BY ledger, id
"""
_TRANSFER_MISSING = """
    SELECT id::text FROM equipoise.inbox command
    WHERE status = 'applied' AND (
        type IN ('transfers.post', 'transfers.capture', 'transfers.reverse')
        AND NOT EXISTS (SELECT FROM equipoise.transfers transfer WHERE transfer.id = command.id)
        OR type IN ('transfers.split', 'transfers.exchange')
        AND NOT EXISTS (SELECT FROM equipoise.transfers transfer WHERE transfer.command_id = command.id)
        OR type = 'transfers.hold'
        AND NOT EXISTS (SELECT FROM equipoise.holds hold WHERE hold.id = command.id)
    )
    ORDER BY decided_at, id LIMIT 1
"""
_COMMAND_MISSING = """
    SELECT id::text FROM equipoise.transfers transfer
    WHERE NOT EXISTS (
        SELECT FROM equipoise.inbox command
        WHERE command.id = coalesce(transfer.command_id, transfer.id) AND command.status = 'applied'
          AND (command.type LIKE 'transfers.%' OR command.type = 'accounts.close')
    )
    ORDER BY ledger, sequence LIMIT 1
"""
_ACCOUNT_PENDING = """
    SELECT account.id::text, debits_pending, credits_pending, coalesce(debits, 0), coalesce(credits, 0)
    FROM equipoise.accounts account
    LEFT JOIN (
        SELECT source_id, sum(remaining) AS debits FROM equipoise.holds GROUP BY source_id
    ) reserved ON reserved.source_id = account.id
    LEFT JOIN (
        SELECT destination_id, sum(remaining) AS credits FROM equipoise.holds GROUP BY destination_id
    ) expected ON expected.destination_id = account.id
    WHERE (debits_pending, credits_pending) <> (coalesce(debits, 0), coalesce(credits, 0))
    ORDER BY account.id LIMIT 1
"""
_HOLD_CAPTURED = """
    SELECT hold.id::text, captured, coalesce(sum(transfer.amount), 0) AS moved
    FROM equipoise.holds hold LEFT JOIN equipoise.transfers transfer ON transfer.hold_id = hold.id
    GROUP BY hold.id HAVING captured <> coalesce(sum(transfer.amount), 0)
    ORDER BY hold.id LIMIT 1
"""
_REVERSED_TOO_MUCH = """
    SELECT original.id::text, original.amount, sum(back.amount) AS moved_back
    FROM equipoise.transfers back LEFT JOIN equipoise.transfers original ON original.id = back.reverses
    WHERE back.reverses IS NOT NULL
    GROUP BY back.reverses, original.id, original.amount HAVING (sum(back.amount) <= original.amount) IS NOT TRUE
    ORDER BY back.reverses LIMIT 1
"""
_ACCOUNT_NOT_OPENED = """
    SELECT id::text FROM equipoise.accounts account
    WHERE NOT EXISTS (
        SELECT FROM equipoise.inbox command
        WHERE command.type = 'accounts.open' AND command.status = 'applied'
          AND (command.content::json ->> 'account_id')::uuid = account.id
    )
    ORDER BY created_at, id LIMIT 1
"""
_TIME_DIFFERS = """
    SELECT transfer.id::text, transfer.created_at, command.decided_at
    FROM equipoise.transfers transfer
    JOIN equipoise.inbox command ON command.id = coalesce(transfer.command_id, transfer.id)
    WHERE transfer.created_at <> command.decided_at
    ORDER BY ledger, sequence LIMIT 1
"""
# Where the tables were never analysed, PostgreSQL expects one command, and would look through all of them for each
# transfer: 24 s for 19,000. Joined by hash or merge it is 0.02 s, and what does not fit into memory goes to disk.
_JOIN_WHOLE_TABLES = "SET LOCAL enable_nestloop = off"
_COUNT_COMMANDS = "SELECT count(*) FROM equipoise.inbox"
_COUNT_TRANSFERS = "SELECT coalesce(sum(sequence), 0)::bigint FROM equipoise.ledgers"


@dataclass(slots=True)
class _Head:
    """Where an account's entries have come to."""

    version: int = 0
    balance: int = 0
    debits: int = 0
    credits: int = 0


@dataclass(slots=True)
class _Proof:
    """One run: the counts and the faults so far. After a fault it goes on from what the row says."""

    connection: Connection
    progress: Progress
    transfers: int = 0
    accounts: int = 0
    ledgers: int = 0
    commands: int = 0
    faults: dict[Kind, Fault] = field(default_factory=dict)

    def run(self) -> None:
        total = self.connection.execute(text(_COUNT_TRANSFERS)).scalar_one()
        transfers = _ByLedger(self._counted(self._rows(_TRANSFERS), total))
        accounts = _ByLedger(self._rows(_ACCOUNTS))
        for ledger in self._rows(_LEDGERS):
            self.ledgers += 1
            self._strays("transfer", transfers.before(ledger.ledger))
            self._strays("account", accounts.before(ledger.ledger))
            heads = self._prove_entries(ledger, transfers.of(ledger.ledger))
            self._prove_accounts(ledger, accounts.of(ledger.ledger), heads)
        self._strays("transfer", transfers.rest())
        self._strays("account", accounts.rest())
        self._prove_commands()
        self._prove_holds_and_reversals()
        self.progress(self.transfers, total)

    def _rows(self, statement: str) -> Iterable[Row[Any]]:
        """Read by a cursor of the server, in the one transaction that all of this is."""
        return self.connection.execute(text(statement).execution_options(yield_per=ROWS_AT_ONCE))

    def _counted(self, rows: Iterable[Row[Any]], total: int) -> Iterator[Row[Any]]:
        for row in rows:
            if self.transfers % ROWS_AT_ONCE == 0:
                self.progress(self.transfers, total)
            self.transfers += 1
            yield row

    def _fault(self, kind: Kind, row: str, detail: str) -> None:
        self.faults.setdefault(kind, Fault(kind, row, detail))

    def _strays(self, what: str, rows: Iterable[Row[Any]]) -> None:
        for row in rows:
            self._fault(Kind.UNKNOWN_LEDGER, f"{what} {row.id}", f"there is no ledger {row.ledger}")

    def _prove_entries(self, ledger: Row[Any], transfers: Iterable[Row[Any]]) -> dict[str, _Head]:
        """Follow a ledger's transfers; give where each of its accounts has come to."""
        heads: dict[str, _Head] = {}
        last = 0
        latest: datetime | None = None
        for transfer in transfers:
            _, sequence, id, source, destination, amount, version, other_version, balance, other, created_at = tuple(
                transfer
            )
            if sequence != last + 1:
                self._fault(Kind.SEQUENCE_GAP, f"transfer {id}", f"sequence {sequence} comes after {last}")
            if latest is not None and created_at < latest:
                self._fault(Kind.TIME_WENT_BACK, f"transfer {id}", f"{created_at} comes after {latest}")
            self._prove_entry(id, source, heads.setdefault(source, _Head()), version, -amount, balance)
            self._prove_entry(id, destination, heads.setdefault(destination, _Head()), other_version, amount, other)
            last, latest = sequence, created_at
        if last != ledger.sequence:
            detail = f"it counts {ledger.sequence} transfers, and the last one is {last}"
            self._fault(Kind.LEDGER_SEQUENCE, f"ledger {ledger.name}", detail)
        return heads

    def _prove_entry(self, id: str, account: str, head: _Head, version: int, change: int, balance: int) -> None:
        if version != head.version + 1:
            detail = f"version {version} of account {account} comes after {head.version}"
            self._fault(Kind.VERSION_GAP, f"transfer {id}", detail)
        if balance != head.balance + change:
            detail = f"account {account}: {head.balance} and {change:+} make {head.balance + change}, not {balance}"
            self._fault(Kind.BALANCE_BROKEN, f"transfer {id}", detail)
        head.version = version
        head.balance = balance
        if change < 0:
            head.debits -= change
        else:
            head.credits += change

    def _prove_accounts(self, ledger: Row[Any], accounts: Iterable[Row[Any]], heads: dict[str, _Head]) -> None:
        """Hold a ledger's accounts against where their entries have come to."""
        total = 0
        for account in accounts:
            self.accounts += 1
            total += account.credits_posted - account.debits_posted
            self._prove_account(account, heads.pop(account.id, _Head()))
        for id in heads:
            self._fault(Kind.UNKNOWN_ACCOUNT, f"account {id}", f"has entries in {ledger.name}, and is not there")
        if total != 0:
            self._fault(Kind.LEDGER_NOT_ZERO, f"ledger {ledger.name}", f"its balances add up to {total}")

    def _prove_account(self, account: Row[Any], head: _Head) -> None:
        row = f"account {account.id}"
        if account.version != head.version:
            self._fault(Kind.ACCOUNT_VERSION, row, f"counts {account.version} entries and has {head.version}")
        counted, added = (account.debits_posted, account.credits_posted), (head.debits, head.credits)
        if counted != added or account.credits_posted - account.debits_posted != head.balance:
            detail = f"debits and credits are {counted}, and its entries add up to {added}"
            self._fault(Kind.ACCOUNT_COUNTERS, row, detail)
        balance = account.credits_posted - account.debits_posted
        if account.min_balance is not None and balance - account.debits_pending < account.min_balance:
            self._fault(Kind.LIMIT_BROKEN, row, f"{balance} is below its limit of {account.min_balance}")
        if account.max_balance is not None and balance + account.credits_pending > account.max_balance:
            self._fault(Kind.LIMIT_BROKEN, row, f"{balance} is above its limit of {account.max_balance}")

    def _prove_commands(self) -> None:
        self.connection.execute(text(_JOIN_WHOLE_TABLES))
        self.commands = self.connection.execute(text(_COUNT_COMMANDS)).scalar_one()
        for id in self.connection.execute(text(_TRANSFER_MISSING)).scalars():
            self._fault(Kind.TRANSFER_MISSING, f"command {id}", "was applied, and its transfer is not there")
        for id in self.connection.execute(text(_COMMAND_MISSING)).scalars():
            self._fault(Kind.COMMAND_MISSING, f"transfer {id}", "no applied command has made it")
        for id in self.connection.execute(text(_ACCOUNT_NOT_OPENED)).scalars():
            self._fault(Kind.COMMAND_MISSING, f"account {id}", "no applied command has opened it")
        for id, created_at, decided_at in self.connection.execute(text(_TIME_DIFFERS)):
            self._fault(Kind.TIME_DIFFERS, f"transfer {id}", f"is of {created_at}, and was decided at {decided_at}")

    def _prove_holds_and_reversals(self) -> None:
        for id, *pending, debits, credits_ in self.connection.execute(text(_ACCOUNT_PENDING)):
            detail = f"pending are {tuple(pending)}, and its holds add up to {(int(debits), int(credits_))}"
            self._fault(Kind.ACCOUNT_PENDING, f"account {id}", detail)
        for id, captured, moved in self.connection.execute(text(_HOLD_CAPTURED)):
            detail = f"counts {captured} as captured, and its transfers add up to {int(moved)}"
            self._fault(Kind.HOLD_CAPTURED, f"hold {id}", detail)
        for id, amount, back in self.connection.execute(text(_REVERSED_TOO_MUCH)):
            self._fault(Kind.REVERSED_TOO_MUCH, f"transfer {id}", f"moved {amount}, and {int(back)} were moved back")


class _ByLedger:
    """Rows in order of their ledger, handed out a ledger at a time without being kept."""

    def __init__(self, rows: Iterable[Row[Any]]) -> None:
        self._rows = iter(rows)
        self._next = next(self._rows, None)

    def of(self, ledger: int) -> Iterator[Row[Any]]:
        """Give the rows of a ledger, which must be asked for in ascending order."""
        return self._while(lambda row: row.ledger == ledger)

    def before(self, ledger: int) -> Iterator[Row[Any]]:
        """Give what was left of lesser ledgers."""
        return self._while(lambda row: row.ledger < ledger)

    def rest(self) -> Iterator[Row[Any]]:
        """Give what is left."""
        return self._while(bool)

    def _while(self, wanted: Callable[[Row[Any]], bool]) -> Iterator[Row[Any]]:
        while self._next is not None and wanted(self._next):
            row, self._next = self._next, next(self._rows, None)
            yield row
