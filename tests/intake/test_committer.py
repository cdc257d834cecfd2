"""The committing thread answers each request or puts it back, whatever happens; and no ledger waits for another's."""

import ctypes
from collections import Counter
from collections.abc import Collection
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection

from models.commands import OpenAccount
from tests.factories import batch
from tests.intake.desk import Desk, Queue, letter, transfer
from tests.worker.site import Site, new_id
from worker.engine.settle import PATIENCE_MS
from worker.intake import committer as committing
from worker.intake.committer import CommitterEndedError

Session = Connection[Any]


def test_a_blocked_ledger_waits_while_another_goes_on(desk: Desk) -> None:
    (blocked, mine), (_, others) = desk.open_books(), desk.open_books()
    desk.committer.start()

    with desk.ledger_locked(blocked):
        waiting = desk.put(transfer(mine), transfer(mine))
        for _ in range(5):
            desk.wait_acknowledged(desk.put(transfer(others)))
        assert not set(waiting) & {tag for _, tag in desk.queue.settled}

    desk.wait_acknowledged(waiting)
    assert desk.queue.pauses == 0
    assert desk.site.books_balance()


def test_others_do_not_wait_until_a_blocked_ledger_is_looked_at_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "BUSY_RETRY_S", 3_600.0)
    (blocked, mine), (_, others) = desk.open_books(), desk.open_books()
    desk.committer.start()

    with desk.ledger_locked(blocked):
        waiting = desk.put(transfer(mine))
        desk.site.wait(lambda: desk.committer._busy)
        for _ in range(3):
            desk.wait_acknowledged(desk.put(transfer(others)))
        assert desk.committer.finish(30.0)

    assert desk.queue.went("head") == waiting


