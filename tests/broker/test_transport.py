"""What is sent by stock producers is delivered, readable or not, as far as there is room, until it is settled."""

import json
import threading
import uuid
import zlib
from base64 import b64decode, b64encode

import pytest
import redis
from kombu import Connection, Exchange, Queue
from kombu.transport import get_transport_cls
from kombu.transport import redis as stock

from models.contract import UNREADABLE_TASK
from tests.waiting import wait_until
from worker.broker.envelope import FLAW_HEADER
from worker.broker.transport import Channel, Transport

PRIORITY_9 = "commands\x06\x169"


def envelope(number, **changes):
    """A message as stock Celery leaves it in Redis, with some parts changed; `...` takes a part out."""
    message = {
        "body": b64encode(json.dumps([[], {"number": number}, {}]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"id": str(uuid.UUID(int=number + 1)), "task": "transfers.post", "lang": "py"},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "commands"},
            "delivery_mode": 2,
            "delivery_tag": "the producer's own",
            "priority": 0,
        },
    } | changes
    return json.dumps({name: part for name, part in message.items() if part is not ...}).encode()


def without(part, name):
    parts = json.loads(envelope(0))[part]
    del parts[name]
    return parts


def replaced(part, **changes):
    return json.loads(envelope(0))[part] | changes


POISONS = {
    "not JSON": b"this is no message",
    "nothing": b"",
    "not UTF-8": b"\xff\xfe{}",
    "null": b"null",
    "a number": b"7",
    "a list": b"[]",
    "nested too deep": b"[" * 100_000,
    "a number too long": b'{"properties": ' + b"9" * 5_000 + b"}",
    "an empty object": b"{}",
    "no properties": envelope(0, properties=...),
    "properties are a list": envelope(0, properties=[]),
    "delivery info is a text": envelope(0, properties=replaced("properties", delivery_info="x")),
    "reply_to is an object": envelope(0, properties=replaced("properties", reply_to={})),
    "no body": envelope(0, body=...),
    "the body is an object": envelope(0, body={}),
    "the body is not base64": envelope(0, body="not base64!"),
    "base64 without its end": envelope(0, body="YWJ"),
    "the body's encoding is unknown": envelope(0, properties=replaced("properties", body_encoding="rot13")),
    "the body's encoding is a list": envelope(0, properties=replaced("properties", body_encoding=["base64"])),
    "a lone surrogate": envelope(0, body="\ud800", properties=replaced("properties", body_encoding="utf-8")),
    "the content type is a number": envelope(0, **{"content-type": 7}),
    "no headers": envelope(0, headers=...),
    "headers are a text": envelope(0, headers="x"),
    "no id": envelope(0, headers=without("headers", "id")),
    "no task": envelope(0, headers=without("headers", "task")),
    "the id is a number": envelope(0, headers=replaced("headers", id=7)),
    "the id is empty": envelope(0, headers=replaced("headers", id="")),
    "NUL in the id": envelope(0, headers=replaced("headers", id="a\0b")),
    "the task is null": envelope(0, headers=replaced("headers", task=None)),
    "the task is a list": envelope(0, headers=replaced("headers", task=["transfers.post"])),
    "the eta is a number": envelope(0, headers=replaced("headers", eta=7)),
    "retries are a text": envelope(0, headers=replaced("headers", retries="many")),
    "the time limit is a number": envelope(0, headers=replaced("headers", timelimit=3)),
    "compression is a list": envelope(0, headers=replaced("headers", compression=[])),
}


class Consumer:
    """Consumes until a fact holds, and keeps the messages."""

    def __init__(self, connection, *queues, prefetch=0, no_ack=False, on_message=None):
        self.connection = connection
        self.messages = []
        self.channel = connection.default_channel
        self.channel.basic_qos(0, prefetch, False)
        self.consumer = connection.Consumer(
            [Queue(queue, Exchange(""), queue) for queue in queues or ["commands"]],
            on_message=on_message or self.messages.append,
            no_ack=no_ack,
            auto_declare=False,
        )
        self.consumer.consume()

    def drain(self):
        try:
            self.connection.drain_events(timeout=0.05)
        except TimeoutError:
            return False
        return True

    def until(self, fact):
        return wait_until(lambda: fact() or (self.drain(), fact())[1])

    def settle(self):
        """Drain until nothing more comes."""
        while self.drain():
            pass

    @property
    def numbers(self):
        return [json.loads(message.body)[1]["number"] for message in self.messages]


