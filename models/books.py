"""The books while a group is decided: accounts and ledgers as loaded, and what was done to them.

All state is in memory; `worker.engine.journal` loads it before and writes it after. Every change goes
through a method here, which appends it to `log`: the log is what gets written, and undoing its end is
how a failed chain leaves no trace.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from models.contract import MAX_COUNTER
from models.outcomes import Balance, Moved


@dataclass(slots=True)
class Ledger:
    """A book of accounts; `sequence` counts its transfers without gaps."""

    name: str
    currency: str
    scale: int
    sequence: int = 0
    decided_at: datetime | None = None
    """When its newest group was decided; None before its first."""
    number: int | None = None
    """What the database calls it; None until it is written."""


@dataclass(slots=True)
class Account:
    """Who holds money. Counters and limits in minor units; `version` counts the account's entries."""

    id: str
    ledger: Ledger
    min_balance: int | None
    max_balance: int | None
    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0
    state: str = "open"
    version: int = 0
    owner_id: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def balance(self) -> int:
        """What the account holds, reserved or not."""
        return self.credits_posted - self.debits_posted

    @property
    def available(self) -> int:
        """What no hold reserves. The floor `min_balance` plays no part in it."""
        return self.credits_posted - self.debits_posted - self.debits_pending

    def after(self) -> Balance:
        """Tell balance, available and version as they are now."""
        balance = self.credits_posted - self.debits_posted
        return {"balance": balance, "available": balance - self.debits_pending, "version": self.version}


class Transfer(NamedTuple):
    """Money that moved: one row with both its sides."""

    ledger: Ledger
    moved: Moved
    kind: str | None
    effective_at: datetime | None
    metadata: dict[str, Any] | None


Change = Ledger | Account | Transfer


@dataclass(slots=True)
class Books:
    """Everything the commands of a group name, by its key; what they do is in `log`, oldest first."""

    ledgers: dict[str, Ledger] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)

    def open_ledger(self, ledger: Ledger) -> None:
        """Add a ledger that no other has the name of."""
        assert ledger.name not in self.ledgers
        self.ledgers[ledger.name] = ledger
        self.log.append(ledger)

    def open_account(self, account: Account) -> None:
        """Add an account that no other has the id of."""
        assert account.id not in self.accounts
        self.accounts[account.id] = account
        self.log.append(account)

    def move(
        self,
        id: str,
        source: Account,
        destination: Account,
        amount: int,
        kind: str | None,
        effective_at: datetime | None,
        metadata: dict[str, Any] | None,
    ) -> Moved:
        """Post one transfer. The rules were checked; what is asserted here must hold whatever they say."""
        ledger = source.ledger
        assert ledger is destination.ledger
        assert source is not destination
        assert amount > 0
        source.debits_posted += amount
        source.version += 1
        destination.credits_posted += amount
        destination.version += 1
        ledger.sequence += 1
        assert source.debits_posted <= MAX_COUNTER
        assert destination.credits_posted <= MAX_COUNTER
        moved = Moved(id, ledger.sequence, source.id, destination.id, amount, source.after(), destination.after())
        self.log.append(Transfer(ledger, moved, kind, effective_at, metadata))
        return moved

    @property
    def latest(self) -> datetime | None:
        """When the newest group of any of these ledgers was decided."""
        return max((ledger.decided_at for ledger in self.ledgers.values() if ledger.decided_at), default=None)

    def mark(self) -> int:
        """Name this moment, for `undo`."""
        return len(self.log)

    def undo(self, mark: int) -> None:
        """Take back, newest first, everything done since `mark`."""
        while len(self.log) > mark:
            match self.log.pop():
                case Transfer(ledger=ledger, moved=moved):
                    source, destination = self.accounts[moved.source_id], self.accounts[moved.destination_id]
                    source.debits_posted -= moved.amount
                    source.version -= 1
                    destination.credits_posted -= moved.amount
                    destination.version -= 1
                    ledger.sequence -= 1
                case Account(id=id):
                    del self.accounts[id]
                case Ledger(name=name):
                    del self.ledgers[name]