def test_a_blocked_ledger_is_waited_for_once_and_looked_at_afterwards(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, mine = desk.open_books()
    patience: list[int] = []

    class Noting:
        """The settlement, and how long each call of it would have waited for the ledger."""

        def __getattr__(self, name: str) -> Any:
            return getattr(desk.settlement, name)

        def __call__(self, *args: Any, patience_ms: int, **options: Any) -> Any:
            patience.append(patience_ms)
            return desk.settlement(*args, patience_ms=patience_ms, **options)

    monkeypatch.setattr(desk.committer, "_settle", Noting())
    desk.committer.start()
    with desk.ledger_locked(blocked):
        tags = desk.put(transfer(mine))
        desk.site.wait(lambda: len(patience) >= 3)

    desk.wait_acknowledged(tags)
    assert patience[0] == PATIENCE_MS
    assert set(patience[1:]) == {committing.BUSY_PATIENCE_MS}


def test_more_than_a_share_for_a_blocked_ledger_goes_to_the_tail(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "MAX_WAITING_FOR_A_LEDGER", 3)
    blocked, mine = desk.open_books()
    desk.committer.start()

    with desk.ledger_locked(blocked):
        tags = desk.put(*(transfer(mine) for _ in range(10)))
        desk.site.wait(lambda: len(desk.queue.went("tail")) == 7)
        assert desk.queue.went("acknowledged") == []

    desk.wait_acknowledged(set(tags) - set(desk.queue.went("tail")))
    assert desk.site.transfers() == 3


def test_an_outage_puts_everything_back_at_the_head_and_pauses_until_it_is_over(desk: Desk) -> None:
    (_, mine), (_, others) = desk.open_books(), desk.open_books()
    with desk.site.session() as session:
        session.execute("ALTER TABLE equipoise.transfers RENAME TO hidden")
        tags = desk.put(transfer(mine), transfer(others), transfer(mine))
        desk.committer.start()
        desk.site.wait(lambda: desk.queue.pauses and not desk.queue.paused)
        session.execute("ALTER TABLE equipoise.hidden RENAME TO transfers")

    assert sorted(desk.queue.went("head")) == sorted(tags)
    assert desk.queue.went("acknowledged") == []
    desk.wait_acknowledged(desk.put(transfer(mine)))
    assert desk.committer.outages == 0
    assert desk.site.dead_letters() == []


def test_an_outage_of_many_hours_ends_like_any_other(desk: Desk) -> None:
    _, mine = desk.open_books()
    desk.committer.outages = 5_000
    with desk.site.session() as session:
        session.execute("ALTER TABLE equipoise.transfers RENAME TO hidden")
        desk.put(transfer(mine))
        desk.committer.start()
        desk.site.wait(lambda: desk.queue.pauses)
        session.execute("ALTER TABLE equipoise.hidden RENAME TO transfers")

    desk.site.wait(lambda: not desk.queue.paused)
    desk.wait_acknowledged(desk.put(transfer(mine)))


@pytest.mark.parametrize("sqlstate", ["40001", "22003", "23514"])
def test_a_command_that_the_database_refuses_for_ever_is_buried_when_others_commit(desk: Desk, sqlstate: str) -> None:
    _, mine = desk.open_books()
    desk.curse(sqlstate)

    tags = desk.put(transfer(mine), transfer(mine, kind="cursed"), transfer(mine))
    desk.committer.start()

    desk.wait_acknowledged(tags)
    assert [reason for reason, _ in desk.site.dead_letters()] == ["unforeseen"]
    assert desk.site.transfers() == 2
    assert desk.queue.pauses == 0


@pytest.mark.parametrize("sqlstate", ["40001", "22003"])
def test_a_refused_command_alone_in_its_ledger_waits_and_holds_up_nobody(desk: Desk, sqlstate: str) -> None:
    (_, mine), (_, others) = desk.open_books(), desk.open_books()
    desk.curse(sqlstate)
    cursed = transfer(mine, kind="cursed")

    tags = desk.put(cursed, *(transfer(others) for _ in range(3)))
    desk.committer.start()

    desk.wait_acknowledged(tags[1:])
    desk.site.wait(lambda: desk.queue.went("tail") == [cursed.id])
    assert desk.queue.pauses == 0
    assert desk.site.dead_letters() == []
    desk.wait_acknowledged(desk.put(cursed, transfer(mine)))
    assert [reason for reason, _ in desk.site.dead_letters()] == ["unforeseen"]


@pytest.mark.parametrize("witness", ["a duplicate", "a refusal", "another type"])
def test_what_writes_no_transfer_does_not_condemn_one(desk: Desk, witness: str) -> None:
    ledger, mine = desk.open_books()
    desk.curse("23514")
    known = transfer(mine)
    desk.settlement([known])
    items = {
        "a duplicate": known,
        "a refusal": transfer(mine, destination_id=new_id()),
        "another type": OpenAccount(id=new_id(), account_id=new_id(), ledger=ledger),
    }
    cursed = transfer(mine, kind="cursed")

    tags = desk.put(items[witness], cursed)
    desk.committer.start()

    desk.wait_acknowledged(tags[:1])
    desk.site.wait(lambda: desk.queue.went("tail") == [cursed.id])
    assert desk.site.dead_letters() == []


def test_a_command_over_two_ledgers_is_buried_when_others_like_it_commit_in_one_of_them(desk: Desk) -> None:
    (_, one), (_, other) = desk.open_books(), desk.open_books()
    desk.curse("23514")
    cursed = batch(transfer(one, kind="cursed"), transfer(other))
    desk.put(cursed)
    desk.committer.start()
    desk.site.wait(lambda: desk.queue.went("tail") == [cursed.id])

    desk.wait_acknowledged(desk.put(transfer(other)))
    desk.put(cursed)

    desk.wait_acknowledged([cursed.id])
    assert [reason for reason, _ in desk.site.dead_letters()] == ["unforeseen"]


def test_a_malformed_message_beside_it_does_not_condemn_a_command(desk: Desk) -> None:
    _, mine = desk.open_books()
    desk.curse("22003")
    cursed = desk.request(transfer(mine, kind="cursed"))
    malformed = desk.request(letter())
    desk.committer._held = [malformed, cursed]

    desk.committer._one_by_one(frozenset(), RuntimeError("for a test"))

    assert desk.queue.settled == [("acknowledged", malformed.tag), ("tail", cursed.tag)]
    assert [reason for reason, _ in desk.site.dead_letters()] == ["malformed"]


def test_a_ledger_blocked_while_its_group_is_tried_one_by_one_holds_up_nobody(desk: Desk) -> None:
    (blocked, mine), (_, others) = desk.open_books(), desk.open_books()
    desk.curse("22003")
    stepped_in = Event()

    class Stepping(Queue):
        """Has another worker take the ledger as soon as the first command is acknowledged."""

        def acknowledge(self, tags: Collection[str]) -> None:
            desk.queue.acknowledge(tags)
            session.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"equipoise.ledger.{blocked}"])
            stepped_in.set()

    with desk.site.session() as session:
        first = desk.request(transfer(mine), queue=Stepping())
        desk.committer.put(first)
        rest = desk.put(transfer(mine, kind="cursed"), transfer(mine))
        desk.committer.start()
        desk.site.wait(stepped_in.is_set)
        desk.wait_acknowledged(desk.put(transfer(others)))
        assert desk.queue.went("head") == desk.queue.went("tail") == []

    desk.wait_acknowledged(rest)
    assert desk.queue.pauses == 0


