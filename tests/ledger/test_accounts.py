"""Limits, freezing and closing: statuses in order, each row mending a fault of the one before, and what is left."""

import pytest
from psycopg import Connection, errors
from sqlalchemy import text

from models.commands import (
    CaptureTransfer,
    CloseAccount,
    ExtendHold,
    FreezeAccount,
    LimitAccount,
    UnfreezeAccount,
    VoidTransfer,
)
from tests.factories import hold, new, new_id, open_books, post
from tests.ledger.looking import one, reserved, statuses
from worker.engine.settle import Settlement


def limit(account_id: str, min_balance: int | None, max_balance: int | None) -> LimitAccount:
    return new(LimitAccount, account_id=account_id, min_balance=min_balance, max_balance=max_balance)


def close(account_id: str, remainder_to: str | None = None) -> CloseAccount:
    return new(CloseAccount, account_id=account_id, remainder_to=remainder_to)


def test_limits_get_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [account, closed, bank] = open_books(settlement, [100, 0])
    settlement([hold(account, bank, 30), hold(bank, account, 20), close(closed)])

    told = statuses(
        settlement,
        limit(new_id(), 5, 4),
        limit(new_id(), 71, 119),
        limit(closed, 71, 119),
        limit(account, 71, 119),
        limit(account, 70, 119),
        limit(account, 70, 120),
    )

    assert told == [
        "invalid", "account_not_found", "account_closed", "insufficient_funds", "limit_exceeded", "applied",
    ]  # fmt: skip


def test_new_limits_hold_for_what_comes_next(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [100])

    told = statuses(
        settlement,
        limit(account, 90, 110),
        post(account, bank, 11),
        post(bank, account, 11),
        hold(account, bank, 11),
        hold(bank, account, 11),
        limit(account, None, None),
        post(account, bank, 111),
        post(bank, account, 111),
    )

    assert told == ["applied", *["insufficient_funds", "limit_exceeded"] * 2, "applied", "applied", "applied"]


def test_a_frozen_account_has_other_limits_too(settlement: Settlement) -> None:
    _, [account, _] = open_books(settlement, [100])

    assert statuses(settlement, new(FreezeAccount, account_id=account), limit(account, 0, 100)) == ["applied"] * 2


@pytest.mark.parametrize("model", [FreezeAccount, UnfreezeAccount])
def test_freezing_and_unfreezing_get_the_first_status_that_holds(
    settlement: Settlement, model: type[FreezeAccount | UnfreezeAccount]
) -> None:
    _, [account, closed, _] = open_books(settlement, [100, 0])
    settlement([close(closed)])

    told = statuses(settlement, *(new(model, account_id=id) for id in (new_id(), closed, account, account)))

    assert told == ["account_not_found", "account_closed", "applied", "applied"]


def test_a_frozen_account_takes_nothing_but_voids(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [100])
    going, coming = hold(account, bank, 10), hold(bank, account, 10)
    settlement([going, coming, new(FreezeAccount, account_id=account)])

    refused = statuses(
        settlement,
        post(account, bank, 1),
        post(bank, account, 1),
        hold(account, bank, 1),
        hold(bank, account, 1),
        new(CaptureTransfer, hold_id=going.id),
        new(CaptureTransfer, hold_id=coming.id),
        new(ExtendHold, hold_id=going.id, expires_in_s=5),
        new(ExtendHold, hold_id=coming.id, amount=1),
    )
    voided = statuses(settlement, *(new(VoidTransfer, hold_id=it.id) for it in (going, coming)))

    assert refused == ["account_frozen"] * 8
    assert voided == ["applied"] * 2
    assert reserved(settlement, account) == (100, 0, 0)


def test_an_unfrozen_account_takes_all_again(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [100])
    settlement([new(FreezeAccount, account_id=account)])

    told = statuses(settlement, new(UnfreezeAccount, account_id=account), post(account, bank, 1))

    assert told == ["applied", "applied"]


def test_what_was_before_is_kept(settlement: Settlement) -> None:
    _, [account, _] = open_books(settlement, [0])
    commands = limit(account, -5, 50), new(FreezeAccount, account_id=account), new(FreezeAccount, account_id=account)

    settlement(commands)

    with settlement.engine.connect() as connection:
        rows = connection.execute(text("SELECT command_id::text, table_name, row_id::text FROM equipoise.changes"))
        kept = {row[0]: (row[1], row[2]) for row in rows}
    # Freezing what is frozen changes nothing.
    assert kept == {command.id: ("accounts", account) for command in commands[:2]}


def test_closing_gets_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [frozen, closed, pending, full, floored, small, taker, bank] = open_books(settlement, [5, 0, 5, 5, 5, 0, 0])
    _, [abroad, _] = open_books(settlement, [0])
    nobody = new_id()
    settlement([
        close(closed), hold(pending, bank, 1), new(FreezeAccount, account_id=frozen),
        limit(floored, 1, None), limit(small, 0, 4),
    ])  # fmt: skip

    told = statuses(
        settlement,
        close(nobody, nobody),
        close(nobody, new_id()),
        close(frozen, nobody),
        close(frozen, abroad),
        close(frozen, closed),
        close(full, closed),
        close(closed),
        close(pending),
        close(full),
        close(floored, small),
        close(full, small),
        close(full, taker),
    )

    assert told == [
        "accounts_must_differ", "account_not_found", "destination_not_found", "ledgers_must_match", "account_frozen",
        "account_closed", "account_closed", "pending_not_zero", "balance_not_zero", "insufficient_funds",
        "limit_exceeded", "applied",
    ]  # fmt: skip