@pytest.mark.parametrize(
    "url", ["redis://{port}", "rediss://{port}", "redis+socket://{socket}", "redis://{port};redis://{port}"]
)
def test_every_url_of_redis_means_our_transport(registered, server, url):
    connection = Connection(url.format(port=f"127.0.0.1:{server.port}/0", socket=server.socket))

    assert connection.transport_cls == "redis" or connection.transport_cls == "rediss"
    assert type(connection.transport) is Transport
    assert type(connection.clone().transport) is Transport
    assert not connection.transport.implements.asynchronous
    assert get_transport_cls("sentinel") is stock.SentinelTransport


@pytest.mark.parametrize("where", ["url", "unix"])
def test_what_we_publish_stock_consumes_and_the_other_way_round(connect, server, where):
    url = server.url if where == "url" else f"redis+socket://{server.socket}"
    ours = connect(url)
    theirs = Connection(server.url, transport="kombu.transport.redis:Transport")
    headers = {"id": str(uuid.uuid4()), "task": "transfers.post"}
    assert type(theirs.transport) is stock.Transport

    for sender, receiver in ((ours, theirs), (theirs, ours)):
        sender.Producer().publish({"number": 1}, routing_key="commands", headers=headers)
        received = Consumer(receiver)
        received.until(lambda received=received: received.messages)

        assert received.messages[0].decode() == {"number": 1}
        received.messages[0].ack()
        received.consumer.cancel()
    theirs.close()


def test_every_poison_is_delivered_as_unreadable_and_the_good_ones_around_it_as_they_are(connect, client):
    raws = []
    for number, poison in enumerate(POISONS.values()):
        raws += [envelope(number), poison]
    client.lpush("commands", *raws)
    consumer = Consumer(connect())

    consumer.until(lambda: len(consumer.messages) == len(raws))

    assert [message.raw for message in consumer.messages] == raws
    good, bad = consumer.messages[::2], consumer.messages[1::2]
    assert {message.headers["task"] for message in good} == {"transfers.post"}
    for name, message in zip(POISONS, bad, strict=True):
        assert (name, message.headers["task"], message.body) == (name, UNREADABLE_TASK, POISONS[name])
        assert message.headers[FLAW_HEADER] and not message.errors
        assert uuid.UUID(message.headers["id"])
    assert len({message.headers["id"] for message in bad}) == len(bad)
    consumer.channel.acknowledge([message.delivery_tag for message in consumer.messages])
    assert client.keys("unacked*") == []


def test_the_same_poison_has_the_same_id_whenever_it_comes(connect, client):
    client.lpush("commands", "poison", "poison", "other")
    consumer = Consumer(connect())

    consumer.until(lambda: len(consumer.messages) == 3)

    first, again, other = (message.headers["id"] for message in consumer.messages)
    assert first == again != other


def test_a_compressed_body_is_delivered_as_it_was_sent_and_never_inflated(connect, client):
    body = b64encode(zlib.compress(b"0" * 2**24, 9)).decode()
    client.lpush("commands", envelope(1, body=body, headers=replaced("headers", compression="application/x-gzip")))
    consumer = Consumer(connect())

    consumer.until(lambda: consumer.messages)

    assert consumer.messages[0].body == b64decode(body)
    assert consumer.messages[0].headers[FLAW_HEADER].startswith("compressed")


def test_a_flaw_that_the_sender_claims_is_none(connect, client):
    client.lpush("commands", envelope(1, headers=replaced("headers", **{FLAW_HEADER: "forged"})))
    consumer = Consumer(connect())

    consumer.until(lambda: consumer.messages)

    assert FLAW_HEADER not in consumer.messages[0].headers


