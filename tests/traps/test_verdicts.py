"""Traps inside the database: what is decided when many come at once, twice, late, or after something was refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Barrier, Event
from typing import Any

import pytest
from sqlalchemy import Connection, text

from models.commands import CaptureTransfer, Command, ExtendHold, VoidTransfer
from models.outcomes import Outcome, encode
from tests.concurrency.threads import WAIT_S, at_once, deliver, settlements
from tests.factories import batch, hold, new, open_books, post
from tests.ledger.looking import one, reserved, statuses
from worker.engine.settle import Settlement
from worker.postgres.engines import server_clock
from worker.postgres.failures import CONFLICTS

LOCKS = pytest.mark.parametrize("lock", [True, False], ids=["locked", "unlocked"])
LONG_AGO = datetime(2100, 1, 1, tzinfo=UTC)


def test_one_key_may_come_twice_in_one_batch(settlement: Settlement) -> None:
    """Others looked all keys up first, found none of them, and failed at the second insert."""
    _, [account, bank] = open_books(settlement, [10])
    command, refused = post(account, bank, 7), post(account, bank, 70)
    other = command.model_copy(update={"amount": 2})

    alone = settlement([command, refused, command, refused, other])
    [batched] = settlement([batch(other, command, again := post(account, bank, 1), again, [again], refused)])

    assert [it["status"] for it in alone] == [*["applied", "insufficient_funds"] * 2, "id_reused"]
    assert alone[:2] == alone[2:4]
    told = batched["outcomes"]
    assert (told[0], told[1], told[5]) == (alone[4], alone[0], alone[1])
    assert told[2] == told[3] == told[4][0]
    assert reserved(settlement, account) == (2, 0, 0)


@pytest.mark.parametrize(
    ("amount", "expected"), [(50, ["applied", "applied"]), (51, ["applied", "insufficient_funds"])]
)
def test_a_conflict_is_never_told_as_insufficient_funds(
    settlement: Settlement, database_url: str, amount: int, expected: list[str]
) -> None:
    """Others answered a serialization failure with the refusal that was likeliest, though the money was there."""
    _, [account, bank] = open_books(settlement, [100])
    with settlements(database_url, 2, lock=False, clock=_meeting()) as workers:
        told = at_once(*(lambda worker=worker: worker([post(account, bank, amount)]) for worker in workers))

        [conflict] = [state for worker in workers for state in worker.retries.elements()]
        assert conflict in CONFLICTS
    assert sorted(outcome["status"] for [outcome] in told) == expected


@LOCKS
def test_of_50_withdrawals_of_the_whole_balance_one_wins(settlement: Settlement, database_url: str, lock: bool) -> None:
    """Others checked the balance, and then wrote, with nothing that kept a second from checking in between."""
    _, [account, bank] = open_books(settlement, [100])
    with settlements(database_url, 50, lock=lock) as workers:
        told = at_once(*(lambda worker=worker: deliver(worker, [post(account, bank, 100)]) for worker in workers))

    assert sorted(outcome["status"] for [outcome] in told) == ["applied"] + ["insufficient_funds"] * 49
    assert reserved(settlement, account) == (0, 0, 0)


def test_what_was_never_reserved_cannot_be_captured(settlement: Settlement) -> None:
    """Others kept a rejected hold beside the others, and captured it."""
    _, [account, bank] = open_books(settlement, [10])
    refused, in_failed_chain, tried = (hold(account, bank, amount) for amount in (11, 5, 5))
    tried = tried.model_copy(update={"dry_run": True})
    settlement([refused, batch([in_failed_chain, post(account, bank, 11)]), tried])
    ends: list[Callable[[str], Command]] = [
        lambda id: new(CaptureTransfer, hold_id=id),
        lambda id: new(CaptureTransfer, hold_id=id, amount=1, final=False),
        lambda id: new(ExtendHold, hold_id=id, amount=1),
        lambda id: new(VoidTransfer, hold_id=id),
    ]

    told = statuses(settlement, *(end(held.id) for held in (refused, in_failed_chain, tried) for end in ends))
    [chained] = settlement([batch([held := hold(account, bank, 11), new(CaptureTransfer, hold_id=held.id)])])

    assert told == ["hold_not_found"] * 12
    assert [it["status"] for it in chained["outcomes"][0]] == ["insufficient_funds", "chain_failed"]
    assert reserved(settlement, account) == (10, 0, 0)
    assert reserved(settlement, bank) == (-10, 0, 0)


def test_nobody_ever_sees_half_a_chain(settlement: Settlement) -> None:
    """Others moved the first half, and when the second failed moved it back: who looked in between saw it."""
    _, [here, there, poor, bank] = open_books(settlement, [1_000, 0, 0])
    whole = [batch([post(here, there, 1), post(bank, here, 1)]) for _ in range(40)]
    failing = [batch([post(here, there, 1), post(there, bank, 1), post(poor, bank, 1)]) for _ in range(40)]
    done = Event()

    def write() -> list[Outcome]:
        try:
            return [one(settlement, chain) for pair in zip(whole, failing, strict=True) for chain in pair]
        finally:
            done.set()

    def look() -> set[tuple[int, int, int]]:
        seen = set()
        with settlement.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not done.is_set():
                seen.add(_seen(connection, here, there))
        return seen

    told, seen = at_once(write, look)  # type: ignore[arg-type]

    assert len(seen) > 2
    assert seen <= {(1_000, moved, 1 + 2 * moved) for moved in range(41)}
    statuses_of_failing: list[Any] = [[it["status"] for it in outcome["outcomes"][0]] for outcome in told[1::2]]
    assert statuses_of_failing == [["chain_failed", "chain_failed", "insufficient_funds"]] * 40


def test_an_id_is_the_same_command_for_ever(settlement: Settlement) -> None:
    """Others forgot a key after minutes, and then took its command for another one."""
    _, [account, bank] = open_books(settlement, [100])
    held = hold(account, bank, 5, expires_in_s=60)
    members = post(account, bank, 1), post(account, bank, 1_000)
    commands = [post(account, bank, 10), post(account, bank, 1_000), held, batch(*members, [members[0]])]
    then = Settlement(settlement.engine, clock=lambda _: LONG_AGO)
    first = [encode(outcome) for outcome in then(commands)]

    later = Settlement(settlement.engine, clock=lambda _: LONG_AGO + timedelta(days=400))
    # There is money now for what was refused, and the hold is no more.
    assert statuses(later, post(bank, account, 5_000)) == ["applied"]
    again = [encode(outcome) for outcome in later(commands)]

    assert again == first
    assert [encode(one(later, command)) for command in commands] == first
    assert reserved(settlement, account) == (5_089, 0, 0)


def _meeting() -> Callable[[Connection], datetime]:
    """Make a clock at which two workers meet, when both have read the books and neither has written."""
    barrier, met = Barrier(2), list[int]()

    def clock(connection: Connection) -> datetime:
        if len(met) < 2:
            met.append(barrier.wait(WAIT_S))
        return server_clock(connection)

    return clock


def _seen(connection: Connection, here: str, there: str) -> tuple[int, int, int]:
    """Give both balances, and the entries of the first, as one statement sees them."""
    statement = text("""
        SELECT min(balance) FILTER (WHERE id = :here), min(balance) FILTER (WHERE id = :there),
               min(version) FILTER (WHERE id = :here)
        FROM (SELECT *, credits_posted - debits_posted AS balance FROM equipoise.accounts) AS account
    """)
    row = connection.execute(statement, {"here": here, "there": there}).one()
    return row[0], row[1], row[2]
