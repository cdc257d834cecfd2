"""The commands that stories are told of: one of each type, by chance, that may or may not be possible.

Ids are `#00` to `#29`, batches' `#30` to `#70`, the beginning's `#75` to `#99`; `#07/2` is `#07`'s second transfer.
Accounts are `@00` to `@10`; the beginning opens all but `@05` and `@07`, `@03` and `@06` in another ledger. `@04` is
full, `@08` frozen and `@09` closed.
"""

from collections.abc import Callable
from random import Random
from typing import Any

Json = dict[str, Any]

NOTES: list[Json] = [{}, {"a": 1}, {"a": True}, {"b": [None, "é"], "a": {}}]
FLOORS = [None, 0, -5, 1]
_CEILINGS = [None, 0, 10, 40, -1]
PAST = "0999-12-31T00:00:00.000000Z"
_MOMENTS = ["2026-01-02T03:04:05.600000Z", PAST]
_TERMS = [20, 40, 60, 10**8, 3 * 10**8]
"""Seconds: some acts of a story are 20 apart, so that the first are met exactly; the others are years after its end."""
_DEADLINES = ["2999-01-02T03:04:05Z", "2999-01-02T03:04:05Z", PAST]
_ABOUT: dict[str, list[Any]] = {"kind": ["fee", None], "effective_at": _MOMENTS, "metadata": NOTES}


def command(random: Random, id: str, before: list[Json]) -> Json:
    """Give a command of any type; some name what commands `before` it may have made."""
    types = list(_TYPES)
    [type] = random.choices(types, [_TYPES[type][0] for type in types])
    fields = _TYPES[type][1](random, before)
    return {"type": "transfers.post" if type == "malformed" else type, "id": id} | fields


def some(random: Random, optional: dict[str, list[Any]]) -> Json:
    """Give some of these fields a value each."""
    return {name: random.choice(values) for name, values in optional.items() if random.random() < 0.3}


def _malformed(random: Random, _: list[Json]) -> Json:
    return {"malformed": random.choice([True, "\u202e"])}


def _open_ledger(random: Random, _: list[Json]) -> Json:
    return {"ledger": random.choice(["~m", "~n", "~o"]), "currency": "EUR", "scale": 2}


def _open_account(random: Random, _: list[Json]) -> Json:
    account, ledger = random.choice(["@01", "@05", "@05", "@07"]), random.choice(["~m", "~m", "~n", "~o"])
    optional: dict[str, list[Any]] = {"min_balance": FLOORS, "max_balance": _CEILINGS, "metadata": NOTES}
    return {"account_id": account, "ledger": ledger} | some(random, optional)


def _limit(random: Random, _: list[Json]) -> Json:
    limits = {"min_balance": random.choice([*FLOORS, 12]), "max_balance": random.choice(_CEILINGS)}
    return {"account_id": _account(random)} | limits


def _of_account(random: Random, _: list[Json]) -> Json:
    return {"account_id": _account(random)}


def _close(random: Random, _: list[Json]) -> Json:
    to = random.choice(["@00", "@00", "@01", "@02", "@02", "@02", "@04", "@04", "@07", _account(random)])
    account = random.choice(["@10", "@10", _account(random), _account(random)])
    return {"account_id": account} | ({"remainder_to": to} if random.random() < 0.7 else {})


def _sides(random: Random) -> Json:
    source = random.choice(["@00", "@00", "@00", "@00", "@01", "@02", "@02", "@04", "@07", _account(random)])
    destination = random.choice(["@01", "@02", "@02", "@02", "@02", "@04", "@04", "@05", "@09", _account(random)])
    return {"source_id": source, "destination_id": destination, "amount": _amount(random)}


def _post(random: Random, _: list[Json]) -> Json:
    return _sides(random) | some(random, _ABOUT | {"up_to": [True, False]})


def _hold(random: Random, _: list[Json]) -> Json:
    return _sides(random) | some(
        random, _ABOUT | {"up_to": [True, False], "expires_in_s": _TERMS, "expires_at": _DEADLINES}
    )


