"""Families of commands: how commands that share rows are loaded, decided and written.

The ledger is one family (`journal`); documents, people or a team's own commands are others. A group may
hold commands of several families: each has its own state in memory, and all are written in one transaction.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from models.books import Ledger
from models.commands import Command
from models.outcomes import Outcome


class State(Protocol):
    """A family's rows in memory, able to take back what was done to them."""

    @property
    def latest(self) -> datetime | None:
        """When the newest of what was loaded was decided; a group is never decided before that."""
        ...

    def ledger_of(self, command: Any) -> Ledger | None:
        """Give the ledger in whose chain the command's verdict is sealed; None: in none."""
        ...

    def mark(self) -> int:
        """Name this moment."""
        ...

    def undo(self, mark: int) -> None:
        """Take back everything since `mark`."""
        ...


class Family(Protocol):
    """How one family's commands become rows.

    `load`, `catch_up` and `write` may be called more than once for a group and touch nothing but the database;
    `decide` touches nothing but the state. The state that `load` gave comes back to the others.
    """

    @property
    def commands(self) -> tuple[type[Command], ...]:
        """The command types of this family."""
        ...

    def load(self, connection: Connection, commands: Sequence[Any]) -> State:
        """Read, set-based, all that deciding these commands needs."""
        ...

    def catch_up(self, connection: Connection, state: Any, now: datetime) -> None:
        """Do to the state what time alone has done since it was written; part of no command."""
        ...

    def decide(self, command: Any, state: Any, decided_at: str) -> Outcome:
        """Check everything in order of precedence, then change the state."""
        ...

    def write(self, connection: Connection, state: Any, decided_at: str) -> None:
        """Write, set-based, what was done to the state."""
        ...
