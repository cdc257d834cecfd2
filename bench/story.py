"""The words in which a month is told: what is sent, what is foretold of it, and what that adds up to.

Simple sums over what a story says of each command; no engine of ours is asked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.malformed import Command

UNDECIDED = ("chain_failed", "id_reused", "malformed")  # no verdict of their own is kept under the command's id


@dataclass(frozen=True, slots=True)
class Foretold:
    """A command and its fate: the status that it must get, what it then moves, and why, if it is a dead letter."""

    command: Command
    status: str = "applied"
    moved: int = 0
    cause: str = ""
    legs: tuple[
        tuple[str, str, int], ...
    ] = ()  # what it moves from whom to whom, where the command's fields do not say

    @property
    def moves(self) -> tuple[tuple[str, str, int], ...]:
        if self.legs or not self.moved:
            return self.legs
        return ((self.command["source_id"], self.command["destination_id"], self.moved),)


@dataclass(frozen=True, slots=True)
class Message:
    """One line of a file, and what is foretold of each command in it."""

    line: bytes
    foretold: tuple[Foretold, ...]
    form: str  # single, batch, or malformed


Chain = list[Foretold]


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be true once all phases are settled. Amounts are in the ledgers' minor units."""

    messages: dict[str, int]  # by form
    commands: int  # well-formed ones; a duplicate counts again, a batch counts as its members
    answered: dict[str, int]  # verdicts by status, one a command; and `malformed`, one a dead letter
    decided: dict[str, int]  # different ids by status: what is kept, the batches' own ids aside
    dead_letters: dict[str, int]  # by the kind of `bench.malformed`
    transfers: int  # applied ones
    hottest: dict[str, int]  # the account with most transfers, by name
    money: dict[str, dict[str, int]]  # balances by ledger and class of account; a ledger's add up to 0
    balances: dict[str, int]  # by account


def encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def single(told: Foretold) -> Message:
    return Message(encode(told.command), (told,), "single")


def well_formed(messages: Iterable[Message]) -> int:
    return sum(told.status != "malformed" for message in messages for told in message.foretold)


def foretold(messages: Iterable[Message]) -> list[Foretold]:
    return [told for message in messages for told in message.foretold]


def decided(foretold: Iterable[Foretold]) -> Iterator[Foretold]:
    """Yield what is kept under its id: the first verdict of each, if it has one of its own."""
    ids = set()
    for told in foretold:
        if told.status not in UNDECIDED and told.command["id"] not in ids:
            ids.add(told.command["id"])
            yield told


def balances(foretold: Iterable[Foretold]) -> Counter[str]:
    """Add up what is moved, by account."""
    balance: Counter[str] = Counter()
    for told in decided(foretold):
        for source, destination, amount in told.moves:
            balance[source] -= amount
            balance[destination] += amount
    return balance