def test_a_server_at_its_maxmemory_is_worked_off_and_waited_for(connect, client):
    client.lpush("commands", *(envelope(number) for number in range(3)))
    consumer = Consumer(connect())
    client.config_set("maxmemory", 1)
    try:
        consumer.until(lambda: len(consumer.messages) == 3)
        consumer.connection.default_channel.acknowledge([message.delivery_tag for message in consumer.messages])
        wait_until(lambda: consumer.drain() or consumer.connection.default_channel._doorbell("commands").silent)
    finally:
        client.config_set("maxmemory", 0)
    client.lpush("commands", envelope(3))

    consumer.until(lambda: len(consumer.messages) == 4)

    assert consumer.numbers == [0, 1, 2, 3]


@pytest.mark.parametrize("key", ["commands", PRIORITY_9, "unacked_claims"])
def test_a_key_of_another_type_is_waited_for_until_somebody_mends_it(connect, client, key):
    consumer = Consumer(connect())
    consumer.drain()
    client.set(key, "x")
    with pytest.raises(TimeoutError):
        consumer.connection.drain_events(timeout=0.05)
    client.delete(key)
    client.lpush("commands", envelope(0))

    consumer.until(lambda: consumer.messages)

    assert consumer.numbers == [0]


def test_what_nobody_settled_in_time_gives_its_room_back(connect, client):
    client.lpush("commands", envelope(0))
    consumer = Consumer(connect(visibility_timeout=0.2), prefetch=1)
    consumer.until(lambda: consumer.messages)
    client.lpush("commands", envelope(1))

    consumer.until(lambda: 0 in consumer.numbers[1:])
    consumer.messages[-1].ack()
    consumer.until(lambda: 1 in consumer.numbers)

    assert len(consumer.connection.default_channel.outstanding) == 1


def test_several_queues_are_all_served_and_the_urgent_first(connect, client):
    client.lpush("commands", *(envelope(number) for number in range(5)))
    client.lpush("upkeep", *(envelope(number) for number in range(10, 15)))
    client.lpush(PRIORITY_9, envelope(99))
    consumer = Consumer(connect(claim_limit=4), "commands", "upkeep")

    consumer.until(lambda: len(consumer.messages) == 11)

    assert consumer.numbers[:8] == [0, 1, 2, 3, 10, 11, 12, 13], "one queue waits for the whole of another"
    assert consumer.numbers[8:] == [4, 14, 99]


def test_a_message_ends_the_wait_of_an_idle_consumer_in_each_queue(connect, client):
    consumer = Consumer(connect(), "commands", "upkeep")
    consumer.settle()

    for number, queue in enumerate(["upkeep", "commands", "upkeep", PRIORITY_9]):
        client.lpush(queue, envelope(number))
        consumer.until(lambda number=number: consumer.numbers[-1:] == [number])


def test_without_room_nothing_is_claimed_and_room_is_used_as_it_comes(connect, client):
    client.lpush("commands", *(envelope(number) for number in range(10)))
    consumer = Consumer(connect(), prefetch=4)

    consumer.settle()
    assert consumer.numbers == [0, 1, 2, 3]
    consumer.messages[1].ack()
    consumer.settle()
    assert consumer.numbers == [0, 1, 2, 3, 4]
    consumer.channel.acknowledge(message.delivery_tag for message in consumer.messages[2:])
    consumer.settle()
    assert consumer.numbers == list(range(8))
    assert client.llen("commands") == 2


def test_celerys_own_brake_is_asked_for_each_message(connect, client):
    client.lpush("commands", *(envelope(number) for number in range(5)))
    consumer = Consumer(connect(), prefetch=4)
    qos = consumer.channel.qos
    qos.can_consume = lambda: len(consumer.messages) < 2  # as worker_disable_prefetch does

    consumer.settle()

    assert consumer.numbers == [0, 1]
    assert client.llen("commands") == 3