def test_a_frozen_taker_is_told_before_what_is_pending(settlement: Settlement) -> None:
    _, [pending, frozen, bank] = open_books(settlement, [5, 0])
    settlement([hold(pending, bank, 1), new(FreezeAccount, account_id=frozen)])

    assert statuses(settlement, close(pending, frozen)) == ["account_frozen"]


@pytest.mark.parametrize("incoming", [True, False], ids=["incoming", "outgoing"])
def test_an_account_with_anything_pending_is_not_closed(settlement: Settlement, incoming: bool) -> None:
    _, [account, taker, bank] = open_books(settlement, [5, 0])
    held = hold(bank, account, 2) if incoming else hold(account, bank, 2)
    settlement([held])

    told = statuses(
        settlement, close(account, taker), new(VoidTransfer, hold_id=held.id), close(account, taker), close(account)
    )

    assert told == ["pending_not_zero", "applied", "applied", "account_closed"]


def test_closing_a_positive_balance_moves_it(settlement: Settlement) -> None:
    _, [account, taker, _] = open_books(settlement, [7, 1])
    command = close(account, taker)

    outcome = one(settlement, command)

    assert outcome["amount"] == 7
    assert outcome["transfers"] == [
        {"id": command.id, "source_id": account, "destination_id": taker, "amount": 7},
    ]
    assert outcome["balances"] == {
        account: {"balance": 0, "available": 0, "version": 2},
        taker: {"balance": 8, "available": 8, "version": 2},
    }


def test_closing_a_negative_balance_lets_the_other_pay(settlement: Settlement) -> None:
    _, [account, taker, bank] = open_books(settlement, [0, 10], min_balance=-8)
    settlement([post(account, bank, 7)])
    command = close(account, taker)

    outcome = one(settlement, command)

    assert outcome["transfers"] == [{"id": command.id, "source_id": taker, "destination_id": account, "amount": 7}]
    assert reserved(settlement, account) == (0, 0, 0)
    assert reserved(settlement, taker) == (3, 0, 0)


def test_a_debt_is_paid_within_the_limits_of_who_pays(settlement: Settlement) -> None:
    _, [account, taker, bank] = open_books(settlement, [0, 0], min_balance=-8)
    settlement([post(account, bank, 8)])

    told = statuses(settlement, limit(taker, -7, None), close(account, taker), limit(taker, -8, None))

    assert told == ["applied", "insufficient_funds", "applied"]
    assert statuses(settlement, close(account, taker)) == ["applied"]


@pytest.mark.parametrize("named", [True, False], ids=["with a taker", "without"])
def test_closing_a_balance_of_zero_moves_nothing(settlement: Settlement, named: bool) -> None:
    _, [account, taker, _] = open_books(settlement, [0, 0])

    outcome = one(settlement, close(account, taker if named else None))

    assert {"sequence", "amount", "transfers"} & set(outcome) == set()
    assert outcome["balances"] == {account: {"balance": 0, "available": 0, "version": 0}}


def test_a_closed_account_takes_nothing_for_ever(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])
    settlement([close(account, bank)])

    told = statuses(
        settlement,
        post(bank, account, 1),
        post(account, bank, 1),
        hold(bank, account, 1),
        limit(account, None, None),
        new(FreezeAccount, account_id=account),
        new(UnfreezeAccount, account_id=account),
        close(account),
        close(account, bank),
    )

    assert told == ["account_closed"] * 8


def test_the_database_closes_no_account_that_has_money(settlement: Settlement, worker: Connection) -> None:
    _, [full, holding, bank] = open_books(settlement, [5, 0], min_balance=-5)
    settlement([hold(holding, bank, 5)])

    for account in (full, holding):
        with pytest.raises(errors.CheckViolation, match="empty_when_closed"):
            worker.execute("UPDATE equipoise.accounts SET state = 'closed' WHERE id = %s", [account])


def test_the_database_gives_no_money_to_a_closed_account(settlement: Settlement, worker: Connection) -> None:
    _, [account, bank] = open_books(settlement, [5])
    settlement([close(account, bank)])

    with pytest.raises(errors.CheckViolation, match="empty_when_closed"):
        worker.execute(
            """
            UPDATE equipoise.accounts SET
                debits_posted = debits_posted + CASE id WHEN %(bank)s THEN 1 ELSE 0 END,
                credits_posted = credits_posted + CASE id WHEN %(account)s THEN 1 ELSE 0 END
            WHERE id IN (%(bank)s, %(account)s)
            """,
            {"bank": bank, "account": account},
        )


def test_the_database_opens_no_closed_account_again(settlement: Settlement, worker: Connection) -> None:
    _, [account, _] = open_books(settlement, [0])
    settlement([close(account)])

    with pytest.raises(errors.IntegrityError):
        worker.execute("UPDATE equipoise.accounts SET state = 'open' WHERE id = %s", [account])


def test_a_remainder_is_moved_by_one_transfer_or_not_at_all(settlement: Settlement) -> None:
    _, [rich, poor, just, bank] = open_books(settlement, [10**15, 0, 10**15], min_balance=None)
    settlement([post(bank, rich, 1), post(poor, bank, 10**15), post(poor, bank, 1)])

    told = statuses(settlement, close(rich, bank), close(poor, bank), close(just, bank))

    assert told == ["overflow", "overflow", "applied"]
    assert statuses(settlement, post(rich, bank, 1), close(rich, bank)) == ["applied", "applied"]
