"""Stories: what producers might send, in a small world where everything meets everything.

Told by chance rather than by hypothesis' strategies, whose small examples hardly ever hold a chain that fails at its
end; hypothesis gives the chance, and repeats what failed.

A story names ids, accounts and ledgers by small numbers and letters, so that they repeat. `World` gives them real names
that no other story has, so that thousands of stories are told in one database, and takes the names back out of what was
answered.
"""

import json
from collections.abc import Sequence
from random import Random
from typing import Any
from uuid import uuid4

import orjson
from sqlalchemy import Engine, text

from models.outcomes import Outcome
from tests.model import FIELDS, Model
from worker.engine.decide import Item
from worker.intake.door import Delivery, judge

Json = dict[str, Any]

_NOTES: list[Json] = [{}, {"a": 1}, {"a": True}, {"b": [None, "é"], "a": {}}]
_MOMENTS = ["2026-01-02T03:04:05.600000Z", "0999-12-31T00:00:00.000000Z"]
_FLOORS = [None, 0, -5, 1]


def tell(random: Random) -> list[Json]:
    """Tell of a few commands, each of which may come again, changed or as it was, alone or in batches and chains."""
    cast = [_command(random, f"#{place:02}") for place in range(random.randint(3, 20))]
    fresh = list(cast)
    told: list[Json] = []
    for _ in range(random.randint(1, 8)):
        if told and random.random() < 0.1:
            told.append(random.choice(told))
        elif random.random() < 0.5:
            told.append(_told(random, cast, fresh))
        else:
            told.append(_batch(random, cast, fresh))
    return told


def _batch(random: Random, cast: list[Json], fresh: list[Json]) -> Json:
    entries: list[Any] = [
        [_told(random, cast, fresh) for _ in range(random.randint(1, 4))]
        if random.random() < 0.5
        else _told(random, cast, fresh)
        for _ in range(random.randint(1, 5))
    ]
    id = random.choice(cast)["id"] if random.random() < 0.1 else f"#{random.randint(20, 60)}"
    return {"type": "batch", "id": id, "commands": entries}


def _told(random: Random, cast: list[Json], fresh: list[Json]) -> Json:
    """Give a command that was not told yet, as a rule; else one again, under another's id, or with other values."""
    if fresh and random.random() < 0.75:
        return fresh.pop()
    command = random.choice(cast)
    match random.randrange(4):
        case 0:
            return command | {"id": random.choice(cast)["id"]}
        case 1:
            changes = {
                "metadata": random.choice(_NOTES),
                "min_balance": random.choice(_FLOORS),
                "up_to": True,
                "scale": 0,
            }
            return command | {name: value for name, value in changes.items() if name in FIELDS[command["type"]]}
    return command


def _command(random: Random, id: str) -> Json:
    kind = random.random()
    if kind < 0.05:
        return {"type": "transfers.post", "id": id, "malformed": random.choice([True, "\u202e"])}
    if kind < 0.1:
        ledger = random.choice(["~m", "~n", "~o"])
        return {"type": "ledgers.open", "id": id, "ledger": ledger, "currency": "EUR", "scale": 2}
    if kind < 0.3:
        optional = {"min_balance": _FLOORS, "max_balance": [None, 0, 10, -1], "metadata": _NOTES}
        account, ledger = random.choice(["@01", "@04", "@05"]), random.choice(["~m", "~m", "~n", "~o"])
        return {"type": "accounts.open", "id": id, "account_id": account, "ledger": ledger} | _some(random, optional)
    source = random.choice(["@00", "@00", "@00", "@00", "@00", "@00", "@01", "@02", "@02", "@03", "@04"])
    destination = random.choice(["@01", "@02", "@02", "@02", "@02", "@02", "@02", "@03", "@04", "@05"])
    amount = random.choice([random.randint(1, 20), random.randint(1, 20), 10**15])
    optional = {"up_to": [True, False], "kind": ["fee", None], "effective_at": _MOMENTS, "metadata": _NOTES}
    sides = {"source_id": source, "destination_id": destination, "amount": amount}
    return {"type": "transfers.post", "id": id} | sides | _some(random, optional)


def _some(random: Random, optional: dict[str, list[Any]]) -> Json:
    return {name: random.choice(values) for name, values in optional.items() if random.random() < 0.3}