def _split(random: Random, _: list[Json]) -> Json:
    """Give parts that add up as a rule, in either direction, and seldom what is no split at all."""
    one = random.choice(["@00", "@00", "@00", "@02", "@04", "@06"])
    accounts = [_account(random) for _ in range(random.randint(1, 4))]
    accounts = [id for id in accounts if id != one or random.random() < 0.05] or ["@01"]
    parts: list[Json]
    if random.random() < 0.3:
        parts = [{"account_id": id, "share": f"1/{len(accounts)}"} for id in accounts]
    else:
        says: list[Json] = [{"share": share} for share in ("1/3", "1/7", "2/5", "1/2", "1/9")]
        parts = [{"account_id": id} | random.choice([*says, {"amount": random.randint(1, 6)}]) for id in accounts]
        if random.random() < 0.9:
            place = random.randrange(len(parts))
            parts[place] = {"account_id": parts[place]["account_id"], "rest": True}
    if random.random() < 0.05:
        parts[0] |= random.choice([{"rest": True}, {"rest": False}, {"amount": 1}, {"share": None}])
    fields: Json = {"source_id": one, "destinations": parts}
    if random.random() < 0.4:
        fields = {"sources": parts, "destination_id": one}
    if random.random() < 0.03:
        fields |= {"source_id": "@01", "destination_id": "@02"}
    return fields | {"amount": _amount(random)} | some(random, _ABOUT)


def _exchange(random: Random, _: list[Json]) -> Json:
    names = ("source_id", "source_liquidity_id", "destination_liquidity_id", "destination_id")
    sides = [("@02", "@00", "@06", "@03"), ("@03", "@06", "@00", "@02"), ("@03", "@06", "@00", "@04")]
    at_home = ("@00", "@02", "@00", "@01")
    accounts = dict(zip(names, random.choice([*sides, *sides, at_home]), strict=True))
    if random.random() < 0.3:
        accounts |= {random.choice(names): random.choice(["@07", _account(random), _account(random)])}
    amounts = {"source_amount": _amount(random), "destination_amount": _amount(random)}
    return accounts | amounts | some(random, _ABOUT)


def _reverse(random: Random, before: list[Json]) -> Json:
    return {"transfer_id": _a_transfer(random, before)} | some(
        random, {"amount": [1, 3, 10**15], "effective_at": _MOMENTS}
    )


def _capture(random: Random, before: list[Json]) -> Json:
    optional: dict[str, list[Any]] = {"amount": [1, 2, 5, 9, 10**15], "final": [True, False, False]}
    return {"hold_id": _a_hold(random, before)} | some(random, optional)


def _void(random: Random, before: list[Json]) -> Json:
    return {"hold_id": _a_hold(random, before)}


def _extend(random: Random, before: list[Json]) -> Json:
    hold = {"hold_id": _a_hold(random, before)}
    fields = some(random, {"amount": [1, 4, 8, 30, 10**15], "expires_in_s": _TERMS})
    return hold | (fields or ({"amount": random.randint(1, 12)} if random.random() < 0.8 else {}))


def _account(random: Random) -> str:
    often = ["@01", "@02", "@04"] * 3
    return random.choice([*often, "@00", "@03", "@05", "@06", "@07", "@08", "@09", "@09", "@10"])


def _amount(random: Random) -> int:
    return random.choice([random.randint(1, 20), random.randint(1, 20), random.randint(1, 9), 10**15])


def _a_hold(random: Random, before: list[Json]) -> str:
    """Name a hold that may be there; seldom a transfer, or what was never heard of."""
    holds = [command["id"] for command in before if command["type"] == "transfers.hold"]
    return (
        random.choice([*holds, "#97", "#97", "#81", "#82"]) if random.random() < 0.85 else _a_transfer(random, before)
    )


def _a_transfer(random: Random, before: list[Json]) -> str:
    """Name a transfer that may be there, of any command; seldom what is none."""
    ids = [command["id"] for command in before if command["type"].startswith(("transfers.", "accounts.close"))]
    several = [command["id"] for command in before if command["type"] in ("transfers.split", "transfers.exchange")]
    ids += [f"{id}/{place}" for id in several for place in (1, 2)]
    return (
        random.choice([*ids, "#96", "#96", "#99", "#83", "#84", "#98"])
        if random.random() < 0.9
        else f"#{random.randrange(30):02}"
    )


_TYPES: dict[str, tuple[int, Callable[[Random, list[Json]], Json]]] = {
    "malformed": (3, _malformed),
    "ledgers.open": (3, _open_ledger),
    "accounts.open": (10, _open_account),
    "accounts.limit": (6, _limit),
    "accounts.freeze": (4, _of_account),
    "accounts.unfreeze": (5, _of_account),
    "accounts.close": (9, _close),
    "transfers.post": (18, _post),
    "transfers.split": (12, _split),
    "transfers.exchange": (8, _exchange),
    "transfers.reverse": (12, _reverse),
    "transfers.hold": (16, _hold),
    "transfers.capture": (12, _capture),
    "transfers.void": (4, _void),
    "transfers.extend": (9, _extend),
}
"""How often each is told, and what it says."""
