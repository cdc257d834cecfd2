"""An account's open holds are what its pending counters are made of, in one state of the books."""

from sqlalchemy import Engine

from models.commands import CaptureTransfer, VoidTransfer
from tests.factories import hold, new, open_books, post
from tests.reading.conftest import Tamper
from worker.engine.settle import Settlement
from worker.reading import accounts, open_holds


def test_open_holds_add_up_to_the_pending_counters_of_the_same_snapshot(settlement: Settlement, engine: Engine) -> None:
    _, (anna, ben, bank) = open_books(settlement, [100, 100])
    there, back, taken = hold(anna, ben, 30, expires_in_s=60), hold(ben, anna, 8), hold(anna, bank, 20)
    for group in ([there], [back], [taken, gone := hold(anna, ben, 1)]):
        settlement(group)
    settlement([new(CaptureTransfer, hold_id=taken.id, amount=15, final=False), new(VoidTransfer, hold_id=gone.id)])

    with engine.connect() as connection:
        account = accounts.find(connection, [anna])[anna]
        settlement([hold(anna, ben, 5), post(anna, ben, 1)])  # in the midst of the reader's transaction
        held = open_holds.find(connection, [anna])[anna]

    assert [(it.id, it.side, it.other_id, it.amount, it.remaining, it.captured) for it in held.holds] == [
        (there.id, "debit", ben, 30, 30, 0),
        (back.id, "credit", ben, 8, 8, 0),
        (taken.id, "debit", bank, 20, 5, 15),
    ]
    assert not held.more
    sides = {side: sum(it.remaining for it in held.holds if it.side == side) for side in ("debit", "credit")}
    assert sides == {"debit": account.debits_pending, "credit": account.credits_pending}


def test_a_hold_past_its_deadline_that_nobody_touched_is_pending_and_overdue(
    settlement: Settlement, engine: Engine, tamper: Tamper
) -> None:
    _, (account, bank) = open_books(settlement, [100])
    settlement([hold(account, bank, 30, expires_in_s=60), hold(account, bank, 1, expires_in_s=3_600)])

    tamper("UPDATE equipoise.holds SET expires_at = created_at WHERE amount = 30")

    with engine.connect() as connection:
        held = open_holds.find(connection, [account])[account]
    assert [(it.remaining, it.overdue) for it in held.holds] == [(30, True), (1, False)]


def test_of_too_many_holds_the_nearest_deadlines_are_told_and_that_there_are_more(
    settlement: Settlement, engine: Engine
) -> None:
    _, (account, other, bank) = open_books(settlement, [100, 100])
    settlement([hold(*sides, 1, expires_in_s=s) for s in (4, 2, 3, 1) for sides in ((account, bank), (other, account))])

    with engine.connect() as connection:
        all_, four, two = (open_holds.find(connection, [account, other, bank], most=most) for most in (8, 4, 2))

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
