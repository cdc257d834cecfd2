"""What Celery promises of a message holds for each of ours: state, result, events, remote control, links, shutdown."""

import json
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, signature
from celery.exceptions import TaskRevokedError

from tests.worker.conftest import OpenBooks
from tests.worker.events import watching
from tests.worker.site import POOLS, Site, message, new_id, post

ASKED = {"ignore_result": False}
PAST = (datetime.now(UTC) - timedelta(days=1)).isoformat()


@pytest.mark.parametrize("pool", POOLS)
def test_each_message_has_its_state_result_and_events(site: Site, open_books: OpenBooks, pool: str) -> None:
    _, accounts = open_books()
    worker = site.worker("-E", pool=pool).ready()
    revoked = new_id()
    site.revoke(revoked)
    with watching(site.producer) as watcher:
        applied = site.send("transfers.post", **post(*accounts))
        unasked = site.send("transfers.post", options={"ignore_result": True}, **post(*accounts))
        malformed = site.send("transfers.post", **(post(*accounts) | {"amount": 1.5}))
        unknown = site.send("transfers.explode", **post(*accounts))
        late = site.send("transfers.post", options={"expires": PAST}, **post(*accounts))
        recalled = site.send("transfers.post", options={"task_id": revoked}, **post(*accounts))
        delayed = site.send("transfers.post", options={"countdown": 3_600}, **post(*accounts))
        site.wait_drained()
        assert applied.get(timeout=30)["status"] == "applied"
        for result in (malformed, unknown, delayed):
            assert type(result.get(timeout=30, propagate=False)).__name__ == "Malformed"
        for result in (late, recalled):
            site.wait(lambda result=result: result.state == "REVOKED")
        assert [it.state for it in (applied, malformed, unknown)] == ["SUCCESS", "FAILURE", "FAILURE"]
        assert site.redis.get(f"celery-task-meta-{unasked.id}") is None
        begins = ["task-received", "task-started"]
        ends = {applied: "succeeded", unasked: "succeeded", malformed: "failed", unknown: "failed", delayed: "failed"}
        ends |= {late: "revoked", recalled: "revoked"}
        for result, end in ends.items():
            site.wait(lambda result=result, end=end: watcher.types[result.id] == [*begins, f"task-{end}"])
    reasons = sorted(reason for reason, _ in site.dead_letters())
    assert reasons == ["expired", "malformed", "malformed", "malformed", "revoked"]
    assert site.transfers() == 2
    assert worker.alive


def test_a_revoked_or_expired_message_that_was_decided_before_gets_its_outcome(
    site: Site, open_books: OpenBooks
) -> None:
    _, accounts = open_books()
    site.worker().ready()
    command, revoked = post(*accounts), new_id()
    first = site.call("transfers.post", **command)
    site.revoke(revoked)

    late = site.send("transfers.post", options={"expires": PAST}, **command)
    site.send("transfers.post", options={"task_id": revoked}, **command)

    # Celery itself wrote REVOKED when it was told to revoke.
    site.wait(lambda: site.producer.AsyncResult(revoked).state == "SUCCESS")
    assert late.get(timeout=30) == site.producer.AsyncResult(revoked).get() == first
    assert site.dead_letters() == []


@pytest.mark.parametrize("pool", POOLS)
def test_remote_control_works_while_commands_flow(site: Site, open_books: OpenBooks, pool: str) -> None:
    _, accounts = open_books()
    worker = site.worker(pool=pool).ready()
    commands = [post(*accounts) for _ in range(4_000)]
    site.push(*(message("transfers.post", command) for command in commands))
    inspect = site.producer.control.inspect([worker.name], timeout=10, connection=site.connection)

    answers = {
        name: getattr(inspect, name)()
        for name in ("ping", "active", "reserved", "scheduled", "revoked", "active_queues")
    }
    enabled = site.producer.control.enable_events(
        reply=True, timeout=10, destination=[worker.name], connection=site.connection
    )
    site.wait_decided(command["id"] for command in commands)
    stats = inspect.stats()

    assert answers["ping"] == {worker.name: {"ok": "pong"}}
    for name, answer in answers.items():
        assert answer is not None, name
        assert "error" not in answer[worker.name], name
    assert enabled == [{worker.name: {"ok": "task events enabled"}}]
    assert stats[worker.name]["total"]["transfers.post"] >= len(commands)
    with watching(site.producer) as watcher:
        task = site.send("transfers.post", **post(*accounts))
        site.wait(lambda: "task-succeeded" in watcher.types[task.id])


