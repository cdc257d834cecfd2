"""Nothing that may lie in a queue stops a worker: each becomes one dead letter, and what is good is decided."""

import json
import zlib
from typing import Any

import pytest

from tests.broker.test_transport import POISONS
from tests.worker.conftest import OpenBooks
from tests.worker.site import Site, envelope, message, new_id, post

A, B = "0000000a-0000-4000-8000-000000000000", "0000000b-0000-4000-8000-000000000000"
GOOD: dict[str, Any] = {"id": new_id(), "source_id": A, "destination_id": B, "amount": 1}
TASK = {"task": "transfers.post"}


def without(name: str) -> dict[str, Any]:
    return {field: value for field, value in GOOD.items() if field != name}


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else 1


def written(command: str) -> bytes:
    """Make a body of a command that is no JSON any library would write."""
    return b"[[], " + command.encode() + b", {}]"


FIELDS = {
    "an unknown field": GOOD | {"colour": "red"},
    "a field missing": without("amount"),
    "a float": GOOD | {"amount": 1.0},
    "NaN": GOOD | {"amount": float("nan")},
    "infinity": GOOD | {"amount": float("inf")},
    "a boolean for a number": GOOD | {"amount": True},
    "a text for a number": GOOD | {"amount": "1"},
    "nothing moved": GOOD | {"amount": 0},
    "more than a transfer may move": GOOD | {"amount": 10**15 + 1},
    "more than a number may be": GOOD | {"amount": 10**400},
    "an id in capitals": GOOD | {"source_id": A.upper()},
    "the nil id": GOOD | {"id": "00000000-0000-0000-0000-000000000000"},
    "the id of ones": GOOD | {"id": "ffffffff-ffff-ffff-ffff-ffffffffffff"},
    "an id with a line's end": GOOD | {"id": new_id() + "\n"},
    "a control character": GOOD | {"kind": "a\u0007"},
    "NUL": GOOD | {"metadata": {"a": "\0"}},
    "a bidirectional mark": GOOD | {"kind": "a\u202eb"},
    "a lone surrogate": GOOD | {"metadata": {"a": "\ud800"}},
    "too deep": GOOD | {"metadata": nested(8)},
    "too large": GOOD | {"metadata": {"a": "x" * 16_384}},
    "no timestamp": GOOD | {"effective_at": "yesterday"},
    "another type": GOOD | {"type": "accounts.open"},
}
BODIES = {
    "no JSON": b"this is no JSON",
    "empty": b"",
    "not UTF-8": b'[[], {"id": "\xff"}, {}]',
    "no list": b"{}",
    "two parts": b"[[], {}]",
    "positional arguments": json.dumps([[1], GOOD, {}]).encode(),
    "a list for the fields": json.dumps([[], [], {}]).encode(),
    "a text for the links": json.dumps([[], GOOD, "x"]).encode(),
    "a text for a chain": json.dumps([[], GOOD, {"chain": "xx"}]).encode(),
    "callbacks that are none": json.dumps([[], GOOD, {"callbacks": [5]}]).encode(),
    "a link that names no task": json.dumps([[], GOOD, {"chain": [{}]}]).encode(),
    "a link to a number": json.dumps([[], GOOD, {"chain": [{"task": 5}]}]).encode(),
    "an unknown link": json.dumps([[], GOOD, {"links": None}]).encode(),
    "a key twice": written(json.dumps(GOOD)[:-1] + ', "amount": 2}'),
    "a number of 5,000 digits": written('{"amount": ' + "9" * 5_000 + "}"),
    "too large, and most of it one number": written('{"amount": ' + "9" * 17_000 + "}"),
    "an exponent": written('{"amount": 1E+1000000}'),
    "nested beyond any decoder": b"[" * 50_000,
}
HEADERS = {
    "an unknown task": {"task": "transfers.explode"},
    "a task of nobody": {"task": "celery.nothing"},
    "an eta of the future": TASK | {"eta": "2199-01-01T00:00:00+00:00"},
    "an eta that is none": TASK | {"eta": "soon"},
    "an expiry that is none": TASK | {"expires": "late"},
    "compressed": TASK | {"compression": "application/x-gzip"},
    "one of Celery's own tasks": {"task": "celery.map"},
}
# What cannot be read is kept whole.
STRANGE = {
    "a contract of a thousand levels": TASK | {"equipoise-contract": nested(900)},
    "stamps that are no list": TASK | {"stamped_headers": 5},
}
OTHERS = {
    "a bomb": (zlib.compress(b"0" * 2**25, 9), TASK | {"compression": "application/x-gzip"}),
    "a scheduled task that gets a number": (b"5", {"task": "upkeep.verify"}),
    "a scheduled task that gets too little": (b"[1,2]", {"task": "upkeep.verify"}),
    "a scheduled task that gets three numbers": (b"[5,5,5]", {"task": "upkeep.verify"}),
    "a scheduled task that gets an argument": (b"[[1],{},{}]", {"task": "upkeep.verify"}),
    "a scheduled task that shall wait": (b"[[],{},{}]", {"task": "upkeep.verify", "eta": "2199-01-01T00:00:00Z"}),
}
CHANGES = {
    "pickle": {"content-type": "application/x-python-serialize", "content-encoding": "binary"},
    "yaml": {"content-type": "application/x-yaml"},
    "no content type": {"content-type": None},
    "UTF-16": {"content-encoding": "utf-16"},
}


