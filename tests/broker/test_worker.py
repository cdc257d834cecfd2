"""Celery's own worker does what it always did, on our transport: tasks, remote control, restarts of Redis, shutdown."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from celery import Celery

from tests.broker.server import die_with_owner
from tests.broker.test_transport import POISONS
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


class Worker:
    """A worker in a process of its own, and a stock producer that knows nothing of it."""

    def __init__(self, server, directory, *options):
        self.file = directory / "noted"
        self.log = directory / "log"
        environment = os.environ | {"THROWAWAY_BROKER": server.url, "THROWAWAY_FILE": str(self.file)}
        command = [sys.executable, "-m", "celery", "-A", "tests.broker.throwaway", "worker", "-c", "4", "-l", "INFO"]
        with self.log.open("wb") as log:
            # prctl takes no lock that a thread of ours could hold.
            self.process = subprocess.Popen(
                [*command, *options],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_owner,
            )
        self.producer = Celery("producer", broker=server.url, set_as_current=False)
        self.producer.conf.update(
            task_default_queue="commands",
            task_ignore_result=True,
            broker_transport_options={"retry_policy": {"max_retries": 0}},
        )

    def send(self, name, **options):
        self.producer.send_task("throwaway.note", [name], **options)

    def noted(self):
        return set(self.file.read_text().splitlines()) if self.file.exists() else set()

    def wait_for(self, names):
        wanted = set(names)

        def all_noted():
            assert self.process.poll() is None, self.log.read_text()
            return wanted <= self.noted()

        wait_until(all_noted, within_s=60)

    def pings(self):
        with self.producer.connection_for_write() as connection:
            return self.producer.control.ping(timeout=1.0, limit=1, connection=connection)

    def close(self):
        self.producer.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(
    params=[["-P", "threads"], ["-P", "solo", "--without-gossip", "--without-mingle"]], ids=["threads", "solo"]
)
def worker(request, server, client, tmp_path):
    worker = Worker(server, tmp_path, *request.param)
    yield worker
    worker.close()


def test_a_worker_obeys_remote_control_and_shuts_down_when_it_is_told(worker, client):
    wait_until(worker.pings)
    revoked = str(uuid.uuid4())
    assert worker.producer.control.revoke(revoked, reply=True, limit=1)

    worker.send("revoked", task_id=revoked)
    for number in range(100):
        worker.send(str(number))
    worker.wait_for(str(number) for number in range(100))

    assert "revoked" not in worker.noted()
    assert "Discarding revoked task" in worker.log.read_text()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=30) == 0
    assert client.exists("commands", "unacked_claims", "unacked", "unacked_index") == 0


def test_a_worker_is_shut_down_by_remote_control(worker):
    wait_until(worker.pings)

    worker.producer.control.shutdown()

    assert worker.process.wait(timeout=30) == 0


def test_a_worker_survives_restarts_of_redis(worker, server, client):
    for restart in range(3):
        names = [f"{restart}-{number}" for number in range(50)]
        for name in names:
            worker.send(name)
        worker.wait_for(names[:5])
        server.kill()
        server.start()
        worker.wait_for(names)

    wait_until(worker.pings)
    wait_until(lambda: client.exists("commands", "unacked_claims") == 0)


def test_a_worker_survives_every_poison(worker, client):
    wait_until(worker.pings)
    worker.send("before")
    client.lpush("commands", *POISONS.values())
    worker.send("after")

    worker.wait_for(["before", "after"])
    wait_until(lambda: client.exists("commands", "unacked_claims") == 0)