def test_a_group_that_waits_is_announced_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked, mine = desk.open_books()
    announced: Counter[str] = Counter()
    started = desk.answers.started

    def count(group: Any) -> None:
        announced.update(request.tag for request in group)
        started(group)

    monkeypatch.setattr(desk.answers, "started", count)
    desk.committer.start()
    with desk.ledger_locked(blocked):
        tags = desk.put(transfer(mine))
        desk.site.wait(lambda: len(desk.committer._busy) == 1)
        looked_at = next(iter(desk.committer._busy.values()))
        desk.site.wait(lambda: max(desk.committer._busy.values(), default=looked_at) > looked_at)

    desk.wait_acknowledged(tags)
    assert set(announced.values()) == {1}


def test_a_result_that_cannot_be_written_keeps_nothing_from_being_acknowledged(desk: Desk) -> None:
    _, mine = desk.open_books()
    desk.app.conf.result_backend = "no_such_backend://"
    desk.committer.start()

    desk.wait_acknowledged(desk.put(transfer(mine), ignore_result=False))

    assert desk.answers.failed["result"] == 1
    assert desk.queue.pauses == 0


def test_a_message_is_forgotten_after_its_result_is_written(desk: Desk) -> None:
    _, mine = desk.open_books()
    desk.app.conf.result_backend = "cache+memory://"
    states: list[str] = []

    class Looking(Queue):
        """Looks for the result when the message is acknowledged: a worker may die between the two."""

        def acknowledge(self, tags: Collection[str]) -> None:
            states.append(desk.app.AsyncResult(asked.id).state)
            super().acknowledge(tags)

    queue = Looking()
    asked = desk.request(transfer(mine), queue=queue, ignore_result=False)
    desk.committer.put(asked)
    desk.committer.start()

    desk.site.wait(lambda: queue.went("acknowledged") == [asked.tag])
    assert states == ["SUCCESS"]


def test_a_message_is_forgotten_after_its_command_is_committed(desk: Desk) -> None:
    _, mine = desk.open_books()
    decided: list[int] = []

    class Looking(Queue):
        """Looks, in a session of its own, for what was committed when the message is acknowledged."""

        def acknowledge(self, tags: Collection[str]) -> None:
            decided.append(desk.site.decided(tags))
            super().acknowledge(tags)

    queue = Looking()
    requests = [desk.request(transfer(mine), queue=queue) for _ in range(3)]
    for request in requests:
        desk.committer.put(request)
    desk.committer.start()

    desk.site.wait(lambda: len(queue.went("acknowledged")) == 3)
    assert decided == [3]


def test_what_waited_for_its_ledger_is_decided_in_the_order_it_came(desk: Desk) -> None:
    blocked, mine = desk.open_books()
    desk.committer.start()

    with desk.ledger_locked(blocked):
        tags = desk.put(*(transfer(mine) for _ in range(10)))
        desk.site.wait(lambda: desk.committer._busy)

    desk.wait_acknowledged(tags)
    decided = desk.site.rows("SELECT id::text FROM equipoise.transfers ORDER BY sequence")
    assert [id for (id,) in decided] == tags


def test_a_ledger_with_much_to_do_takes_turns_with_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "MAX_GROUP_COMMANDS", 2)
    (_, mine), (_, others) = desk.open_books(), desk.open_books()

    many, one = desk.put(*(transfer(mine) for _ in range(5))), desk.put(transfer(others))
    desk.committer.start()

    desk.wait_acknowledged([*many, *one])
    assert desk.queue.went("acknowledged") == [*many[:2], *one, *many[2:]]


def test_finishing_settles_what_it_can_and_puts_the_rest_back(desk: Desk) -> None:
    (blocked, mine), (_, others) = desk.open_books(), desk.open_books()
    desk.committer.start()

    with desk.ledger_locked(blocked):
        stuck, free = desk.put(transfer(mine)), desk.put(*(transfer(others) for _ in range(50)))
        assert desk.committer.finish(30.0)

    assert sorted(desk.queue.went("acknowledged")) == sorted(free)
    assert desk.queue.went("head") == stuck


