"""Stories: what producers might send, in a small world where everything meets everything.

Told by chance rather than by hypothesis' strategies, whose small examples hardly ever hold a chain that fails at its
end; hypothesis gives the chance, and repeats what failed.

A story names ids, accounts and ledgers by small numbers and letters, so that they repeat. `World` gives them real names
that no other story has, so that thousands of stories are told in one database, and takes the names back out of what was
answered.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple
from uuid import UUID, uuid4, uuid5

import orjson
from sqlalchemy import Engine, text

from models.outcomes import Outcome, moment
from tests.laws.cast import FLOORS, NOTES, Json, command, some
from tests.model import FIELDS, Model
from tests.model_books import ONCE
from worker.engine.decide import Item
from worker.intake.door import Delivery, judge


class Act(NamedTuple):
    """What is sent at one second of the story; before it, so much room is left in some accounts' counters."""

    at_s: int
    messages: list[Json]
    worn: dict[str, int]

    @property
    def moment(self) -> datetime:
        """When that is by the clock."""
        return ONCE + timedelta(seconds=self.at_s)


def tell(random: Random, *, dry_runs: bool = True) -> list[Act]:
    """Tell, after the beginning, of a few commands, each of which may come again, alone or in batches and chains.

    The beginning is an act of its own, as a rule.

    Without `dry_runs` no message is one, though a member of a batch may be: what it told is kept with the batch.
    """
    acts = [Act(0, list(BEGINNING), {})]
    if random.random() < 0.7:
        acts.append(Act(0, [], _worn(random) if random.random() < 0.5 else {}))
    for message in _messages(random):
        if acts[-1].messages and random.random() < 0.15:
            acts.append(Act(acts[-1].at_s + random.choice([1, 19, 20, 40]), [], {}))
        acts[-1].messages.append(message if dry_runs else message | {"dry_run": False})
    return acts


def _worn(random: Random) -> dict[str, int]:
    return {id: random.randint(0, 15) for id in ("@00", "@01", "@02", "@03", "@04", "@06") if random.random() < 0.3}


def verdicts(messages: Sequence[Json], outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str]]:
    """Give type and status of each command that the messages told, those in batches too."""
    for message, outcome in zip(messages, outcomes, strict=True):
        yield from _verdicts(message, outcome)


def _verdicts(message: Any, outcome: Any) -> Iterator[tuple[str, str]]:
    if isinstance(message, list) or "outcomes" in outcome:
        told = (message, outcome) if isinstance(message, list) else (message["commands"], outcome["outcomes"])
        for member, its_outcome in zip(*told, strict=True):
            yield from _verdicts(member, its_outcome)
    elif message["type"] != "batch":
        yield message["type"], outcome["status"]


def _messages(random: Random) -> list[Json]:
    cast: list[Json] = []
    for place in range(random.randint(3, 30)):
        cast.append(command(random, f"#{place:02}", cast))
    fresh = cast[::-1]
    told: list[Json] = []
    for _ in range(random.randint(1, 10)):
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
    id = random.choice(cast)["id"] if random.random() < 0.1 else f"#{random.randint(30, 70)}"
    return {"type": "batch", "id": id, "commands": entries} | some(random, {"dry_run": [True, False, False, False]})


def _told(random: Random, cast: list[Json], fresh: list[Json]) -> Json:
    """Give a command that was not told yet, as a rule; else one again, under another's id, or with other values."""
    if fresh and random.random() < 0.75:
        told = fresh.pop()
        return told | {"dry_run": True} if random.random() < 0.08 else told
    told = random.choice(cast)
    match random.randrange(5):
        case 0:
            return told | {"id": random.choice(cast)["id"]}
        case 1:
            changes = {
                "metadata": random.choice(NOTES),
                "min_balance": random.choice(FLOORS),
                "up_to": True,
                "scale": 0,
                "final": random.choice([True, False]),
            }
            return told | {name: value for name, value in changes.items() if name in FIELDS[told["type"]]}
        case 2:
            return told | {"dry_run": True}
    return told


# What most stories need before anything can happen: two ledgers, money in both, some of it held, an account that is
# full, one that is frozen and one that is closed.
_OPEN = {"type": "accounts.open", "ledger": "~m"}


def _post(id: str, source_id: str, destination_id: str, amount: int) -> Json:
    sides = {"source_id": source_id, "destination_id": destination_id}
    return {"type": "transfers.post", "id": id} | sides | {"amount": amount}


def _hold(id: str, source_id: str, destination_id: str, amount: int, **fields: int) -> Json:
    return _post(id, source_id, destination_id, amount) | {"type": "transfers.hold"} | fields