def test_without_room_nothing_waits_at_the_server(connect, client):
    consumer = Consumer(connect(), prefetch=1)
    client.lpush("commands", envelope(1), envelope(2))
    consumer.until(lambda: consumer.messages)

    wait_until(lambda: consumer.drain() or client.info("clients")["blocked_clients"] == 0)
    consumer.messages[0].ack()
    consumer.until(lambda: len(consumer.messages) == 2)


def test_another_thread_that_acknowledges_ends_the_wait(connect, client):
    client.lpush("commands", envelope(1), envelope(2))
    connection = connect()
    consumer = Consumer(connection, prefetch=1)
    consumer.until(lambda: consumer.messages)
    consumer.settle()
    waits = connection.transport._wait
    waiting = threading.Event()

    def wait(timeout_s):
        waiting.set()
        waits(timeout_s=3600)  # only a ring ends it

    connection.transport._wait = wait
    committer = threading.Thread(
        target=lambda: waiting.wait() and consumer.channel.acknowledge([consumer.messages[0].delivery_tag])
    )
    committer.start()
    connection.drain_events(timeout=10)
    committer.join()

    assert consumer.numbers == [1, 2]


def test_a_paused_channel_claims_nothing_until_it_is_resumed(connect, client):
    consumer = Consumer(connect())
    consumer.channel.pause()
    client.lpush("commands", envelope(1))
    consumer.settle()

    assert client.llen("commands") == 1
    resumer = threading.Thread(target=consumer.channel.resume)
    resumer.start()
    consumer.until(lambda: consumer.numbers == [1])
    resumer.join()


def test_a_rejected_message_is_dropped_or_comes_last(connect, client):
    client.lpush("commands", envelope(1), envelope(2), envelope(3))
    consumer = Consumer(connect(), prefetch=2)
    consumer.settle()

    consumer.messages[0].requeue()
    consumer.messages[1].reject()
    consumer.settle()

    assert consumer.numbers == [1, 2, 3, 1]


def test_a_worker_that_acknowledges_gets_its_thread_back_soon(connect):
    consumer = Consumer(connect())

    with pytest.raises(TimeoutError):
        consumer.connection.drain_events(timeout=3600)  # pytest's fuse is shorter


def test_an_overdue_message_is_redelivered_in_busy_and_idle_times_and_without_room(connect, client, claims):
    client.lpush("lost", envelope(1))
    claims.claim(["lost"], 1, 1_000, 0)
    consumer = Consumer(connect(), prefetch=1)
    client.lpush("commands", envelope(0))
    consumer.until(lambda: consumer.numbers == [0])

    wait_until(lambda: (consumer.drain(), client.llen("lost"))[1])  # no room
    assert len(consumer.messages) == 1

    consumer.messages[0].ack()
    claims.claim(["lost"], 1, 1_000, 0)
    wait_until(lambda: (consumer.drain(), client.llen("lost"))[1])  # idle

    def again(message):
        client.lpush("commands", envelope(7))
        message.ack()

    consumer.consumer.on_message = again
    client.lpush("commands", envelope(7))
    claims.claim(["lost"], 1, 1_000, 0)
    wait_until(lambda: (consumer.drain(), client.llen("lost"))[1])  # busy


def test_a_closed_channel_gives_back_what_is_outstanding_in_its_order(connect, client):
    raws = [envelope(number) for number in range(5)]
    client.lpush("commands", *raws)
    connection = connect()
    consumer = Consumer(connection, prefetch=3)
    consumer.settle()
    consumer.messages[0].ack()

    connection.close()

    assert client.lrange("commands", 0, -1)[::-1] == raws[1:]
    assert client.keys("unacked*") == []


