"""Families of commands as a team would register them, so small that only the isolation level guards them.

Each reads in `load` and writes in `write`; between the two it calls `loaded`, where a test makes sessions meet.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, text

from models import outcomes
from models.commands import Command
from models.outcomes import Outcome

SCHEMA = """
    CREATE TABLE counter (value integer NOT NULL);
    INSERT INTO counter VALUES (0);
    CREATE TABLE doctors (name text PRIMARY KEY, on_call boolean NOT NULL);
    INSERT INTO doctors VALUES ('alice', true), ('bob', true);
    GRANT SELECT, UPDATE ON counter, doctors TO equipoise_worker;
"""


class Count(Command):
    """Add one to the only counter there is."""

    type: Literal["counter.count"] = "counter.count"


class Leave(Command):
    """Let a doctor go home, if another stays on call."""

    type: Literal["doctors.leave"] = "doctors.leave"
    name: str


@dataclass
class Rows:
    """What was read, and what is to be written."""

    value: Any
    latest: None = None

    def ledger_of(self, _command: Command) -> None:
        return None

    def mark(self) -> int:
        return 0

    def undo(self, mark: int) -> None:
        raise AssertionError("no chains here")


@dataclass(frozen=True)
class Counter:
    """Read, add, write: a lost update where nothing prevents it."""

    loaded: Callable[[], None]
    commands: tuple[type[Command], ...] = (Count,)

    def load(self, connection: Connection, commands: Sequence[Any]) -> Rows:
        value = connection.execute(text("SELECT value FROM counter")).scalar_one()
        self.loaded()
        return Rows(value)

    def catch_up(self, connection: Connection, state: Rows, now: datetime) -> None: ...

    def decide(self, command: Count, state: Rows, decided_at: str) -> Outcome:
        state.value += 1
        return outcomes.decided(command.id, command.type, "applied", decided_at)

    def write(self, connection: Connection, state: Rows, decided_at: str) -> None:
        connection.execute(text("UPDATE counter SET value = :value"), {"value": state.value})


@dataclass(frozen=True)
class Doctors:
    """Look at all, change one: a write skew where nothing prevents it."""

    loaded: Callable[[], None]
    commands: tuple[type[Command], ...] = (Leave,)

    def load(self, connection: Connection, commands: Sequence[Any]) -> Rows:
        rows = connection.execute(text("SELECT name FROM doctors WHERE on_call ORDER BY name"))
        on_call = list(rows.scalars())
        self.loaded()
        return Rows({"on_call": on_call, "leaving": []})

    def catch_up(self, connection: Connection, state: Rows, now: datetime) -> None: ...

    def decide(self, command: Leave, state: Rows, decided_at: str) -> Outcome:
        if len(state.value["on_call"]) < 2:
            return outcomes.decided(command.id, command.type, "invalid", decided_at)
        state.value["on_call"].remove(command.name)
        state.value["leaving"].append(command.name)
        return outcomes.decided(command.id, command.type, "applied", decided_at)

    def write(self, connection: Connection, state: Rows, decided_at: str) -> None:
        for name in state.value["leaving"]:
            connection.execute(text("UPDATE doctors SET on_call = false WHERE name = :name"), {"name": name})
