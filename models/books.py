"""The books while a group is decided: accounts and ledgers as loaded, and what was done to them.

All state is in memory; `worker.engine.journal` loads it before and writes it after. Every change goes
through a method here, which appends it to `log`: the log is what gets written, and undoing its end is
how a failed chain leaves no trace.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from models import seals
from models.commands import Command
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
    head: bytes = b""
    """The newest link of its transfers' chain (`seals`)."""
    commands: int = 0
    """The commands that it has sealed, counted without gaps."""
    commands_head: bytes = b""
    """The newest link of their chain."""


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


@dataclass(slots=True)
class Hold:
    """Money that is reserved: `remaining` still is, `captured` was moved; `amount` is all that ever was."""

    id: str
    ledger: Ledger
    source_id: str
    destination_id: str
    amount: int
    remaining: int
    expires_at: datetime | None = None
    captured: int = 0
    state: str = "pending"
    kind: str | None = None
    effective_at: datetime | None = None
    metadata: dict[str, Any] | None = None


@dataclass(slots=True)
class Original:
    """A transfer that was posted before, as far as `reverse` needs to know it; `reversed` is what went back already."""

    id: str
    ledger: Ledger
    source_id: str
    destination_id: str
    amount: int
    reversed: int = 0


class Details(NamedTuple):
    """What a transfer says beyond its sides and its amount.

    `command_id` names the command where that has made several transfers; else the transfer has the command's own id.
    """

    kind: str | None = None
    effective_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    hold_id: str | None = None
    reverses: str | None = None
    command_id: str | None = None


class Transfer(NamedTuple):
    """Money that moved: one row with both its sides."""

    ledger: Ledger
    moved: Moved
    details: Details


class Change(NamedTuple):
    """Other values in a row: from what, to what, by field, and for which command (None: for no more than the time)."""

    row: Account | Hold | Original
    before: dict[str, Any]
    after: dict[str, Any]
    command_id: str | None


Entry = Ledger | Account | Hold | Transfer | Change


@dataclass(slots=True)
class Books:
    """Everything the commands of a group name, by its key; what they do is in `log`, oldest first."""

    ledgers: dict[str, Ledger] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    originals: dict[str, Original] = field(default_factory=dict)
    awaited: frozenset[str] = frozenset()
    """Transfers that the group's commands name and that were not posted before: an earlier command may post them."""
    watched: frozenset[str] = frozenset()
    """Transfers of commands that make several, of which another command may have made any."""
    taken: set[str] = field(default_factory=set)
    """Those of them that are there."""
    command_id: str | None = None
    """The command that is being decided."""
    log: list[Entry] = field(default_factory=list)

    def open_ledger(self, ledger: Ledger) -> None:
        """Add a ledger that no other has the name of."""
        assert ledger.name not in self.ledgers
        ledger.head = ledger.commands_head = seals.genesis(ledger.name, ledger.currency, ledger.scale)
        self.ledgers[ledger.name] = ledger
        self.log.append(ledger)

    def open_account(self, account: Account) -> None:
        """Add an account that no other has the id of."""
        assert account.id not in self.accounts
        self.accounts[account.id] = account
        self.log.append(account)

    def move(self, id: str, source: Account, destination: Account, amount: int, details: Details) -> Moved:
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
        self.log.append(Transfer(ledger, moved, details))
        if id in self.watched:
            self.taken.add(id)
        if id in self.awaited:
            self.originals[id] = Original(id, ledger, source.id, destination.id, amount)
        return moved

    def place(self, hold: Hold) -> None:
        """Reserve a hold's money on both sides."""
        assert hold.id not in self.holds
        self.holds[hold.id] = hold
        self.log.append(hold)
        self._reserve(hold, hold.remaining)

    def release(self, hold: Hold, state: str) -> None:
        """End a hold: what remains of it is reserved no longer."""
        assert hold.state == "pending"
        self._reserve(hold, -hold.remaining)
        self.change(hold, state=state, remaining=0)

    def reprice(self, hold: Hold, remaining: int) -> None:
        """Reserve another amount from now on."""
        self._reserve(hold, remaining - hold.remaining)
        amount = hold.amount + max(remaining - hold.remaining, 0)
        assert amount <= MAX_COUNTER
        self.change(hold, remaining=remaining, amount=amount)

    def capture(self, id: str, hold: Hold, amount: int, *, final: bool) -> Moved:
        """Move an amount that a hold reserves; the hold ends with nothing left, or because this is the final one."""
        assert 0 < amount <= hold.remaining
        self._reserve(hold, -amount)
        left = hold.remaining - amount
        self.change(hold, remaining=left, captured=hold.captured + amount, state="pending" if left else "captured")
        if final and left:
            self.release(hold, "captured")
        source, destination = self.accounts[hold.source_id], self.accounts[hold.destination_id]
        details = Details(hold.kind, hold.effective_at, hold.metadata, hold_id=hold.id)
        return self.move(id, source, destination, amount, details)

    def _reserve(self, hold: Hold, amount: int) -> None:
        source, destination = self.accounts[hold.source_id], self.accounts[hold.destination_id]
        self.change(source, debits_pending=source.debits_pending + amount)
        self.change(destination, credits_pending=destination.credits_pending + amount)
        assert min(source.debits_pending, destination.credits_pending) >= 0

    def change(self, row: Account | Hold | Original, **after: Any) -> None:
        """Give a row other values."""
        before = {name: getattr(row, name) for name in after}
        self.log.append(Change(row, before, after, self.command_id))
        for name, value in after.items():
            setattr(row, name, value)

    @property
    def latest(self) -> datetime | None:
        """When the newest group of any of these ledgers was decided."""
        return max((ledger.decided_at for ledger in self.ledgers.values() if ledger.decided_at), default=None)

    def ledger_of(self, command: Command) -> Ledger | None:
        """Give the ledger that seals a command: the first that it works on; None where it knows of none."""
        return next(self._ledgers_of(command), None)

    def _ledgers_of(self, command: Command) -> Iterator[Ledger]:
        yield from (self.ledgers[name] for name in command.ledgers() if name in self.ledgers)
        yield from (self.accounts[id].ledger for id in command.accounts() if id in self.accounts)
        yield from (self.holds[id].ledger for id in command.holds() if id in self.holds)
        # What is called a hold may be a transfer.
        named = (*command.transfers(), *command.holds())
        yield from (self.originals[id].ledger for id in named if id in self.originals)

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
                    self.taken.discard(moved.id)
                    if moved.id in self.awaited:
                        del self.originals[moved.id]
                case Change(row=row, before=before):
                    for name, value in before.items():
                        setattr(row, name, value)
                case Hold(id=id):
                    del self.holds[id]
                case Account(id=id):
                    del self.accounts[id]
                case Ledger(name=name):
                    del self.ledgers[name]
