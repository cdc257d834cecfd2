"""A second reading of the wire contract: the slowest ledger there is, to hold the month's expectation against.

It takes messages one after the other, in whatever order a test gives, and knows of each only its commands and which of
them are malformed. It shares no line with the worker, and none with the sums over what is foretold in `bench.story`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench.story import Message

Command = dict[str, Any]


@dataclass
class Account:
    ledger: str
    min_balance: int | None
    max_balance: int | None


@dataclass
class Reading:
    ledgers: set[str] = field(default_factory=set)
    accounts: dict[str, Account] = field(default_factory=dict)
    balances: Counter[str] = field(default_factory=Counter)
    kept: dict[str, tuple[Command, str]] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)
    reserved: Counter[str] = field(default_factory=Counter)
    holds: dict[str, dict[str, Any]] = field(default_factory=dict)
    moved: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Settle a message. What is foretold of it is looked at only to know whether it can be read."""
        foretold = list(message.foretold)
        if message.form != "batch":
            self.settle([foretold[0].command], [foretold[0].cause])
            return
        for member in _members(message):
            size = len(member) if isinstance(member, list) else 1
            chain, foretold = foretold[:size], foretold[size:]
            self.settle([told.command for told in chain], [told.cause for told in chain])

    def settle(self, chain: list[Command], causes: list[str]) -> None:
        """Apply all or none. One command is a chain of one."""
        before, opened = self.balances.copy(), dict(self.accounts)
        known = [not cause and command["id"] in self.kept for command, cause in zip(chain, causes, strict=True)]
        statuses = [
            "malformed" if cause else self.decide(command) for command, cause in zip(chain, causes, strict=True)
        ]
        fails = any(status != "applied" for status in statuses) or (any(known) and not all(known))
        if len(chain) > 1 and fails:
            self.balances, self.accounts = before, opened
        for command, status, was_known in zip(chain, statuses, known, strict=True):
            if len(chain) > 1 and fails and status == "applied" and not was_known:
                status = "chain_failed"
            self.answered[status] += 1
            if not was_known and status not in ("chain_failed", "malformed"):
                self.kept[command["id"]] = (command, status)

    def decide(self, command: Command) -> str:
        if command["id"] in self.kept:
            content, status = self.kept[command["id"]]
            return status if content == command else "id_reused"
        match command["type"]:
            case "ledgers.open":
                return self.open_ledger(command["ledger"])
            case "accounts.open":
                return self.open_account(command)
            case "transfers.hold":
                return self.hold(command)
            case "transfers.capture":
                return self.capture(command)
            case "transfers.void":
                return self.void(command)
            case "transfers.reverse":
                return self.reverse(command)
            case "transfers.split":
                return self.split(command)
            case _:
                return self.post(command)

    def open_ledger(self, ledger: str) -> str:
        if ledger in self.ledgers:
            return "ledger_exists"
        self.ledgers.add(ledger)
        return "applied"

    def open_account(self, command: Command) -> str:
        if command["ledger"] not in self.ledgers:
            return "ledger_not_found"
        if command["account_id"] in self.accounts:
            return "account_exists"
        self.accounts[command["account_id"]] = Account(
            command["ledger"], command.get("min_balance", 0), command.get("max_balance")
        )
        return "applied"

    def post(self, command: Command) -> str:
        source_id, destination_id, amount = command["source_id"], command["destination_id"], command["amount"]
        source, destination = self.accounts.get(source_id), self.accounts.get(destination_id)
        if source_id == destination_id:
            return "accounts_must_differ"
        if source is None:
            return "source_not_found"
        if destination is None:
            return "destination_not_found"
        if source.ledger != destination.ledger:
            return "ledgers_must_match"
        if command.get("up_to"):
            amount = min(amount, self.balances[source_id])
        left, got = self.balances[source_id] - self.reserved[source_id] - amount, self.balances[destination_id] + amount
        if amount <= 0 or (source.min_balance is not None and left < source.min_balance):
            return "insufficient_funds"
        if destination.max_balance is not None and got > destination.max_balance:
            return "limit_exceeded"
        self.move(source_id, destination_id, amount)
        self.moved[command["id"]] = command | {"left": amount}
        return "applied"

    def move(self, source_id: str, destination_id: str, amount: int) -> None:
        self.balances[source_id] -= amount
        self.balances[destination_id] += amount

    # These stand outside chains, so nothing of theirs is ever taken back.

    def hold(self, command: Command) -> str:
        assert self.balances[command["source_id"]] - self.reserved[command["source_id"]] >= command["amount"]
        self.reserved[command["source_id"]] += command["amount"]
        self.holds[command["id"]] = command | {"left": command["amount"], "state": "pending"}
        return "applied"

    def capture(self, command: Command) -> str:
        hold = self.holds[command["hold_id"]]
        if command["amount"] > hold["left"]:
            return "exceeds_hold"
        assert hold["state"] == "pending" and not command["final"]
        hold["left"] -= command["amount"]
        self.reserved[hold["source_id"]] -= command["amount"]
        self.move(hold["source_id"], hold["destination_id"], command["amount"])
        return "applied"

    def void(self, command: Command) -> str:
        hold = self.holds[command["hold_id"]]
        if hold["state"] != "pending":
            return "already_voided"
        self.reserved[hold["source_id"]] -= hold["left"]
        hold |= {"left": 0, "state": "voided"}
        return "applied"

    def reverse(self, command: Command) -> str:
        original = self.moved[command["transfer_id"]]
        if command["amount"] > original["left"]:
            return "exceeds_original"
        original["left"] -= command["amount"]
        self.move(original["destination_id"], original["source_id"], command["amount"])
        return "applied"

    def split(self, command: Command) -> str:
        left = command["amount"]
        for part in command["destinations"]:
            over, under = map(int, part.get("share", f"{left}/{command['amount']}").split("/"))
            amount = command["amount"] * over // under
            left -= amount
            self.move(command["source_id"], part["account_id"], amount)
        return "applied"


def _members(message: Message) -> list[Any]:
    members: list[Any] = json.loads(message.line)["commands"]
    return members
