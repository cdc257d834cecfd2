"""The ledger once more, as simply as it can be said: commands as they travel in, outcomes out, all in dictionaries.

The laws compare the worker with it. Written from the contract alone: it shares no code with what it judges, knows no
database and no time (its outcomes have no `decided_at`), and takes one message after the other.
"""

from copy import deepcopy
from typing import Any

Json = dict[str, Any]

FIELDS = {
    "ledgers.open": ("ledger", "currency", "scale"),
    "accounts.open": ("account_id", "ledger", "min_balance", "max_balance", "owner_id", "metadata"),
    "transfers.post": ("source_id", "destination_id", "amount", "up_to", "kind", "effective_at", "metadata"),
    "batch": ("commands",),
}
DEFAULTS = {"min_balance": 0, "up_to": False}


class Model:
    """Ledgers, accounts, transfers and everything that was ever decided."""

    def __init__(self) -> None:
        self.sequences: dict[str, int] = {}
        self.accounts: dict[str, Json] = {}
        self.transfers: list[tuple[Any, ...]] = []
        self.decided: dict[str, tuple[Json, Json]] = {}

    def settle(self, message: Json) -> Json:
        """Give a message's outcome; `malformed` is a mark on those that the door refuses."""
        return self._batch(message) if message["type"] == "batch" else self._command(message)

    def _command(self, command: Json) -> Json:
        if "malformed" in command:
            return {"id": command["id"], "status": "malformed"}
        if command["id"] in self.decided:
            return self._known(command)
        rule = {"ledgers.open": self._ledger, "accounts.open": self._account, "transfers.post": self._transfer}
        status, answer = rule[command["type"]](command)
        outcome = {"id": command["id"], "type": command["type"], "status": status} | answer
        self.decided[command["id"]] = (command, outcome)
        return outcome

    def _known(self, command: Json) -> Json:
        first, outcome = self.decided[command["id"]]
        if first["type"] != command["type"]:
            return {"id": command["id"], "type": command["type"], "status": "id_reused", "detail": "type"}
        for name in FIELDS[command["type"]]:
            default = DEFAULTS.get(name)
            if repr(first.get(name, default)) != repr(command.get(name, default)):
                return {"id": command["id"], "type": command["type"], "status": "id_reused", "detail": name}
        return outcome

    def _batch(self, batch: Json) -> Json:
        if batch["id"] in self.decided:
            return self._known(batch)
        outcome = {"id": batch["id"], "type": "batch", "status": "applied", "outcomes": []}
        self.decided[batch["id"]] = (batch, outcome)
        for entry in batch["commands"]:
            outcome["outcomes"].append(self._chain(entry) if isinstance(entry, list) else self._command(entry))
        return outcome

    def _chain(self, chain: list[Json]) -> list[Json]:
        ids = [command["id"] for command in chain if "malformed" not in command]
        known = [id in self.decided for id in ids]
        if len(ids) == len(chain) and all(known):
            return [self._command(command) for command in chain]
        if len(set(ids)) == len(chain) and not any(known):
            before = *deepcopy((self.sequences, self.accounts, self.transfers)), dict(self.decided)
            outcomes = [self._command(command) for command in chain]
            refused = next((place for place, it in enumerate(outcomes) if it["status"] != "applied"), None)
            if refused is None:
                return outcomes
            self.sequences, self.accounts, self.transfers, self.decided = before
            self.decided[ids[refused]] = (chain[refused], outcomes[refused])
        return [
            self._command(command) if "malformed" in command or command["id"] in self.decided else _failed(command)
            for command in chain
        ]

    def _ledger(self, command: Json) -> tuple[str, Json]:
        if command["ledger"] in self.sequences:
            return "ledger_exists", {}
        self.sequences[command["ledger"]] = 0
        return "applied", {}

    def _account(self, command: Json) -> tuple[str, Json]:
        floor, ceiling = command.get("min_balance", 0), command.get("max_balance")
        if (floor is not None and floor > 0) or (ceiling is not None and ceiling < 0):
            return "invalid", {}
        if command["ledger"] not in self.sequences:
            return "ledger_not_found", {}
        if command["account_id"] in self.accounts:
            return "account_exists", {}
        empty = {"ledger": command["ledger"], "floor": floor, "ceiling": ceiling, "in": 0, "out": 0, "version": 0}
        self.accounts[command["account_id"]] = empty
        return "applied", {"balances": {command["account_id"]: _after(empty)}}

    def _transfer(self, command: Json) -> tuple[str, Json]:
        ids = source_id, destination_id = command["source_id"], command["destination_id"]
        if source_id == destination_id:
            return "accounts_must_differ", {}
        if source_id not in self.accounts:
            return "source_not_found", {}
        if destination_id not in self.accounts:
            return "destination_not_found", {}
        source, destination = self.accounts[source_id], self.accounts[destination_id]
        if source["ledger"] != destination["ledger"]:
            return "ledgers_must_match", {}
        balances = [side["in"] - side["out"] for side in (source, destination)]
        amount = min(command["amount"], balances[0]) if command.get("up_to") else command["amount"]
        if source["out"] + amount >= 2**63 or destination["in"] + amount >= 2**63:
            return "overflow", {}
        if amount < 1 or (source["floor"] is not None and balances[0] - amount < source["floor"]):
            return "insufficient_funds", {}
        if destination["ceiling"] is not None and balances[1] + amount > destination["ceiling"]:
            return "limit_exceeded", {}
        source["out"] += amount
        destination["in"] += amount
        for side in (source, destination):
            side["version"] += 1
        self.sequences[source["ledger"]] += 1
        sequence = self.sequences[source["ledger"]]
        after = {source_id: _after(source), destination_id: _after(destination)}
        self.transfers.append((source["ledger"], sequence, command["id"], *ids, amount, after))
        moved = {"id": command["id"], "source_id": source_id, "destination_id": destination_id, "amount": amount}
        return "applied", {"sequence": sequence, "amount": amount, "transfers": [moved], "balances": after}


def _after(account: Json) -> Json:
    balance = account["in"] - account["out"]
    return {"balance": balance, "available": balance, "version": account["version"]}


def _failed(command: Json) -> Json:
    return {"id": command["id"], "type": command["type"], "status": "chain_failed"}
