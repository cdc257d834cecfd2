"""The ledger once more, as simply as it can be said: commands as they travel in, outcomes out, all in dictionaries.

The laws compare the worker with it. Written from the contract alone: it shares no code with what it judges, knows no
database, counts time in seconds (its outcomes have no `decided_at`), has every hold expire as soon as its deadline has
come, and takes one message after the other. What each command does to the books is `model_books`; here is what is known
already, batches, chains and dry runs.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tests.model_books import Books, Json

_NOTES = ("kind", "effective_at", "metadata")
FIELDS = {
    "ledgers.open": ("ledger", "currency", "scale"),
    "accounts.open": ("account_id", "ledger", "min_balance", "max_balance", "owner_id", "metadata"),
    "accounts.limit": ("account_id", "min_balance", "max_balance"),
    "accounts.freeze": ("account_id",),
    "accounts.unfreeze": ("account_id",),
    "accounts.close": ("account_id", "remainder_to"),
    "transfers.post": ("source_id", "destination_id", "amount", "up_to", *_NOTES),
    "transfers.split": ("source_id", "destinations", "sources", "destination_id", "amount", *_NOTES),
    "transfers.exchange": (
        "source_id", "source_liquidity_id", "source_amount",
        "destination_liquidity_id", "destination_id", "destination_amount", *_NOTES,
    ),
    "transfers.reverse": ("transfer_id", "amount", "effective_at"),
    "transfers.hold": ("source_id", "destination_id", "amount", "up_to", *_NOTES, "expires_in_s", "expires_at"),
    "transfers.capture": ("hold_id", "amount", "final"),
    "transfers.void": ("hold_id",),
    "transfers.extend": ("hold_id", "expires_in_s", "amount"),
    "batch": ("commands",),
}  # fmt: skip
DEFAULTS = {"up_to": False, "final": True}


class Model:
    """The books, and everything that was ever decided."""

    def __init__(self) -> None:
        self.books = Books()
        self.decided: dict[str, tuple[Json, Json]] = {}

    def settle(self, message: Json) -> Json:
        """Give a message's outcome; `malformed` is a mark on those that the door refuses."""
        return self._told(message, self._batch if message["type"] == "batch" else self._command)

    def _told(self, message: Json, decide: Callable[[Json], Json]) -> Json:
        if message["id"] in self.decided and "malformed" not in message:
            return self._known(message)
        if not message.get("dry_run"):
            return decide(message)
        before = deepcopy(self.books), dict(self.decided)
        outcome = decide(message)
        self.books, self.decided = before
        return outcome

    def _known(self, command: Json) -> Json:
        first, outcome = self.decided[command["id"]]
        for name in ("type", *FIELDS[command["type"]]):
            if repr(_content(first, name)) != repr(_content(command, name)):
                return {"id": command["id"], "type": command["type"], "status": "id_reused", "detail": name}
        return outcome

    def _command(self, command: Json) -> Json:
        if "malformed" in command:
            return {"id": command["id"], "status": "malformed"}
        status, answer = self.books.apply(command)
        outcome = {"id": command["id"], "type": command["type"], "status": status} | answer
        self.decided[command["id"]] = (command, outcome)
        return outcome

    def _batch(self, batch: Json) -> Json:
        outcome = {"id": batch["id"], "type": "batch", "status": "applied", "outcomes": []}
        self.decided[batch["id"]] = (batch, outcome)
        for entry in batch["commands"]:
            one = self._chain if isinstance(entry, list) else self._member
            outcome["outcomes"].append(one(entry))
        return outcome

    def _member(self, command: Json) -> Json:
        return self._told(command, self._command)

    def _chain(self, chain: list[Json]) -> list[Json]:
        ids = [command["id"] for command in chain if "malformed" not in command]
        known = [id in self.decided for id in ids]
        if len(ids) == len(chain) and all(known):
            return [self._known(command) for command in chain]
        if len(set(ids)) == len(chain) and not any(known):
            before = deepcopy(self.books), dict(self.decided)
            outcomes = [self._member(command) for command in chain]
            refused = next((place for place, it in enumerate(outcomes) if it["status"] != "applied"), None)
            if refused is None:
                return outcomes
            self.books, self.decided = before
            if not chain[refused].get("dry_run"):
                self.decided[ids[refused]] = (chain[refused], outcomes[refused])
            return [outcomes[place] if place == refused else _failed(it) for place, it in enumerate(chain)]
        return [
            self._member(command) if "malformed" in command or command["id"] in self.decided else _failed(command)
            for command in chain
        ]


def _content(command: Json, name: str) -> Any:
    """Give a field's value, a default where it is not given; parts of a split without what says nothing."""
    default = 0 if (command["type"], name) == ("accounts.open", "min_balance") else DEFAULTS.get(name)
    value = command.get(name, default)
    if name in ("sources", "destinations") and value is not None:
        return [sorted((name, it) for name, it in part.items() if it not in (None, False)) for part in value]
    return value


def _failed(command: Json) -> Json:
    return {"id": command["id"], "type": command["type"], "status": "chain_failed"}