@pytest.mark.parametrize("pool", POOLS)
def test_links_and_chains_run(site: Site, open_books: OpenBooks, pool: str) -> None:
    _, accounts = open_books()
    site.worker(pool=pool).ready()
    first, second, third, fourth = (post(*accounts) for _ in range(4))
    options = {"queue": "commands", "app": site.producer, "ignore_result": False}

    def sign(command: dict[str, Any]) -> Any:
        return signature("transfers.post", kwargs=command, immutable=True, **options)

    # What kombu would read as a number of another type, and the door reads as an object.
    odd = first | {"metadata": {"a": {"__type__": "decimal", "__value__": "1.5"}}}
    linked = site.send("transfers.post", options={"link": sign(second)}, **odd)
    chained = chain(sign(third), sign(fourth)).apply_async()

    assert linked.get(timeout=30)["id"] == first["id"]
    assert chained.get(timeout=30)["id"] == fourth["id"]
    site.wait_decided(command["id"] for command in (first, second, third, fourth))
    site.wait_drained()
    assert site.value("SELECT metadata FROM equipoise.transfers WHERE id = %s", first["id"]) == odd["metadata"]
    assert site.call("transfers.post", **odd) == linked.get()
    assert site.dead_letters() == []


def test_a_linked_message_is_judged_like_any_other(site: Site, open_books: OpenBooks) -> None:
    _, accounts = open_books()
    site.worker().ready()
    never = signature("transfers.post", kwargs=post(*accounts), immutable=True, queue="commands", app=site.producer)
    revoked = new_id()
    site.revoke(revoked)

    malformed = site.send("transfers.post", options={"link": never}, **(post(*accounts) | {"amount": 0}))
    late = site.send("transfers.post", options={"link": never, "expires": PAST}, **post(*accounts))
    recalled = site.send("transfers.post", options={"link": never, "task_id": revoked}, **post(*accounts))
    delayed = site.send("transfers.post", options={"link": never, "countdown": 3_600}, **post(*accounts))

    site.wait(lambda: len(site.dead_letters()) == 4)
    site.wait_drained()
    assert sorted(reason for reason, _ in site.dead_letters()) == ["expired", "malformed", "malformed", "revoked"]
    assert site.transfers() == 0
    assert {malformed.state, delayed.state} == {"FAILURE"}
    for result in (late, recalled):
        with pytest.raises(TaskRevokedError):
            result.get(timeout=30)


@pytest.mark.parametrize("pool", POOLS)
def test_a_linked_command_that_the_database_refuses_goes_back(site: Site, open_books: OpenBooks, pool: str) -> None:
    _, accounts = open_books()
    worker = site.worker(pool=pool).ready()
    link = [dict(signature("transfers.post", kwargs=post(*accounts), immutable=True, queue="commands"))]
    command = post(*accounts)
    with site.session() as session:
        # No outage, no conflict: what only a fault of ours would make the database say.
        session.execute("ALTER TABLE equipoise.transfers ADD CONSTRAINT none CHECK (amount > 1) NOT VALID")
        site.push(message("transfers.post", command, embed={"callbacks": link}))
        site.wait(lambda: "goes back to its queue" in worker.log)
        session.execute("ALTER TABLE equipoise.transfers DROP CONSTRAINT none")

    site.wait_decided([command["id"], link[0]["kwargs"]["id"]])
    site.wait_drained()
    assert site.dead_letters() == []
    assert worker.alive


