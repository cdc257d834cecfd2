"""Which ledgers an item works on: known before its transaction begins, because nothing ever changes its ledger."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import TypeAlias

from sqlalchemy import Connection, text

from models.commands import Batch, Command
from models.dead_letters import DeadLetter
from worker.engine.decide import Item
from worker.postgres.engines import array

Connect: TypeAlias = Callable[[], AbstractContextManager[Connection]]

_MAX_CACHED = 200_000
"""Ids remembered, about 40 MB; past that the memory begins anew, which costs one query a group."""

Name = tuple[str, str]
"""A table and an id in it: an account may have the id of a transfer."""

_FIND = {
    table: text(
        f"""
        SELECT named.id::text, ledger.name
        FROM equipoise.{table} named JOIN equipoise.ledgers ledger ON ledger.number = named.ledger
        WHERE named.id = ANY (cast(:ids AS uuid[]))
        """  # noqa: S608  # our own tables
    )
    for table in ("accounts", "holds", "transfers")
}


class Directory:
    """Remembers the ledger of each account, hold and transfer that it was ever asked for."""

    def __init__(self) -> None:
        self._ledger_of: dict[Name, str] = {}

    def ledgers(self, items: Sequence[Item], connect: Connect) -> list[frozenset[str]]:
        """Name the ledgers of each item, in the items' order. What is nowhere adds none.

        `connect` opens a connection outside a transaction; it is called only if something is not remembered.
        """
        named, unknown = self._recall(items)
        if unknown:
            with connect() as connection:
                self._learn(connection, unknown)
            named, _ = self._recall(items)
        return named

    def _recall(self, items: Sequence[Item]) -> tuple[list[frozenset[str]], set[Name]]:
        """Give the ledgers of each item as far as they are remembered, and the names that are not."""
        ledger_of = self._ledger_of
        told: list[frozenset[str]] = []
        unknown: set[Name] = set()
        for item in items:
            commands = commands_of(item)
            names = names_of(commands)
            known = names & ledger_of.keys()
            unknown |= names - known
            told.append(frozenset(ledgers_of(commands).union(ledger_of[name] for name in known)))
        return told, unknown

    def _learn(self, connection: Connection, names: set[Name]) -> None:
        if len(self._ledger_of) + len(names) > _MAX_CACHED:
            self._ledger_of.clear()
        for table, find in _FIND.items():
            ids = [id for named, id in names if named == table]
            if ids:
                for id, ledger in connection.execute(find, {"ids": array(ids)}):
                    self._ledger_of[table, id] = ledger


def commands_of(item: Item) -> list[Command]:
    """Give the commands that an item carries, in decision order."""
    if isinstance(item, DeadLetter):
        return []
    if isinstance(item, Batch):
        return [member for member in item.members if not isinstance(member, DeadLetter)]
    return [item]


def names_of(commands: Iterable[Command]) -> set[Name]:
    """Name all that deciding these commands needs, but for ledgers."""
    return (
        {("accounts", id) for id in accounts_of(commands)}
        | {("holds", id) for id in holds_of(commands)}
        | {("transfers", id) for id in transfers_of(commands)}
    )


def ledgers_of(commands: Iterable[Command]) -> set[str]:
    """Name the ledgers that these commands themselves name."""
    return set(chain.from_iterable([command.ledgers() for command in commands]))


def accounts_of(commands: Iterable[Command]) -> set[str]:
    """Name the accounts that deciding these commands needs."""
    return set(chain.from_iterable([command.accounts() for command in commands]))


def holds_of(commands: Iterable[Command]) -> set[str]:
    """Name the holds that they need."""
    return set(chain.from_iterable([command.holds() for command in commands]))


def transfers_of(commands: Iterable[Command]) -> set[str]:
    """Name the earlier transfers that they need."""
    return set(chain.from_iterable([command.transfers() for command in commands]))


def made_by(commands: Iterable[Command]) -> set[str]:
    """Name the transfers that those of them that make several may make."""
    return set(chain.from_iterable([command.makes() for command in commands]))
