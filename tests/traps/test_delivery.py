"""Traps between the queue and the database: real workers and a real broker, killed, blocked and broken."""

import json
from typing import Any
from uuid import UUID, uuid5

from models.commands import SplitTransfer
from tests.worker.conftest import OpenBooks
from tests.worker.site import Site, message, new_id, post, settle


def test_what_was_answered_is_there_though_worker_and_database_die_at_once(site: Site, open_books: OpenBooks) -> None:
    """Others answered first and wrote later, or told the disk later."""
    _, accounts = open_books()
    worker = site.worker().ready()
    command = post(*accounts, 7)

    told = site.call("transfers.post", **command)
    site.stack.postgres.kill()
    worker.kill()

    site.stack.postgres.start()
    assert told["status"] == "applied"
    assert site.transfers() == site.decided([command["id"]]) == 1
    site.worker().ready()
    assert json.dumps(site.call("transfers.post", **command)) == json.dumps(told)
    assert site.transfers() == 1


def test_a_worker_killed_before_its_commit_has_acknowledged_nothing(site: Site, open_books: OpenBooks) -> None:
    """Others moved on in their log before the database had committed, and what lay between was skipped."""
    _, accounts = open_books()
    armed = {"EQUIPOISE_TEST_CRASH_AT": "before_commit", "EQUIPOISE_TEST_CRASH_DIR": str(site.folder)}
    doomed = site.worker(**armed).ready()
    commands = [post(*accounts) for _ in range(20)]

    site.push(*(message("transfers.post", command) for command in commands))

    site.wait(lambda: not doomed.alive)
    assert site.transfers() == site.decided(command["id"] for command in commands) == 0
    assert site.waiting() + site.claimed() == len(commands)
    site.worker().ready()
    site.wait_decided(command["id"] for command in commands)
    site.wait_drained()
    assert site.transfers() == len(commands)


def test_a_group_that_fails_is_neither_acknowledged_nor_lost(site: Site, open_books: OpenBooks) -> None:
    """Others acknowledged a batch whatever became of it, an exception too."""
    _, accounts = open_books()
    worker = site.worker().ready()
    commands = [post(*accounts) for _ in range(20)]
    with site.session() as session:
        session.execute("REVOKE INSERT ON equipoise.transfers FROM equipoise_worker")

        site.push(*(message("transfers.post", command) for command in commands))

        site.wait(lambda: worker.log.count("everything goes back to the queue") > 1)
        assert site.transfers() == site.decided(command["id"] for command in commands) == 0
        session.execute("GRANT INSERT ON equipoise.transfers TO equipoise_worker")
    site.wait_decided(command["id"] for command in commands)
    site.wait_drained()
    assert site.transfers() == len(commands)
    assert site.dead_letters() == []


def test_a_blocked_ledger_keeps_no_other_waiting(site: Site, open_books: OpenBooks) -> None:
    """Others had one lock for all that was written."""
    (blocked, mine), (_, others) = open_books(), open_books()
    worker = site.worker().ready()
    waiting, free = [post(*mine) for _ in range(20)], [post(*others) for _ in range(20)]
    with site.session() as session:
        session.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"equipoise.ledger.{blocked}"])

        site.push(*(message("transfers.post", command) for pair in zip(waiting, free, strict=True) for command in pair))

        site.wait_decided(command["id"] for command in free)
        assert site.decided(command["id"] for command in waiting) == 0
        assert "everything goes back" not in worker.log
    site.wait_decided(command["id"] for command in waiting)
    site.wait_drained()
    assert site.dead_letters() == []


def test_a_conflict_that_never_passes_ends_as_a_dead_letter_while_others_go_on(
    site: Site, open_books: OpenBooks
) -> None:
    """Others tried again for ever: the command that cannot pass, and after it all that waited behind.

    It has the id of another command's transfer: no inbox row tells of it, and its own is refused each time (23505).
    """
    _, accounts = open_books(3)
    split = SplitTransfer(
        id=new_id(), source_id=accounts[0], destinations=[{"account_id": accounts[1], "rest": True}], amount=5
    )
    settle(site, split)
    worker = site.worker().ready()
    doomed = post(*accounts[:2], id=str(uuid5(UUID(split.id), "1")))
    around = [post(*accounts[:2]) for _ in range(5)]

    sent: list[dict[str, Any]] = [*around[:2], doomed, *around[2:]]
    site.push(*(message("transfers.post", command) for command in sent))

    site.wait_decided(command["id"] for command in around)
    site.wait(site.dead_letters)
    site.wait_drained()
    [(reason, detail)] = site.dead_letters()
    assert reason == "unforeseen"
    assert "transfers" in detail
    assert site.decided([doomed["id"]]) == 0
    assert site.call("transfers.post", **post(*accounts[:2]))["status"] == "applied"
    assert site.transfers() == 7
    assert worker.alive