# What most stories need before anything can happen: two ledgers, and money in one of them.
_OPEN = {"type": "accounts.open", "ledger": "~m"}
BEGINNING: list[Json] = [
    {"type": "ledgers.open", "id": "#90", "ledger": "~m", "currency": "EUR", "scale": 2},
    {"type": "ledgers.open", "id": "#91", "ledger": "~n", "currency": "USD", "scale": 2},
    _OPEN | {"id": "#92", "account_id": "@00", "min_balance": None},
    _OPEN | {"id": "#93", "account_id": "@01", "max_balance": 40},
    _OPEN | {"id": "#94", "account_id": "@02", "min_balance": -5},
    _OPEN | {"id": "#95", "account_id": "@03", "ledger": "~n"},
    {"type": "transfers.post", "id": "#96", "source_id": "@00", "destination_id": "@01", "amount": 15},
]


class World:
    """Real names for one story."""

    def __init__(self) -> None:
        self._stem = str(uuid4())[:-2]
        ids = {f"#{n:02}": f"{self._stem}{n:02}" for n in range(100)}
        accounts = {f"@{n:02}": f"{self._stem}a{n}" for n in range(6)}
        self._names = ids | accounts | {f"~{letter}": f"{self._stem}{letter}" for letter in "mno"}

    def named(self, messages: Sequence[Json]) -> list[Json]:
        """Give the messages with real names."""
        written = json.dumps(messages, ensure_ascii=False)
        for short, name in self._names.items():
            written = written.replace(f'"{short}"', f'"{name}"')
        named: list[Json] = json.loads(written)
        return named

    def items(self, messages: Sequence[Json]) -> list[Item]:
        """Give the messages as the door lets them in."""
        return self.judged(self.named(messages))

    @staticmethod
    def judged(messages: Sequence[Json]) -> list[Item]:
        """Give messages that have real names as the door lets them in."""
        return [_item(message) for message in messages]

    def short(self, outcomes: Sequence[Outcome] | Sequence[Json]) -> bytes:
        """Give outcomes as bytes, without real names, times, and the door's words."""
        written = orjson.dumps([_timeless(outcome) for outcome in outcomes]).decode()
        for short, name in self._names.items():
            written = written.replace(f'"{name}"', f'"{short}"')
        return written.encode()

    def books(self, engine: Engine) -> list[Any]:
        """Give what the database holds of this world, in the model's words."""
        with engine.connect() as connection:
            about = {"stem": f"{self._stem}%"}
            return [
                [list(row) for row in connection.execute(statement, about)]
                for statement in (_ACCOUNT_ROWS, _TRANSFER_ROWS)
            ]

    def books_of(self, model: Model) -> list[Any]:
        """Give what a model of this world holds."""
        accounts = [
            [
                id,
                it["ledger"],
                it["floor"],
                it["ceiling"],
                it["out"],
                it["in"],
                it["version"],
                model.sequences[it["ledger"]],
            ]
            for id, it in sorted(model.accounts.items())
        ]
        transfers = [
            [*transfer[:6], *map(list, map(dict.values, transfer[6].values()))] for transfer in model.transfers
        ]
        return [accounts, sorted(transfers)]


_ACCOUNT_ROWS = text(
    """
    SELECT account.id::text, name, min_balance, max_balance, debits_posted, credits_posted, version, sequence
    FROM equipoise.accounts account JOIN equipoise.ledgers ledger ON ledger.number = account.ledger
    WHERE name LIKE :stem ORDER BY account.id
    """
)
_TRANSFER_ROWS = text(
    """
    SELECT name, transfer.sequence, id::text, source_id::text, destination_id::text, amount,
           ARRAY[source_balance, source_balance - coalesce(source_pending, 0), source_version],
           ARRAY[destination_balance, destination_balance - coalesce(destination_pending, 0), destination_version]
    FROM equipoise.transfers transfer JOIN equipoise.ledgers ledger ON ledger.number = transfer.ledger
    WHERE name LIKE :stem ORDER BY name, sequence
    """
)


def _item(message: Json) -> Item:
    fields = {name: value for name, value in message.items() if name != "type"}
    body = json.dumps([[], fields, {}]).encode()
    return judge(Delivery(message["type"], "task", "commands", body, raw=body)).item


def _timeless(told: Any) -> Any:
    if isinstance(told, list):
        return [_timeless(entry) for entry in told]
    left_out = {"decided_at", "detail"} if told["status"] == "malformed" else {"decided_at"}
    kept = {name: value for name, value in told.items() if name not in left_out}
    return kept | {"outcomes": _timeless(kept["outcomes"])} if "outcomes" in kept else kept