def test_what_a_callback_raises_loses_no_message(connect, client):
    client.lpush("commands", *(envelope(number) for number in range(3)))
    seen = []

    def stumble(message):
        seen.append(json.loads(message.body)[1]["number"])
        if len(seen) == 1:
            raise RuntimeError("stumbled")

    consumer = Consumer(connect(), on_message=stumble)

    with pytest.raises(RuntimeError, match="stumbled"):
        consumer.until(lambda: seen)
    consumer.until(lambda: seen == [0, 1, 2])


def test_what_was_claimed_for_a_cancelled_consumer_goes_back(connect, client):
    client.lpush("commands", *(envelope(number) for number in range(3)))
    consumer = Consumer(connect(), "upkeep", "commands")
    consumer.consumer.on_message = lambda message: (
        consumer.messages.append(message),
        consumer.consumer.cancel_by_queue("commands"),
    )

    consumer.until(lambda: consumer.messages)
    consumer.settle()

    assert client.llen("commands") == 2


def test_a_single_message_can_be_fetched(connect, client):
    client.lpush("commands", envelope(1), "poison")
    channel = connect().default_channel

    first, second, third = (channel.basic_get("commands") for _ in range(3))

    assert (first.headers["task"], second.headers["task"], third) == ("transfers.post", UNREADABLE_TASK, None)
    first.ack()
    second.ack()
    assert client.keys() == []


def test_tags_are_acknowledged_after_their_connection_was_lost(connect, client):
    client.lpush("commands", *(envelope(number) for number in range(4)))
    connection = connect()
    consumer = Consumer(connection)
    consumer.until(lambda: len(consumer.messages) == 4)
    consumer.settle()
    old = consumer.channel
    client.client_kill_filter(_type="normal", skipme=True)

    with pytest.raises(redis.ConnectionError):
        wait_until(consumer.drain)
    connection.collect()

    assert client.llen("commands") == 0, "given back although its owner may be at work on it"
    assert old.acknowledge([message.delivery_tag for message in consumer.messages[:2]]) == 2
    consumer.messages[2].ack()
    assert Channel.restore(old, [consumer.messages[3].delivery_tag]) == 1
    assert client.lrange("commands", 0, -1) == [envelope(3)]


def test_a_lost_connection_is_always_told_as_such(connect, client):
    connection = connect()
    channel = connection.default_channel
    connection.collect()

    with pytest.raises(redis.ConnectionError, match="closed"):
        channel._create_client()


def test_a_global_prefix_is_kept(connect, client):
    client.lpush("eu:commands", envelope(1))
    client.lpush(f"eu:{PRIORITY_9}", envelope(2))
    consumer = Consumer(connect(global_keyprefix="eu:"))

    consumer.until(lambda: consumer.numbers == [1, 2])

    assert client.hlen("eu:unacked_claims") == 2
    consumer.connection.close()
    assert client.llen("eu:commands") == 1


def test_the_keys_of_the_claims_can_be_named(connect, client):
    client.lpush("commands", envelope(1))
    consumer = Consumer(connect(claims_key="unacked_mine", claims_index_key="unacked_mine_index"))

    consumer.until(lambda: consumer.messages)

    assert sorted(client.keys()) == [b"unacked_mine", b"unacked_mine_index"]


def test_a_user_with_few_rights_suffices(connect, client, server):
    keys = "~commands* ~upkeep* ~unacked* ~_kombu.binding* ~*.reply.celery.pidbox*"
    may = (
        "ping hello client|setname time info select blmove rpop lpush rpush llen lindex zadd zrem "
        "zrangebyscore hset hget hdel sadd srem smembers publish psubscribe punsubscribe evalsha "
        "script|load del pexpire"
    )
    rights = [f"+{command}" for command in may.split()]
    client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "allchannels", *keys.split(), *rights)
    client.lpush("commands", envelope(1))
    consumer = Consumer(connect(f"redis://worker:secret@127.0.0.1:{server.port}/0"))

    consumer.until(lambda: consumer.messages)
    consumer.channel.restore([consumer.messages[0].delivery_tag])
    consumer.until(lambda: len(consumer.messages) == 2)
    consumer.messages[1].ack()
    consumer.settle()

    assert client.keys("unacked*") == []
