"""Counters that are nearly full: what would pass 2^63 - 1 is refused with `overflow`, to the unit, and moves nothing.

Money enough to fill a counter takes nine thousand transfers; the tests have it come and go in one statement (`wear`).
"""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from models.commands import (
    CaptureTransfer,
    CloseAccount,
    Command,
    ExchangeTransfer,
    ExtendHold,
    ReverseTransfer,
    SplitTransfer,
    VoidTransfer,
)
from models.contract import MAX_COUNTER
from tests.factories import Settle, hold, new, open_books, post, wear
from tests.ledger.looking import contents, left_by_hold, reserved, statuses
from worker.engine.settle import Settlement

ROOM = 5
MOVED = ("accounts", "holds", "transfers")
Make = Callable[[Settle, str, str, int], Command]
"""Makes a command that moves so much from an account to another, or reserves it; settles what must be there before."""


def posting(settle: Settle, source: str, destination: str, amount: int) -> Command:
    return post(source, destination, amount)


def holding(settle: Settle, source: str, destination: str, amount: int) -> Command:
    return hold(source, destination, amount)


def extending(settle: Settle, source: str, destination: str, amount: int) -> Command:
    held = hold(source, destination, 1)
    settle([held])
    return new(ExtendHold, hold_id=held.id, amount=1 + amount)


def splitting(settle: Settle, source: str, destination: str, amount: int) -> Command:
    parts = [{"account_id": destination, "amount": 1}, {"account_id": destination, "rest": True}]
    return new(SplitTransfer, source_id=source, destinations=parts, amount=amount)


def collecting(settle: Settle, source: str, destination: str, amount: int) -> Command:
    parts = [{"account_id": source, "share": "1/2"}, {"account_id": source, "rest": True}]
    return new(SplitTransfer, sources=parts, destination_id=destination, amount=amount)


def paying_an_exchange(settle: Settle, source: str, destination: str, amount: int) -> Command:
    _, [abroad, abroad_bank] = open_books(settle, [0])
    return new(
        ExchangeTransfer,
        source_id=source, source_liquidity_id=destination, source_amount=amount,
        destination_liquidity_id=abroad_bank, destination_id=abroad, destination_amount=1,
    )  # fmt: skip


def paid_by_an_exchange(settle: Settle, source: str, destination: str, amount: int) -> Command:
    _, [abroad, abroad_bank] = open_books(settle, [1])
    return new(
        ExchangeTransfer,
        source_id=abroad, source_liquidity_id=abroad_bank, source_amount=1,
        destination_liquidity_id=source, destination_id=destination, destination_amount=amount,
    )  # fmt: skip


def reversing(settle: Settle, source: str, destination: str, amount: int) -> Command:
    original = post(destination, source, amount)
    settle([post(source, destination, amount), original])
    return new(ReverseTransfer, transfer_id=original.id)


MAKES = [posting, holding, extending, splitting, collecting, paying_an_exchange, paid_by_an_exchange, reversing]


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("make", MAKES, ids=lambda make: make.__name__)
def test_what_would_pass_a_counter_is_refused_to_the_unit(settlement: Settlement, make: Make, side: str) -> None:
    _, [source, destination, _] = open_books(settlement, [0, 0], min_balance=None)
    over, fits = (make(settlement, source, destination, amount) for amount in (ROOM + 1, ROOM))
    wear(settlement, ROOM, source if side == "source" else destination)
    before = contents(settlement)

    told = statuses(settlement, over)
    after = contents(settlement)

    assert told == ["overflow"]
    assert [after[table] for table in MOVED] == [before[table] for table in MOVED]
    assert statuses(settlement, fits) == ["applied"]


@pytest.mark.parametrize("owes", [False, True], ids=["what is left", "what is owed"])
def test_closing_moves_no_more_than_the_other_can_count(settlement: Settlement, owes: bool) -> None:
    _, [over, fits, other, bank] = open_books(settlement, [0, 0, 0], min_balance=None)
    for account, amount in ((over, ROOM + 1), (fits, ROOM)):
        settlement([post(account, bank, amount) if owes else post(bank, account, amount)])
    wear(settlement, ROOM, other)

    told = statuses(settlement, *(new(CloseAccount, account_id=id, remainder_to=other) for id in (over, fits)))

    assert told == ["overflow", "applied"]
    assert reserved(settlement, over) == (-6 if owes else 6, 0, 0)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_what_is_reserved_is_counted_and_a_capture_always_fits(settlement: Settlement, side: str) -> None:
    _, [source, destination, _] = open_books(settlement, [0, 0], min_balance=None)
    wear(settlement, ROOM, source if side == "source" else destination)
    held, other = hold(source, destination, 3), hold(source, destination, 1)
    settlement([held, other])

    told = statuses(
        settlement,
        post(source, destination, 2),
        post(source, destination, 1),
        new(CaptureTransfer, hold_id=held.id),
        new(VoidTransfer, hold_id=other.id),
        hold(source, destination, 2),
        post(source, destination, 1),
        post(source, destination, 1),
    )

    assert told == ["overflow", "applied", "applied", "applied", "overflow", "applied", "overflow"]
    assert fullest(settlement) == MAX_COUNTER


def test_all_that_a_hold_ever_reserved_is_counted_too(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [1_000])
    held = hold(account, bank, 10)
    settlement([held])
    with settlement.engine.begin() as connection:
        # As if it had been reduced and extended again, nine thousand times.
        connection.execute(
            text("UPDATE equipoise.holds SET amount = :most - :room"), {"most": MAX_COUNTER, "room": ROOM}
        )

    told = statuses(settlement, *(new(ExtendHold, hold_id=held.id, amount=10 + more) for more in (ROOM + 1, ROOM)))

    assert told == ["overflow", "applied"]
    assert left_by_hold(settlement, held.id) == ("pending", MAX_COUNTER, 0, 15)


def fullest(settle: Settlement) -> int:
    """Give the fullest counter of all accounts."""
    with settle.engine.connect() as connection:
        found = connection.execute(
            text("SELECT greatest(max(debits_posted), max(credits_posted)) FROM equipoise.accounts")
        )
        return int(found.scalar_one())
