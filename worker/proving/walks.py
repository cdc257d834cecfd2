"""The walks along one ledger's transfers and its commands: each row is read once, and held against those before it.

Rows are read as COPY writes them, since that text is what was sealed. Memory holds what each account has come to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from models import seals
from worker.engine import sealing
from worker.proving.checkpoints import Mark
from worker.proving.verdicts import Findings, Kind

TRANSFERS = f"""
    SELECT {", ".join(sealing.TRANSFER)}, seal FROM equipoise.transfers WHERE ledger = {{ledger}} ORDER BY sequence
"""  # noqa: S608  # our own columns
COMMANDS = f"""
    SELECT {", ".join(sealing.COMMAND)}, number, seal FROM equipoise.inbox WHERE ledger = {{ledger}} ORDER BY number
"""  # noqa: S608


@dataclass(slots=True)
class Chain:
    """One of a ledger's chains, as far as it was followed: the newest link, its place, and what had moved by then."""

    findings: Findings
    ledger: str
    what: str
    head: bytes
    marks: Mapping[int, Mark]
    place: int = 0

    def __post_init__(self) -> None:
        self._compare(0)

    def add(self, row: bytes, seal: bytes, place: int, fault: tuple[Kind, str], moved: int = 0) -> None:
        """Follow the chain by a row; `fault` is what to call it, and the row's name, where it does not fit."""
        self.head = seals.link(self.head, row)
        self.place = place
        if seals.seal(self.head) != int(seal):
            self.findings.fault(*fault, "it, or one before it, is not as it was sealed")
        self._compare(moved)

    def end(self, head: bytes) -> None:
        """Compare the chain's end with what the ledger keeps of it, and with how far checkpoints have seen it."""
        row = f"ledger {self.ledger}"
        if self.head != head:
            self.findings.fault(Kind.LEDGER_HEAD, row, f"the newest link of its {self.what} is not the one it keeps")
        seen = max(self.marks, default=0)
        if seen > self.place:
            detail = f"its {self.what} end at {self.place}, and {self.marks[seen].source} has seen {seen}"
            self.findings.fault(Kind.TAIL_CUT, row, detail)

    def _compare(self, moved: int) -> None:
        mark = self.marks.get(self.place)
        if mark is not None and (mark.head, mark.moved) != (self.head, moved):
            detail = f"its {self.what} up to {self.place} are not those that {mark.source} has seen"
            self.findings.fault(Kind.CHECKPOINT_DIFFERS, f"ledger {self.ledger}", detail)


@dataclass(slots=True)
class Totals:
    """What an account's entries have come to."""

    version: int = 0
    debits: int = 0
    credits: int = 0


@dataclass(slots=True)
class TransferWalk:
    """Where the walk has come to: the newest transfer's time, the sum of all amounts, the accounts."""

    findings: Findings
    chain: Chain
    totals: dict[bytes, Totals] = field(default_factory=dict)
    created_at: bytes = b""
    moved: int = 0

    def follow(self, lines: Iterable[bytes]) -> None:
        """Prove each transfer. After a fault it goes on from what the row says."""
        for line in lines:
            row, _, seal = line.rpartition(b"\t")
            _, sequence, id, source_id, destination_id, amount, *after, created_at = row.split(b"\t", 11)[:11]
            source_version, destination_version, source_balance, destination_balance = map(int, after)
            name = f"transfer {id.decode()}"
            moved = int(amount)
            self.moved += moved
            self._order(int(sequence), created_at, name)
            self.chain.add(sealing.canonical_line(row), seal, int(sequence), (Kind.TRANSFER_SEAL, name), self.moved)
            self._entry(name, source_id, source_version, -moved, source_balance)
            self._entry(name, destination_id, destination_version, moved, destination_balance)

    def _order(self, sequence: int, created_at: bytes, name: str) -> None:
        if sequence != self.chain.place + 1:
            self.findings.fault(Kind.SEQUENCE_GAP, name, f"sequence {sequence} comes after {self.chain.place}")
        # In UTC, as PostgreSQL writes them, moments of the years 1 to 9999 are in the order of their bytes.
        if created_at < self.created_at:
            detail = f"{created_at.decode()} comes after {self.created_at.decode()}"
            self.findings.fault(Kind.TIME_WENT_BACK, name, detail)
        self.created_at = created_at

    def _entry(self, name: str, account: bytes, version: int, change: int, balance: int) -> None:
        totals = self.totals.get(account)
        if totals is None:
            totals = self.totals[account] = Totals()
        if version != totals.version + 1:
            detail = f"version {version} of account {account.decode()} comes after {totals.version}"
            self.findings.fault(Kind.VERSION_GAP, name, detail)
        before = totals.credits - totals.debits
        if balance != before + change:
            made = f"{before} and {change:+} make {before + change}, not {balance}"
            self.findings.fault(Kind.BALANCE_BROKEN, name, f"account {account.decode()}: {made}")
        totals.version = version
        if change < 0:
            totals.debits -= change
        else:
            totals.credits += change


def follow_commands(findings: Findings, chain: Chain, lines: Iterable[bytes]) -> None:
    """Prove each sealed command to be what was sealed in its place."""
    for line in lines:
        numbered, _, seal = line.rpartition(b"\t")
        row, _, number = numbered.rpartition(b"\t")
        name = f"command {row[:36].decode()}"
        if int(number) != chain.place + 1:
            findings.fault(Kind.COMMAND_GAP, name, f"number {int(number)} comes after {chain.place}")
        chain.add(row, seal, int(number), (Kind.COMMAND_SEAL, name))
