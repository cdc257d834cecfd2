"""The ledger's lock: whoever is frozen, cut off or killed while holding it, others go on and its ledger recovers."""

from time import monotonic, time

import pytest

from tests.worker.conftest import OpenBooks
from tests.worker.events import watching
from tests.worker.site import POOLS, Site, Worker, message, post

# What makes a worker stop at a place of our choice, with its ledger's lock held: the statement of another session.
PLACES = {
    # It looks the ids up, outside a transaction: idle_session_timeout.
    "before its transaction": "LOCK TABLE equipoise.inbox IN ACCESS EXCLUSIVE MODE",
    # It updates an account: idle_in_transaction_session_timeout.
    "in its transaction": "SELECT FROM equipoise.accounts WHERE id = ANY (%s::uuid[]) FOR UPDATE",
    # It is about to send rows, which PostgreSQL waits for without a time-out: whoever waits for the lock ends it.
    "in the middle of COPY": "LOCK TABLE equipoise.transfers IN SHARE MODE",
}


def freeze(site: Site, worker: Worker, statement: str, accounts: list[str], ledger: str) -> str:
    """Have the worker frozen where the statement makes it wait, its lock held; give the command that it had."""
    command = post(*accounts)
    with site.session() as session, session.transaction():
        session.execute(statement.encode(), [accounts] if "%s" in statement else None)
        site.push(message("transfers.post", command))
        site.wait(lambda: waits_inside(site, ledger))
        worker.freeze()
    return str(command["id"])


def waits_inside(site: Site, ledger: str) -> bool:
    """Whether a session holds the ledger's lock and waits for another one."""
    return bool(
        site.value(
            """
            SELECT count(*) FROM pg_locks held JOIN pg_locks wanted USING (pid)
            WHERE held.locktype = 'advisory' AND held.granted AND NOT wanted.granted
            AND (held.classid::bigint << 32) | held.objid::bigint = hashtextextended(%s, 0)
            """,
            f"equipoise.ledger.{ledger}",
        )
    )


@pytest.mark.parametrize(
    "place",
    ["in its transaction", "in the middle of COPY", pytest.param("before its transaction", marks=pytest.mark.long)],
)
def test_a_frozen_holder_delays_its_own_ledger_for_seconds_and_no_other(
    site: Site, open_books: OpenBooks, place: str
) -> None:
    (ledger, mine), (_, others) = open_books(), open_books()
    frozen = site.worker().ready()
    held = freeze(site, frozen, PLACES[place], mine, ledger)
    began = monotonic()
    second = site.worker().ready()
    waiting, free = [post(*mine) for _ in range(5)], [post(*others) for _ in range(5)]

    site.push(*(message("transfers.post", command) for command in waiting + free))

    site.wait_decided(command["id"] for command in free)
    site.wait_decided([*(command["id"] for command in waiting), held])
    print(f"frozen {place}: its ledger was taken over after {monotonic() - began:.1f} s")
    site.wait_drained()
    frozen.thaw()
    later = post(*mine)
    site.push(message("transfers.post", later))
    site.wait_decided([later["id"]])
    site.wait_drained()
    assert site.transfers() == 12
    assert site.dead_letters() == []
    assert site.books_balance()
    assert frozen.alive and second.alive
    assert "everything goes back" not in second.log


@pytest.mark.long
def test_a_worker_frozen_between_groups_holds_no_lock(site: Site, open_books: OpenBooks) -> None:
    _, accounts = open_books()
    frozen = site.worker().ready()
    site.call("transfers.post", **post(*accounts))
    frozen.freeze()
    site.worker().ready()

    assert site.call("transfers.post", **post(*accounts))["status"] == "applied"


def test_a_holder_whose_connection_is_ended_in_mid_group_begins_again(site: Site, open_books: OpenBooks) -> None:
    ledger, accounts = open_books()
    worker = site.worker().ready()
    command = post(*accounts)
    with site.session() as session, session.transaction():
        session.execute(PLACES["in its transaction"].encode(), [accounts])
        site.push(message("transfers.post", command))
        site.wait(lambda: waits_inside(site, ledger))
        site.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'equipoise worker' AND datname = current_database()"
        )

    site.wait_decided([command["id"]])
    site.wait_drained()
    assert site.transfers() == 1
    assert site.dead_letters() == []
    assert worker.alive


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_whose_committer_dies_ends_and_gives_back_what_it_had(
    site: Site, open_books: OpenBooks, pool: str
) -> None:
    ledger, accounts = open_books()
    name = f"equipoise.ledger.{ledger}"
    worker = site.worker("--include", "tests.worker.saboteur", pool=pool).ready()
    commands = [post(*accounts) for _ in range(3)]
    with site.session() as session:
        session.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [name])
        site.push(*(message("transfers.post", command) for command in commands))
        site.wait(lambda: "its commands wait" in worker.log or "kept by another" in worker.log)
        assert site.producer.control.broadcast(
            "kill_committer", reply=True, limit=1, timeout=10, connection=site.connection
        )

        # What it gave back it claims again, finds nobody to put it before, and ends.
        site.wait(lambda: not worker.alive)
        site.wait(lambda: site.waiting() == 3 and site.claimed() == 0)
    assert worker.process.returncode not in (0, None)
    site.worker(pool=pool).ready()

    site.wait_decided(command["id"] for command in commands)
    assert site.dead_letters() == []
    assert site.transfers() == 3


def test_two_workers_share_one_hot_account(site: Site, open_books: OpenBooks) -> None:
    """No starvation: each commits a fair part of the groups. The times from queue to commit are printed."""
    _, accounts = open_books(20)
    workers = [site.worker("-E"), site.worker("-E")]
    for worker in workers:
        worker.ready()
    commands = [post(accounts[0], accounts[1 + number % 19]) for number in range(3_000)]
    pushed: dict[str, float] = {}
    with watching(site.producer) as watcher:
        for place in range(0, len(commands), 50):
            some = commands[place : place + 50]
            site.push(*(message("transfers.post", command) for command in some))
            pushed |= dict.fromkeys((command["id"] for command in some), time())
        site.wait_decided(pushed)
        site.wait_drained()
        site.wait(lambda: sum(watcher.count("task-succeeded").values()) == len(commands))
    shares = watcher.count("task-succeeded")

    rows = site.rows("SELECT id::text, extract(epoch FROM decided_at)::float8 FROM equipoise.inbox")
    waits = sorted(decided_at - pushed[id] for id, decided_at in rows if id in pushed)
    print(
        f"two workers, one hot account: p50 {waits[len(waits) // 2] * 1e3:.0f} ms,"
        f" p99 {waits[len(waits) * 99 // 100] * 1e3:.0f} ms from queue to decision, shares {sorted(shares.values())}"
    )
    assert min(shares[worker.name] for worker in workers) > len(commands) // 10
    assert all("40001" not in worker.log for worker in workers)
    assert site.books_balance()
    assert site.transfers() == len(commands)
