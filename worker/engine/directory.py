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

Named = dict[str, set[str]]
"""Ids by their table: an account may have the id of a transfer."""

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
        self._ledger_of: dict[str, dict[str, str]] = {table: {} for table in _FIND}

    def ledgers(self, items: Sequence[Item], connect: Connect) -> list[frozenset[str]]:
        """Name the ledgers of each item, in the items' order. What is nowhere adds none.

        `connect` opens a connection outside a transaction; it is called only if something is not remembered.
        """
        told, unknown = self._recall(items)
        if any(unknown.values()):
            with connect() as connection:
                self._learn(connection, unknown)
            told, _ = self._recall(items)
        return told

    def _recall(self, items: Sequence[Item]) -> tuple[list[frozenset[str]], Named]:
        """Give the ledgers of each item as far as they are remembered, and the ids that are not."""
        told: list[frozenset[str]] = []
        unknown: Named = {table: set() for table in _FIND}
        for item in items:
            commands = commands_of(item)
            ledgers = ledgers_of(commands)
            for table, ids_of in _IDS_OF.items():
                ids = ids_of(commands)
                if ids:  # of most commands, accounts alone: this is done for every message
                    ledger_of = self._ledger_of[table]
                    known = ids & ledger_of.keys()
                    unknown[table] |= ids - known
                    ledgers.update([ledger_of[id] for id in known])
            told.append(frozenset(ledgers))
        return told, unknown

    def _learn(self, connection: Connection, named: Named) -> None:
        if sum(map(len, [*self._ledger_of.values(), *named.values()])) > _MAX_CACHED:
            for remembered in self._ledger_of.values():
                remembered.clear()
        for table, ids in named.items():
            if ids:
                found = connection.execute(_FIND[table], {"ids": array(ids)})
                self._ledger_of[table].update((id, ledger) for id, ledger in found)


def commands_of(item: Item) -> list[Command]:
    """Give the commands that an item carries, in decision order."""
    if isinstance(item, DeadLetter):
        return []
    if isinstance(item, Batch):
        return [member for member in item.members if not isinstance(member, DeadLetter)]
    return [item]


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


_IDS_OF: dict[str, Callable[[Iterable[Command]], set[str]]] = {
    "accounts": accounts_of,
    "holds": holds_of,
    "transfers": transfers_of,
}
