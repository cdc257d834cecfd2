"""Reversals: of any transfer, in parts, never above the original; statuses in order, each row mending a fault."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from psycopg import Connection, errors

from models.commands import (
    CaptureTransfer,
    CloseAccount,
    Command,
    ExchangeTransfer,
    FreezeAccount,
    LimitAccount,
    ReverseTransfer,
    SplitTransfer,
)
from tests.concurrency.threads import at_once, deliver, settlements
from tests.factories import batch, hold, new, new_id, open_books, post
from tests.ledger.looking import one, reserved, statuses
from worker.engine.settle import Settlement
from worker.reading.trace import trace


def reverse(transfer_id: str, amount: int | None = None) -> ReverseTransfer:
    return new(ReverseTransfer, transfer_id=transfer_id, amount=amount)


def test_a_reversal_gets_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [payer, payee, frozen, closed, bank] = open_books(settlement, [10, 0, 9, 9], max_balance=10)
    held, moved = hold(payer, bank, 1), post(payer, payee, 5)
    to_frozen, to_closed = post(frozen, bank, 9), post(closed, bank, 9)
    settlement([held, moved, to_frozen, to_closed, post(payee, bank, 2), post(bank, payer, 5)])
    settlement([new(FreezeAccount, account_id=frozen), new(CloseAccount, account_id=closed)])

    told = statuses(
        settlement,
        reverse(new_id(), 10),
        reverse(held.id, 10),
        reverse(to_frozen.id, 10),
        reverse(to_frozen.id, 9),
        reverse(to_closed.id, 9),
        reverse(moved.id, 6),
        reverse(moved.id),
        reverse(moved.id, 3),
        post(payer, bank, 3),
        reverse(moved.id, 3),
        reverse(moved.id, 3),
    )

    assert told == [
        "transfer_not_found", "transfer_not_found", "exceeds_original", "account_frozen", "account_closed",
        "exceeds_original", "insufficient_funds", "limit_exceeded", "applied", "applied", "exceeds_original",
    ]  # fmt: skip


def test_a_reversal_may_say_when_it_took_effect(settlement: Settlement) -> None:
    _, [payer, payee, _] = open_books(settlement, [10, 0])
    moved = post(payer, payee, 10)
    moment = datetime(2020, 2, 29, 12, tzinfo=UTC)
    refund = new(ReverseTransfer, transfer_id=moved.id, effective_at=moment)

    assert statuses(settlement, moved, refund, refund) == ["applied"] * 3
    with settlement.engine.connect() as connection:
        found = trace(connection, refund.id)
    assert [(it.effective_at, it.reverses) for it in found.transfers] == [(moment, moved.id)]
    assert found.content is not None
    assert found.content["effective_at"] == "2020-02-29T12:00:00.000000Z"


def test_a_reversal_moves_what_is_left_back_under_its_own_id(settlement: Settlement) -> None:
    _, [payer, payee, _] = open_books(settlement, [10, 0])
    moved = post(payer, payee, 10)
    settlement([moved, reverse(moved.id, 3)])
    command = reverse(moved.id)

    outcome = one(settlement, command)

    assert outcome["transfers"] == [{"id": command.id, "source_id": payee, "destination_id": payer, "amount": 7}]
    assert outcome["balances"] == {
        payee: {"balance": 0, "available": 0, "version": 3},
        payer: {"balance": 10, "available": 10, "version": 4},
    }


def test_refunds_in_parts_add_up_to_the_original_at_most(settlement: Settlement) -> None:
    _, [payer, payee, bank] = open_books(settlement, [10, 100])
    moved = post(payer, payee, 10)
    settlement([moved])

    told = statuses(settlement, *(reverse(moved.id, amount) for amount in (4, 4, 3, 2, 1)), reverse(moved.id))

    assert told == ["applied", "applied", "exceeds_original", "applied", "exceeds_original", "exceeds_original"]
    assert reserved(settlement, payer) == (10, 0, 0)
    assert reserved(settlement, bank) == (-110, 0, 0)


def test_a_reversal_can_be_reversed_which_gives_the_original_nothing_back(settlement: Settlement) -> None:
    _, [payer, payee, _] = open_books(settlement, [10, 0])
    moved = post(payer, payee, 10)
    back = reverse(moved.id)

    told = statuses(settlement, moved, back, reverse(back.id), reverse(back.id), reverse(moved.id))

    assert told == ["applied", "applied", "applied", "exceeds_original", "exceeds_original"]
    assert reserved(settlement, payee) == (10, 0, 0)


def test_a_transfer_of_any_command_can_be_reversed(settlement: Settlement) -> None:
    _, [account, closing, bank] = open_books(settlement, [100, 5])
    _, [abroad, abroad_bank] = open_books(settlement, [0])
    held = hold(account, bank, 10)
    parts = [{"account_id": bank, "amount": 4}, {"account_id": closing, "rest": True}]
    exchange = new(
        ExchangeTransfer,
        source_id=account, source_liquidity_id=bank, source_amount=20,
        destination_liquidity_id=abroad_bank, destination_id=abroad, destination_amount=30,
    )  # fmt: skip
    commands: list[Command] = [
        new(CaptureTransfer, hold_id=held.id),
        new(SplitTransfer, source_id=account, destinations=parts, amount=10),
        exchange,
        new(CloseAccount, account_id=closing, remainder_to=bank),
    ]
    ids = [it["id"] for outcome in settlement([held, *commands]) for it in outcome.get("transfers", [])]

    told = statuses(settlement, *(reverse(id) for id in ids))

    # The split's second part and the remainder would go from or to the account that is closed.
    assert told == ["applied", "applied", "account_closed", "applied", "applied", "account_closed"]
    assert reserved(settlement, account) == (94, 0, 0)
    assert reserved(settlement, abroad) == (0, 0, 0)


def test_a_reversal_leaves_what_is_reserved(settlement: Settlement) -> None:
    _, [payer, payee, bank] = open_books(settlement, [10, 0])
    moved = post(payer, payee, 10)
    settlement([moved, hold(payee, bank, 4)])

    assert statuses(settlement, reverse(moved.id, 7), reverse(moved.id, 6)) == ["insufficient_funds", "applied"]


def test_a_reversal_is_within_the_limits_of_now(settlement: Settlement) -> None:
    _, [payer, payee, _] = open_books(settlement, [10, 0])
    moved = post(payer, payee, 10)
    settlement([moved, new(LimitAccount, account_id=payer, min_balance=0, max_balance=5)])

    assert statuses(settlement, reverse(moved.id), reverse(moved.id, 5)) == ["limit_exceeded", "applied"]


def test_a_transfer_of_a_chain_that_failed_cannot_be_reversed(settlement: Settlement) -> None:
    _, [payer, payee, _] = open_books(settlement, [10, 0])
    moved = post(payer, payee, 10)

    [outcome, alone] = settlement([batch([moved, reverse(moved.id, 11)]), reverse(moved.id)])

    assert [it["status"] for it in outcome["outcomes"][0]] == ["chain_failed", "exceeds_original"]
    assert alone["status"] == "transfer_not_found"


@pytest.mark.parametrize("lock", [True, False], ids=["locked", "unlocked"])
@pytest.mark.parametrize(
    ("refund", "applied"), [(lambda id: reverse(id, 10), 10), (reverse, 1)], ids=["in parts", "whole"]
)
def test_refunds_at_once_never_exceed_the_original(
    settlement: Settlement, database_url: str, lock: bool, refund: Callable[[str], Command], applied: int
) -> None:
    _, [payer, payee, _] = open_books(settlement, [100, 1_000])
    moved = post(payer, payee, 100)
    settlement([moved])
    with settlements(database_url, 20, lock=lock) as workers:
        told = at_once(*(lambda worker=worker: deliver(worker, [refund(moved.id)]) for worker in workers))

    assert sorted(outcome["status"] for [outcome] in told) == (
        ["applied"] * applied + ["exceeds_original"] * (20 - applied)
    )
    assert reserved(settlement, payer) == (100, 0, 0)


@pytest.mark.parametrize(("amount", "turned"), [(6, True), (1, False)], ids=["above what is left", "to somebody else"])
def test_the_database_reverses_no_more_than_the_original_and_to_nobody_else(
    settlement: Settlement, worker: Connection, amount: int, turned: bool
) -> None:
    _, [payer, payee, bank] = open_books(settlement, [10, 10])
    moved = post(payer, payee, 10)
    settlement([moved, reverse(moved.id, 5)])
    # Everything else about the rows is as it should be: the statement makes no money and moves it as the transfer says.
    sides = {"source": payee, "destination": payer if turned else bank, "amount": amount, "original": moved.id}

    with pytest.raises(errors.IntegrityConstraintViolation, match="reversed beyond its amount, or to somebody else"):
        worker.execute(
            """
            INSERT INTO equipoise.transfers (
                ledger, sequence, id, source_id, destination_id, amount, source_version, destination_version,
                source_balance, destination_balance, created_at, reverses, seal
            )
            SELECT ledger, 1000, gen_random_uuid(), %(source)s, %(destination)s, %(amount)s, 1000, 1000, 0, 0, now(),
                   %(original)s, 0
            FROM equipoise.accounts WHERE id = %(source)s
            """,
            sides,
        )