BEGINNING: list[Json] = [
    {"type": "ledgers.open", "id": "#90", "ledger": "~m", "currency": "EUR", "scale": 2},
    {"type": "ledgers.open", "id": "#91", "ledger": "~n", "currency": "USD", "scale": 2},
    _OPEN | {"id": "#92", "account_id": "@00", "min_balance": None},
    _OPEN | {"id": "#93", "account_id": "@01", "max_balance": 40},
    _OPEN | {"id": "#94", "account_id": "@02", "min_balance": -5},
    _OPEN | {"id": "#95", "account_id": "@03", "ledger": "~n"},
    _OPEN | {"id": "#88", "account_id": "@04", "max_balance": 30},
    _OPEN | {"id": "#89", "account_id": "@06", "ledger": "~n", "min_balance": None},
    _OPEN | {"id": "#86", "account_id": "@08"},
    _OPEN | {"id": "#87", "account_id": "@09", "min_balance": None},
    _OPEN | {"id": "#77", "account_id": "@10"},
    _post("#96", "@00", "@01", 15),
    _post("#76", "@00", "@10", 7),
    _post("#99", "@06", "@03", 9),
    _hold("#97", "@01", "@02", 9),
    _post("#85", "@00", "@04", 12),
    _hold("#81", "@01", "@04", 2),
    _hold("#82", "@01", "@02", 2, expires_in_s=20),
    _post("#84", "@04", "@02", 6),
    _post("#98", "@00", "@04", 22),
    _post("#80", "@00", "@08", 5),
    {"type": "accounts.freeze", "id": "#79", "account_id": "@08"},
    _post("#83", "@09", "@02", 3),
    {"type": "accounts.close", "id": "#78", "account_id": "@09", "remainder_to": "@00"},
]


def all_of(acts: Sequence[Act]) -> list[Json]:
    """Give all messages of a story."""
    return [message for act in acts for message in act.messages]


class World:
    """Real names for one story."""

    def __init__(self) -> None:
        self._stem = str(uuid4())[:-2]
        ids = {f"#{n:02}": f"{self._stem}{n:02}" for n in range(100)}
        ids |= {f"{short}/{n}": str(uuid5(UUID(id), str(n))) for short, id in ids.items() for n in range(1, 5)}
        self.accounts = {f"@{n:02}": f"{self._stem}a{n:x}" for n in range(11)}
        self._names = ids | self.accounts | {f"~{letter}": f"{self._stem}{letter}" for letter in "mno"}

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
        """Give outcomes as bytes, without real names, the time of the decision, and the door's words."""
        written = orjson.dumps([_timeless(outcome) for outcome in outcomes]).decode()
        for short, name in self._names.items():
            written = written.replace(f'"{name}"', f'"{short}"')
        return written.encode()

    def books(self, engine: Engine) -> list[Any]:
        """Give what the database holds of this world, in the model's words."""
        with engine.connect() as connection:
            about = {"stem": f"{self._stem}%", "once": ONCE}
            return [
                [list(row) for row in connection.execute(statement, about)]
                for statement in (_ACCOUNT_ROWS, _HOLD_ROWS, _TRANSFER_ROWS)
            ]

    def books_of(self, model: Model) -> list[Any]:
        """Give what a model of this world holds."""
        books = model.books
        accounts = [[id, *it.values(), books.sequences[it["ledger"]]] for id, it in sorted(books.accounts.items())]
        holds = [[id, *it.values()] for id, it in sorted(books.holds.items())]
        transfers = [
            [id, *it.values()][:-1] + [list(side.values()) for side in it["after"].values()]
            for id, it in sorted(books.transfers.items())
        ]
        return [accounts, holds, transfers]


# The columns in the model's order.
_ACCOUNT_ROWS = text(
    """
    SELECT account.id::text, name, state, min_balance, max_balance, debits_posted, credits_posted, debits_pending,
           credits_pending, version, sequence
    FROM equipoise.accounts account JOIN equipoise.ledgers ledger ON ledger.number = account.ledger
    WHERE name LIKE :stem ORDER BY account.id
    """
)
_HOLD_ROWS = text(
    """
    SELECT hold.id::text, source_id::text, destination_id::text, amount, remaining, captured, state,
           extract(epoch FROM expires_at - cast(:once AS timestamptz))::bigint, kind
    FROM equipoise.holds hold JOIN equipoise.ledgers ledger ON ledger.number = hold.ledger
    WHERE name LIKE :stem ORDER BY hold.id
    """
)
_TRANSFER_ROWS = text(
    """
    SELECT transfer.id::text, name, transfer.sequence, source_id::text, destination_id::text, amount,
           kind, hold_id::text, reverses::text,
           ARRAY[source_balance, source_balance - coalesce(source_pending, 0), source_version],
           ARRAY[destination_balance, destination_balance - coalesce(destination_pending, 0), destination_version]
    FROM equipoise.transfers transfer JOIN equipoise.ledgers ledger ON ledger.number = transfer.ledger
    WHERE name LIKE :stem ORDER BY transfer.id
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
    if "hold" in kept:
        kept["hold"] = kept["hold"] | {"expires_at": _second(kept["hold"]["expires_at"])}
    return kept | {"outcomes": _timeless(kept["outcomes"])} if "outcomes" in kept else kept


def _second(expires_at: str | int | None) -> int | None:
    """Give a deadline in seconds of the story, which is how the model tells it."""
    return int((moment(expires_at) - ONCE).total_seconds()) if isinstance(expires_at, str) else expires_at
