"""Which ledgers an item works on: known before its transaction begins, because an account never changes ledger."""

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
"""Accounts remembered, about 40 MB; past that the memory begins anew, which costs one query a group."""

_FIND = text(
    """
    SELECT account.id::text, ledger.name
    FROM equipoise.accounts account JOIN equipoise.ledgers ledger ON ledger.number = account.ledger
    WHERE account.id = ANY (cast(:ids AS uuid[]))
    """
)


class Directory:
    """Remembers the ledger of each account that it was ever asked for."""

    def __init__(self) -> None:
        self._ledger_of: dict[str, str] = {}

    def ledgers(self, items: Sequence[Item], connect: Connect) -> list[frozenset[str]]:
        """Name the ledgers of each item, in the items' order. Accounts that are nowhere add none.

        `connect` opens a connection outside a transaction; it is called only if an account is not remembered.
        """
        named, unknown = self._recall(items)
        if unknown:
            with connect() as connection:
                self._learn(connection, unknown)
            named, _ = self._recall(items)
        return named

    def _recall(self, items: Sequence[Item]) -> tuple[list[frozenset[str]], set[str]]:
        """Give the ledgers of each item as far as they are remembered, and the accounts that are not."""
        ledger_of = self._ledger_of
        named: list[frozenset[str]] = []
        unknown: set[str] = set()
        for item in items:
            commands = commands_of(item)
            accounts = accounts_of(commands)
            known = accounts & ledger_of.keys()
            unknown |= accounts - known
            named.append(frozenset(ledgers_of(commands).union(ledger_of[account] for account in known)))
        return named, unknown

    def _learn(self, connection: Connection, accounts: set[str]) -> None:
        if len(self._ledger_of) + len(accounts) > _MAX_CACHED:
            self._ledger_of.clear()
        for id, name in connection.execute(_FIND, {"ids": array(accounts)}):
            self._ledger_of[id] = name


def commands_of(item: Item) -> list[Command]:
    """Give the commands that an item carries, in decision order."""
    if isinstance(item, DeadLetter):
        return []
    if isinstance(item, Batch):
        return [member for member in item.members if not isinstance(member, DeadLetter)]
    return [item]


def accounts_of(commands: Iterable[Command]) -> set[str]:
    """Name the accounts that deciding these commands needs."""
    return set(chain.from_iterable([command.accounts() for command in commands]))


def ledgers_of(commands: Iterable[Command]) -> set[str]:
    """Name the ledgers that these commands themselves name."""
    return set(chain.from_iterable([command.ledgers() for command in commands]))