def test_a_message_of_another_contract_waits_whatever_its_type(site: Site, open_books: OpenBooks) -> None:
    _, accounts = open_books()
    # Longer than the test: what comes again was put back, and did not run out of time.
    worker = site.worker(EQUIPOISE_VISIBILITY_TIMEOUT_S="600").ready()
    newer = [message(task, post(*accounts), **{"equipoise-contract": "2"}) for task in ("transfers.post", "new.type")]
    ours = post(*accounts)

    site.push(*newer, message("transfers.post", ours, **{"equipoise-contract": "1"}))

    site.wait_decided([ours["id"]])
    first = site.wait(lambda: len(tags := site.redis.hkeys("unacked_claims")) == len(newer) and tags)
    site.wait(lambda: not set(first) & set(site.redis.hkeys("unacked_claims")))
    assert worker.log.count("ALARM") == 1
    assert worker.stop() == 0
    assert site.redis.hlen("unacked_claims") == 0
    assert sorted(site.redis.lrange("commands", 0, -1)) == sorted(newer)
    assert site.dead_letters() == []
    assert site.transfers() == 1


def test_prefork_is_refused_with_a_clear_word(site: Site) -> None:
    worker = site.worker(pool="processes")  # Celery reads `prefork`, its default, as what the settings say: threads

    assert worker.process.wait(60) != 0
    assert "the prefork pool is not supported" in worker.log


def test_a_result_backend_that_is_away_keeps_nothing_from_being_acknowledged(site: Site, open_books: OpenBooks) -> None:
    _, accounts = open_books()
    worker = site.worker(EQUIPOISE_RESULT_URL="redis://127.0.0.1:1/0").ready()
    commands = [post(*accounts) for _ in range(5)]

    site.push(*(message("transfers.post", command, **ASKED) for command in commands))

    site.wait_decided(command["id"] for command in commands)
    site.wait_drained()
    assert "result(s) could not be written" in worker.log
    assert worker.alive


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_under_load_answers_what_was_taken_and_gives_back_the_rest(
    site: Site, open_books: OpenBooks, pool: str
) -> None:
    _, accounts = open_books()
    worker = site.worker(pool=pool).ready()
    commands = [post(*accounts) for _ in range(20_000)]
    site.push(*(message("transfers.post", command) for command in commands))
    site.wait(lambda: site.transfers() > 0)

    assert worker.stop() == 0

    decided = site.decided(command["id"] for command in commands)
    assert site.claimed() == 0
    assert decided + site.waiting() == len(commands)
    print(f"warm shutdown, {pool}: {decided} answered, {site.waiting()} left")
    assert site.dead_letters() == []
    assert site.books_balance()


def test_a_worker_takes_from_the_queues_that_it_is_told(site: Site, open_books: OpenBooks) -> None:
    _, accounts = open_books()
    site.worker("-Q", "commands").ready()
    upkeep = site.producer.send_task("upkeep.verify", queue="upkeep", ignore_result=False)

    assert site.call("transfers.post", **post(*accounts))["status"] == "applied"

    assert site.redis.llen("upkeep") == 1
    site.worker("-Q", "upkeep").ready()
    assert upkeep.get(timeout=60)


@pytest.mark.parametrize("pool", POOLS)
def test_upkeep_runs_in_the_pool_while_commands_flow(site: Site, open_books: OpenBooks, pool: str) -> None:
    _, accounts = open_books()
    site.worker(pool=pool).ready()
    commands = [post(*accounts) for _ in range(2_000)]

    site.push(*(message("transfers.post", command) for command in commands))
    proofs = [site.producer.send_task("upkeep.verify", queue="upkeep", ignore_result=False) for _ in range(3)]

    assert all(json.dumps(proof.get(timeout=60)) for proof in proofs)
    site.wait_decided(command["id"] for command in commands)
    site.wait(lambda: not site.redis.exists("commands", "upkeep", "unacked_claims"))
    assert site.transfers() == len(commands)


@pytest.mark.long
def test_a_cold_shutdown_loses_nothing(site: Site, open_books: OpenBooks) -> None:
    ledger, accounts = open_books()
    worker = site.worker().ready()
    commands = [post(*accounts) for _ in range(20)]
    with site.session() as session:
        session.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"equipoise.ledger.{ledger}"])
        site.push(*(message("transfers.post", command) for command in commands))
        site.wait(lambda: site.claimed() == len(commands))
        worker.process.send_signal(signal.SIGQUIT)
        worker.process.wait(60)
    site.worker().ready()

    site.wait_decided(command["id"] for command in commands)
    site.wait_drained()
    assert site.transfers() == len(commands)
