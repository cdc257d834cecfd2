"""How many messages a second are taken and acknowledged, by our transport and by kombu's own, without any work.

`python -m bench.broker redis://…` uses the queue `bench-broker` of that server, which it empties. Each round times
both, one after the other, on the same messages; the median of the rounds is printed.
"""

import json
import sys
import uuid
from base64 import b64encode
from statistics import median
from time import perf_counter
from typing import Any

import kombu as untyped_kombu
import redis

from worker.broker.transport import Transport

kombu: Any = untyped_kombu

QUEUE = "bench-broker"
MESSAGES = 2_000
ROUNDS = 3
GROUPS = {"ours, groups of 1000": 1_000, "ours, groups of 100": 100, "ours, one by one": 1}


def fill(client: redis.Redis) -> None:
    """Put the messages there, as Celery would."""
    body = b64encode(json.dumps([[], {"source_id": "a", "destination_id": "b", "amount": 100}, {}]).encode()).decode()
    message: dict[str, Any] = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
        },
    }
    client.delete(QUEUE)
    pipe = client.pipeline(transaction=False)
    for _ in range(MESSAGES):
        id = str(uuid.uuid4())
        message["headers"] = {"id": id, "task": "transfers.post", "root_id": id, "argsrepr": "()", "kwargsrepr": "{}"}
        message["properties"]["delivery_tag"] = id
        pipe.lpush(QUEUE, json.dumps(message))
    pipe.execute()


def rate(url: str, transport: type[Any] | str, group: int | None) -> float:
    """Take and acknowledge all messages: those of each delivery in one step, or, without a group, each by itself."""
    connection = kombu.Connection(url, transport=transport, transport_options={"claim_limit": group or 1})
    channel = connection.default_channel
    channel.basic_qos(0, group or 1000, False)
    held: list[Any] = []
    taken = 0

    def hold(message: Any) -> None:
        if not group:
            message.ack()
        held.append(message)

    queue = kombu.Queue(QUEUE, kombu.Exchange(""), QUEUE)
    with connection.Consumer([queue], on_message=hold, auto_declare=False):
        started = perf_counter()
        while taken < MESSAGES:
            connection.drain_events(timeout=5)
            if group:
                channel.acknowledge([message.delivery_tag for message in held])
            taken += len(held)
            held.clear()
        seconds = perf_counter() - started
    connection.close()
    return MESSAGES / seconds


def main(url: str) -> None:
    works: dict[str, tuple[type[Any] | str, int | None]] = {"stock": ("kombu.transport.redis:Transport", None)}
    works |= {name: (Transport, group) for name, group in GROUPS.items()}
    rates: dict[str, list[float]] = {name: [] for name in works}
    with redis.Redis.from_url(url) as client:
        for _ in range(ROUNDS):
            for name, work in works.items():
                fill(client)
                rates[name].append(rate(url, *work))
        client.delete(QUEUE)
    stock = median(rates["stock"])
    for name, measured in rates.items():
        print(f"{name:22}{median(measured):10.0f} messages/s{median(measured) / stock:8.1f} times stock")


if __name__ == "__main__":
    main(*sys.argv[1:])
