"""The walks along one ledger's transfers and its commands: each row is read once, and held against those before it.

Rows are read as COPY writes them, since that text is what was sealed. Memory holds one head an account.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from models import seals
from worker.engine import sealing
from worker.proving.checkpoints import Mark
from worker.proving.verdicts import Findings, Kind

TRANSFERS = f"""
    SELECT {sealing.COLUMNS}, seal FROM equipoise.transfers WHERE ledger = {{ledger}} ORDER BY sequence
"""  # noqa: S608  # our own columns
COMMANDS = f"""
    SELECT {sealing.COMMAND_COLUMNS}, number, seal FROM equipoise.inbox WHERE ledger = {{ledger}} ORDER BY number
"""  # noqa: S608


@dataclass(slots=True)
class Head:
    """Where an account's entries have come to."""

    version: int = 0
    debits: int = 0
    credits: int = 0

    @property
    def balance(self) -> int:
        """What they add up to."""
        return self.credits - self.debits


@dataclass(slots=True)
class TransferWalk:
    """Where the walk has come to: the newest transfer, its link and time, the sum of all amounts, the accounts."""

    findings: Findings
    head: bytes
    heads: dict[bytes, Head] = field(default_factory=dict)
    sequence: int = 0
    created_at: bytes = b""
    moved: int = 0

    def follow(self, lines: Iterable[bytes], marks: Mapping[int, Mark]) -> None:
        """Prove each transfer. After a fault it goes on from what the row says."""
        for line in lines:
            row, _, sealed = line.rpartition(b"\t")
            fields = row.split(b"\t")
            _, sequence, id, source, destination, amount, version, other_version, balance, other, created_at = fields[
                :11
            ]
            self._chain(sealing.canonical_line(row), int(sealed), id)
            self._order(int(sequence), created_at, id)
            moved = int(amount)
            self._entry(id, source, int(version), -moved, int(balance))
            self._entry(id, destination, int(other_version), moved, int(other))
            self.moved += moved
            if self.sequence in marks:
                marks[self.sequence].compare(self.findings, "transfers", self.sequence, self.head, self.moved)

    def _chain(self, row: bytes, sealed: int, id: bytes) -> None:
        self.head = seals.link(self.head, row)
        if seals.seal(self.head) != sealed:
            detail = "it, or one before it, is not as it was sealed"
            self.findings.fault(Kind.TRANSFER_SEAL, f"transfer {id.decode()}", detail)

    def _order(self, sequence: int, created_at: bytes, id: bytes) -> None:
        if sequence != self.sequence + 1:
            detail = f"sequence {sequence} comes after {self.sequence}"
            self.findings.fault(Kind.SEQUENCE_GAP, f"transfer {id.decode()}", detail)
        # In UTC, as PostgreSQL writes them, moments of the years 1 to 9999 are in the order of their bytes.
        if created_at < self.created_at:
            detail = f"{created_at.decode()} comes after {self.created_at.decode()}"
            self.findings.fault(Kind.TIME_WENT_BACK, f"transfer {id.decode()}", detail)
        self.sequence, self.created_at = sequence, created_at

    def _entry(self, id: bytes, account: bytes, version: int, change: int, balance: int) -> None:
        head = self.heads.get(account)
        if head is None:
            head = self.heads[account] = Head()
        if version != head.version + 1:
            detail = f"version {version} of account {account.decode()} comes after {head.version}"
            self.findings.fault(Kind.VERSION_GAP, f"transfer {id.decode()}", detail)
        before = head.credits - head.debits
        if balance != before + change:
            made = f"{before} and {change:+} make {before + change}, not {balance}"
            self.findings.fault(Kind.BALANCE_BROKEN, f"transfer {id.decode()}", f"account {account.decode()}: {made}")
        head.version = version
        if change < 0:
            head.debits -= change
        else:
            head.credits += change


@dataclass(slots=True)
class CommandWalk:
    """Where the walk along the sealed commands has come to."""

    findings: Findings
    head: bytes
    number: int = 0

    def follow(self, lines: Iterable[bytes], marks: Mapping[int, Mark]) -> None:
        """Prove each command to be what was sealed in its place."""
        for line in lines:
            numbered, _, sealed = line.rpartition(b"\t")
            row, _, number = numbered.rpartition(b"\t")
            name = f"command {row[:36].decode()}"
            self.head = seals.link(self.head, row)
            if seals.seal(self.head) != int(sealed):
                detail = "it, or one before it, is not as it was sealed"
                self.findings.fault(Kind.COMMAND_SEAL, name, detail)
            if int(number) != self.number + 1:
                self.findings.fault(Kind.COMMAND_GAP, name, f"number {int(number)} comes after {self.number}")
            self.number = int(number)
            if self.number in marks:
                marks[self.number].compare(self.findings, "commands", self.number, self.head)