def poisons() -> dict[str, tuple[bytes, bytes]]:
    """Give each poison's bytes in the queue, and those that its dead letter must keep."""
    body = json.dumps([[], GOOD, {}]).encode()
    found = {f"transport: {name}": (raw, raw) for name, raw in POISONS.items()}
    for name, fields in FIELDS.items():
        bad = json.dumps([[], fields, {}]).encode()
        found[f"field: {name}"] = (envelope(bad, TASK), bad)
    found |= {f"body: {name}": (envelope(bad, TASK), bad) for name, bad in BODIES.items()}
    found |= {f"header: {name}": (envelope(body, headers), body) for name, headers in HEADERS.items()}
    for name, headers in STRANGE.items():
        raw = envelope(body, headers)
        found[f"strange: {name}"] = (raw, raw)
    found |= {f"other: {name}": (envelope(bad, headers), bad) for name, (bad, headers) in OTHERS.items()}
    found |= {f"content: {name}": (envelope(body, TASK, **changes), body) for name, changes in CHANGES.items()}
    return found


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_every_poison_becomes_one_dead_letter_and_the_good_are_decided(
    site: Site, open_books: OpenBooks, pool: str
) -> None:
    _, accounts = open_books()
    poison = poisons()
    good = [post(*accounts) for _ in range(3 * len(poison))]
    messages = [message("transfers.post", command) for command in good]
    for place, (raw, _) in enumerate(poison.values()):
        messages.insert(4 * place, raw)
    worker = site.worker(pool=pool).ready()

    site.push(*messages)

    site.wait_decided(command["id"] for command in good)
    site.wait_drained()
    kept = site.rows("SELECT body, reason, detail FROM equipoise.dead_letters")
    bodies = sorted(bytes(body) for body, _, _ in kept)
    missing = [name for name, (_, body) in poison.items() if body not in bodies]
    assert missing == []
    assert bodies == sorted(body for _, body in poison.values())
    assert {reason for _, reason, _ in kept} == {"malformed"}
    assert all(detail for _, _, detail in kept)

    site.push(*(raw for raw, _ in poison.values()))
    assert site.call("transfers.post", **post(*accounts))["status"] == "applied"
    site.wait_drained()
    assert site.value("SELECT count(*) FROM equipoise.dead_letters") == len(poison)
    assert worker.alive
    assert site.books_balance()
    assert worker.stop() == 0


@pytest.mark.parametrize("headers", [{"compression": "nope"}, {}], ids=["compressed", "no JSON"])
def test_a_broadcast_that_cannot_be_read_is_not_heard(
    site: Site, open_books: OpenBooks, headers: dict[str, str]
) -> None:
    _, accounts = open_books()
    worker = site.worker().ready()
    pidbox = {"task": "x", "id": new_id()} | headers

    heard = site.redis.publish("/0.celery.pidbox", envelope(b"{{{", pidbox))

    assert heard == 1
    site.wait(lambda: "not heard" in worker.log.lower())
    assert site.call("transfers.post", **post(*accounts))["status"] == "applied"
    assert worker.alive


def test_a_callback_reaches_a_queue_of_its_senders_whatever_the_times_of_its_message(
    site: Site, open_books: OpenBooks
) -> None:
    _, accounts = open_books()
    site.worker().ready()
    link = {"task": "shop.paid", "args": [], "kwargs": {}, "options": {"queue": "shop"}, "subtask_type": None}
    body = json.dumps([[], command := post(*accounts), {"callbacks": [link | {"immutable": True}]}]).encode()

    site.push(envelope(body, TASK | {"eta": "0001-01-01T00:00:00+14:00"}))

    site.wait_decided([command["id"]])
    site.wait(lambda: site.redis.llen("shop") == 1)
    site.wait_drained()
    assert site.dead_letters() == []


def test_a_flood_of_links_that_cannot_be_sent_ends_and_the_worker_goes_on(site: Site, open_books: OpenBooks) -> None:
    _, accounts = open_books()
    worker = site.worker().ready()
    flood = [message("transfers.post", post(*accounts), embed={"chain": [{}]}) for _ in range(200)]

    site.push(*flood)

    assert site.call("transfers.post", **post(*accounts))["status"] == "applied"
    site.wait_drained()
    assert len(site.dead_letters()) == len(flood)
    assert site.transfers() == 1
    assert worker.alive


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_what_the_sending_of_a_link_raises_ends_its_message(site: Site, open_books: OpenBooks, pool: str) -> None:
    _, accounts = open_books()
    # The door cannot know what tasks a team adds, nor what arguments they take.
    worker = site.worker("--include", "tests.worker.saboteur", pool=pool).ready()
    named = {"task": "saboteur.particular", "args": [], "kwargs": {}, "options": {}, "immutable": True}
    # It is sent again as what shall follow a failure, and Celery expects that to fail even less. A queue's name may be
    # a key of something else.
    astray = {"task": "shop.paid", "args": [], "kwargs": {}, "options": {"queue": "shop"}}
    site.redis.hset("shop", "a", "b")
    embeds = [{"chain": [link], "errbacks": [link]} for link in (named, astray)]
    commands = [post(*accounts) for _ in range(20)]

    site.push(*(message("transfers.post", it, embed=embeds[place % 2]) for place, it in enumerate(commands)))

    site.wait_decided(command["id"] for command in commands)
    site.wait_drained()
    assert "cannot be sent" in worker.log
    assert f"{len(commands)} so far" in worker.log
    assert site.transfers() == len(commands)
    assert site.call("transfers.post", **post(*accounts))["status"] == "applied"
