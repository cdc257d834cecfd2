"""An account's open holds are what its pending counters are made of, in one state of the books."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from models.commands import CaptureTransfer, VoidTransfer
from tests.factories import hold, new, open_books, post
from worker.engine.settle import Settlement
from worker.postgres.engines import server_clock
from worker.reading import accounts, open_holds


def test_open_holds_add_up_to_the_pending_counters_of_the_same_snapshot(settlement: Settlement, engine: Engine) -> None:
    _, (anna, ben, bank) = open_books(settlement, [100, 100])
    there, back, taken = hold(anna, ben, 30, expires_in_s=60), hold(ben, anna, 8), hold(anna, bank, 20)
    for group in ([there], [back], [taken, gone := hold(anna, ben, 1)]):
        settlement(group)
    settlement([new(CaptureTransfer, hold_id=taken.id, amount=15, final=False), new(VoidTransfer, hold_id=gone.id)])

    with engine.connect() as connection:
        now = server_clock(connection)
        account = accounts.find(connection, [anna], now)[anna]
        settlement([hold(anna, ben, 5), post(anna, ben, 1)])  # in the midst of the reader's transaction
        held = open_holds.find(connection, [anna], now)[anna]

    assert [(it.id, it.side, it.other_id, it.amount, it.remaining, it.captured) for it in held.holds] == [
        (there.id, "debit", ben, 30, 30, 0),
        (back.id, "credit", ben, 8, 8, 0),
        (taken.id, "debit", bank, 20, 5, 15),
    ]
    assert not held.more
    sides = {side: sum(it.remaining for it in held.holds if it.side == side) for side in ("debit", "credit")}
    assert sides == {"debit": account.debits_pending, "credit": account.credits_pending}


@pytest.mark.parametrize("late", [timedelta(microseconds=-1), timedelta(), timedelta(days=9)])
def test_a_hold_at_its_deadline_is_told_as_whoever_touches_its_accounts_then_leaves_it(
    late: timedelta, settlement: Settlement, engine: Engine
) -> None:
    _, (payer, payee, bank) = open_books(settlement, [100, 100])
    settlement([ending := hold(payer, payee, 30, expires_in_s=60), hold(payee, payer, 1), hold(payer, bank, 2)])
    with engine.connect() as connection:
        deadline = open_holds.find(connection, [payer], server_clock(connection))[payer].holds[0].expires_at
    assert deadline is not None
    then = deadline + late

    with engine.connect() as connection:
        told = accounts.find(connection, [payer, payee], then)
        held = open_holds.find(connection, [payer, payee], then)
    Settlement(settlement.engine, clock=lambda _: then)([hold(payer, payee, 1_000), hold(payee, payer, 1_000)])
    with engine.connect() as connection:
        touched = accounts.find(connection, [payer, payee], then)

    assert told == touched
    assert told[payer].available == (68 if late < timedelta() else 98)
    for id, account in told.items():
        sides = [sum(it.remaining for it in held[id].holds if it.side == side) for side in ("debit", "credit")]
        assert sides == [account.debits_pending, account.credits_pending]
        assert (ending.id in {it.id for it in held[id].holds}) == (late < timedelta())


def test_a_ledgers_time_counts_where_it_is_ahead_of_the_clock(settlement: Settlement, engine: Engine) -> None:
    _, (payer, payee, bank) = open_books(settlement, [100, 100])
    settlement([hold(payer, payee, 30, expires_in_s=60)])
    years_on = datetime(2100, 1, 1, tzinfo=UTC)
    Settlement(settlement.engine, clock=lambda _: years_on)([post(bank, payee, 1)])

    with engine.connect() as connection:
        assert accounts.find(connection, [payer])[payer].debits_pending == 0


def test_of_too_many_holds_the_nearest_deadlines_are_told_and_that_there_are_more(
    settlement: Settlement, engine: Engine
) -> None:
    _, (account, other, bank) = open_books(settlement, [100, 100])
    settlement(
        [
            hold(*sides, 1, expires_in_s=s)
            for s in (4_000, 2_000, 3_000, 1_000)
            for sides in ((account, bank), (other, account))
        ]
    )

    with engine.connect() as connection:
        now = server_clock(connection)
        all_, four, two = (open_holds.find(connection, [account, other, bank], now, most) for most in (8, 4, 2))

    assert [(len(it[account].holds), it[account].more) for it in (all_, four, two)] == [
        (8, False),
        (4, True),
        (2, True),
    ]
    assert [(len(it[other].holds), it[other].more) for it in (all_, four, two)] == [(4, False), (4, False), (2, True)]
    for id in (account, other, bank):
        assert two[id].holds == all_[id].holds[:2]
        assert [hold.expires_at for hold in all_[id].holds] == sorted(hold.expires_at for hold in all_[id].holds)
    assert two[account].as_json()["more_holds"] is True
    assert list(all_[account].as_json()) == ["holds"]