def test_finishing_during_an_outage_puts_everything_back(desk: Desk) -> None:
    _, mine = desk.open_books()
    with desk.site.session() as session:
        session.execute("ALTER TABLE equipoise.transfers RENAME TO hidden")
        tags = desk.put(transfer(mine), transfer(mine))
        desk.committer.start()
        desk.site.wait(lambda: desk.queue.pauses)
        assert desk.committer.finish(30.0)
        session.execute("ALTER TABLE equipoise.hidden RENAME TO transfers")

    assert sorted(set(desk.queue.went("head"))) == sorted(tags)
    assert desk.queue.went("acknowledged") == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is what the test raises
def test_a_committer_that_is_killed_gives_everything_back_and_takes_no_more(desk: Desk) -> None:
    blocked, mine = desk.open_books()
    desk.committer.start()
    with desk.ledger_locked(blocked):
        tags = desk.put(*(transfer(mine) for _ in range(3)))
        desk.site.wait(lambda: desk.committer._busy)
        assert desk.committer.ident is not None
        # What no `except Exception` catches, as at the end of the interpreter.
        raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(desk.committer.ident), ctypes.py_object(SystemExit)
        )
        assert raised == 1
        desk.site.wait(lambda: not desk.committer.is_alive())

    assert sorted(desk.queue.went("head")) == sorted(tags)
    with pytest.raises(CommitterEndedError):
        desk.put(transfer(mine))


STEPS = st.lists(
    st.sampled_from(
        ["one", "other", "both", "cursed", "malformed", "block", "release", "outage", "recovery", "termination"]
    ),
    min_size=4,
    max_size=14,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_each_message_is_answered_or_put_back_exactly_once(site: Site, steps: list[str]) -> None:
    desk = Desk(site)
    run_schedule(desk, steps)


class Schedule:
    """Steps to take while a committer works: what it is sent, and what it has to bear."""

    def __init__(self, desk: Desk, session: Session, holder: Session) -> None:
        self.desk, self._session, self._holder = desk, session, holder
        (self._ledger, self._mine), (_, self._others) = desk.open_books(), desk.open_books()
        self.sent: list[str] = []
        self._broken = False

    def one(self) -> None:
        self.sent += self.desk.put(transfer(self._mine))

    def other(self) -> None:
        self.sent += self.desk.put(transfer(self._others))

    def both(self) -> None:
        self.sent += self.desk.put(*(transfer(accounts) for accounts in (self._mine, self._others, self._mine)))

    def cursed(self) -> None:
        self.sent += self.desk.put(transfer(self._mine, kind="cursed"))

    def malformed(self) -> None:
        self.sent += self.desk.put(letter())

    def block(self) -> None:
        name = f"equipoise.ledger.{self._ledger}"
        self._holder.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])

    def release(self) -> None:
        self._holder.execute("SELECT pg_advisory_unlock_all()")

    def outage(self) -> None:
        if not self._broken:
            self._session.execute("ALTER TABLE equipoise.transfers RENAME TO hidden")
        self._broken = True

    def recovery(self) -> None:
        if self._broken:
            self._session.execute("ALTER TABLE equipoise.hidden RENAME TO transfers")
        self._broken = False

    def termination(self) -> None:
        self._session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'equipoise worker' AND datname = current_database()"
        )


def run_schedule(desk: Desk, steps: list[str]) -> None:
    """Take the steps, finish, and look at what became of every message."""
    site = desk.site
    with site.session() as session, site.session() as holder:
        session.execute("DROP FUNCTION IF EXISTS public.curse CASCADE")
        desk.curse("22003")
        schedule = Schedule(desk, session, holder)
        desk.committer.start()
        for step in steps:
            getattr(schedule, step)()
        schedule.recovery()
        desk.close()
    assert not desk.committer.is_alive()
    assert Counter(tag for _, tag in desk.queue.settled) == Counter(schedule.sent)
    buried = {str(id) for (id,) in site.rows("SELECT coalesce(command_id, id) FROM equipoise.dead_letters")}
    decided = {str(id) for (id,) in site.rows("SELECT id FROM equipoise.inbox")}
    assert set(desk.queue.went("acknowledged")) == (decided | buried) & set(schedule.sent)
    assert not desk.queue.paused
    assert site.books_balance()


@pytest.mark.long
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@pytest.mark.timeout(1_800)
def test_whatever_happens_many_times_over(site: Site, steps: list[str]) -> None:
    run_schedule(Desk(site), steps)
