"""Nothing that Redis took in is lost when a consumer, or Redis itself, is killed under load.

The long ones kill as often as we promise: 30 times the one, 10 times the other.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import redis

from tests.broker.server import die_with_owner
from tests.broker.test_transport import envelope, replaced
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
LONG = [pytest.mark.long, pytest.mark.timeout(900)]
BACKLOG = 2_000
CHUNK = 50


class Producer(threading.Thread):
    """Keeps the queue filled, and knows what the server said it has."""

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.sent = set()
        self.ended = threading.Event()

    def run(self):
        with self.server.client() as client:
            while not self.ended.is_set():
                ids = [str(uuid.uuid4()) for _ in range(CHUNK)]
                chunk = [envelope(0, headers=replaced("headers", id=id)) for id in ids]
                try:
                    if client.llen("commands") < BACKLOG:
                        client.lpush("commands", *chunk)
                        self.sent.update(ids)
                except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
                    continue  # the server is down: these ids were not promised to anybody

    def stop(self):
        self.ended.set()
        self.join()
        return self.sent


class Killable:
    """A consumer in a process of its own."""

    def __init__(self, server, path):
        command = [sys.executable, "-m", "tests.broker.consume", server.url, str(path)]
        # prctl takes no lock that a thread of ours could hold.
        self.process = subprocess.Popen(command, cwd=ROOT, preexec_fn=die_with_owner)
        self.path = path

    def received(self):
        return self.path.read_text().splitlines() if self.path.exists() else []

    def work_a_while(self):
        """Wait until it has received some more; return how many it has received then."""
        enough = len(self.received()) + random.randint(1, 500)
        return wait_until(lambda: (count := len(self.received())) >= enough and count, within_s=60)

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL


def settled(client):
    # In one step: a message that comes back from a claim is in neither if they are asked in turn.
    return not any(client.pipeline().llen("commands").exists("unacked_claims").execute())


@pytest.fixture
def producer(server, client):
    producer = Producer(server)
    producer.start()
    yield producer
    producer.stop()


def report(what, kills, sent, received):
    print(json.dumps({"killed": what, "times": kills, "sent": len(sent), "received": len(received)}), file=sys.stderr)


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=LONG)])
def test_no_message_is_lost_when_consumers_are_killed(server, client, producer, tmp_path, kills):
    for number in range(kills):
        consumer = Killable(server, tmp_path / f"received-{number}")
        consumer.work_a_while()
        consumer.kill()
    sent = producer.stop()

    last = Killable(server, tmp_path / "received-last")
    wait_until(lambda: settled(client), within_s=60)
    last.kill()

    received = [id for path in tmp_path.iterdir() for id in path.read_text().splitlines()]
    report("consumer", kills, sent, received)
    assert sent - set(received) == set()


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=LONG)])
def test_no_message_is_lost_when_redis_is_killed(server, client, producer, tmp_path, kills):
    consumer = Killable(server, tmp_path / "received")
    for _ in range(kills):
        consumer.work_a_while()
        server.kill()
        server.start()
    consumer.work_a_while()
    sent = producer.stop()

    wait_until(lambda: settled(client), within_s=60)
    consumer.kill()

    report("redis", kills, sent, consumer.received())
    assert sent - set(consumer.received()) == set()
