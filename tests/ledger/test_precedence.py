"""Every command type down the ladder of its statuses: each row mends one fault of the row before, so the next shows.

Two statuses that stand beside each other in the list of a type meet in one row wherever one command can have both
faults. The first rows, of a body that is no command and of an id that is used up, are the same for all.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.commands import (
    CaptureTransfer,
    CloseAccount,
    Command,
    ExchangeTransfer,
    ExtendHold,
    FreezeAccount,
    HoldTransfer,
    LimitAccount,
    OpenAccount,
    OpenLedger,
    PostTransfer,
    ReverseTransfer,
    SplitTransfer,
    UnfreezeAccount,
    VoidTransfer,
)
from models.rules.refusals import REFUSALS
from tests.factories import as_json, batch_of, hold, new, new_id, open_books, post, wear
from tests.ledger.looking import one, statuses
from worker.engine.settle import Settlement

NOON = datetime(2100, 1, 1, 12, tzinfo=UTC)
ROOM = 5
"""What is left in the counters of an account that is worn."""


def climb(settle: Settlement, *commands: Command) -> None:
    """Settle a type's ladder, one command for each of its refusals and one that is applied."""
    model, first = type(commands[0]), commands[0]
    used = new(OpenLedger, ledger=f"test-{new_id()}", currency="EUR", scale=2)
    beginning = [used, batch_of([as_json(first) | {"id": used.id, "colour": "red"}])]
    opened, batch = settle(beginning)

    told = statuses(settle, first.model_copy(update={"id": used.id}), *commands)

    assert (opened["status"], batch["outcomes"][0]["status"]) == ("applied", "malformed")
    assert told == ["id_reused", *REFUSALS[model], "applied"]


def frozen(settle: Settlement, *accounts: str) -> None:
    settle([new(FreezeAccount, account_id=id) for id in accounts])


def closed(settle: Settlement, *accounts: str) -> None:
    settle([new(CloseAccount, account_id=id) for id in accounts])


def limited(settle: Settlement, account_id: str, least: int | None, most: int | None) -> None:
    assert (
        one(settle, new(LimitAccount, account_id=account_id, min_balance=least, max_balance=most))["status"]
        == "applied"
    )


def test_opening_a_ledger(settlement: Settlement) -> None:
    ledger, _ = open_books(settlement, [])

    climb(settlement, *(new(OpenLedger, ledger=it, currency="EUR", scale=2) for it in (ledger, f"{ledger}-other")))


def test_opening_an_account(settlement: Settlement) -> None:
    ledger, [account, _] = open_books(settlement, [0])

    climb(
        settlement,
        new(OpenAccount, account_id=account, ledger="nowhere", min_balance=1),
        new(OpenAccount, account_id=account, ledger="nowhere"),
        new(OpenAccount, account_id=account, ledger=ledger),
        new(OpenAccount, account_id=new_id(), ledger=ledger),
    )


def test_limits(settlement: Settlement) -> None:
    _, [account, gone, bank] = open_books(settlement, [100, 0])
    settlement([hold(account, bank, 30), hold(bank, account, 20)])
    closed(settlement, gone)

    climb(
        settlement,
        *(
            new(LimitAccount, account_id=id, min_balance=least, max_balance=most)
            for id, least, most in (
                (new_id(), 72, 71),
                (new_id(), 71, 119),
                (gone, 71, 119),
                (account, 71, 119),
                (account, 70, 119),
                (account, 70, 120),
            )
        ),
    )


@pytest.mark.parametrize("model", [FreezeAccount, UnfreezeAccount])
def test_freezing_and_unfreezing(settlement: Settlement, model: type[FreezeAccount | UnfreezeAccount]) -> None:
    _, [account, gone, _] = open_books(settlement, [0, 0])
    closed(settlement, gone)

    climb(settlement, *(new(model, account_id=id) for id in (new_id(), gone, account)))


def test_closing(settlement: Settlement) -> None:
    _, [cold, gone, pending, floored, small, full, worn, bank] = open_books(settlement, [6, 0, 6, 6, 3, 0, 0])
    _, [abroad, _] = open_books(settlement, [0])
    nobody = new_id()
    settlement([hold(pending, bank, 1)])
    frozen(settlement, cold)
    closed(settlement, gone)
    limited(settlement, floored, 1, None)
    limited(settlement, full, 0, 2)
    limited(settlement, worn, 0, 2)
    wear(settlement, ROOM, worn)

    climb(
        settlement,
        *(
            new(CloseAccount, account_id=account, remainder_to=other)
            for account, other in (
                (nobody, nobody),
                (nobody, new_id()),
                (cold, nobody),
                (cold, abroad),
                (cold, gone),
                (pending, gone),
                (pending, None),
                (floored, None),
                (floored, worn),
                (floored, full),
                (small, full),
                (small, bank),
            )
        ),
    )


@pytest.mark.parametrize("model", [PostTransfer, HoldTransfer])
def test_posting_and_holding(settlement: Settlement, model: type[PostTransfer | HoldTransfer]) -> None:
    _, [cold, gone, poor, full, bank] = open_books(settlement, [9, 0, 3, 0])
    _, [abroad, _] = open_books(settlement, [0])
    nobody = new_id()
    frozen(settlement, cold)
    closed(settlement, gone)
    limited(settlement, full, 0, 2)
    wear(settlement, ROOM, poor, full)

    late: dict[str, Any] = {}
    first: list[Command] = []
    if model is HoldTransfer:
        late = {"expires_at": "2020-01-01T00:00:00Z"}
        first = [hold(nobody, nobody, 9, expires_in_s=1, **late)]
    nowhere = [(nobody, nobody), (nobody, new_id()), (cold, nobody), (cold, abroad)]
    if model is HoldTransfer:
        nowhere.append((cold, gone))
    refused = [(cold, gone, 9), (gone, full, 9), (poor, full, 9), (poor, full, 4), (poor, full, 3)]

    climb(
        settlement,
        *first,
        *(new(model, source_id=source, destination_id=to, amount=9, **late) for source, to in nowhere),
        *(
            new(model, source_id=source, destination_id=to, amount=amount)
            for source, to, amount in [*refused, (poor, bank, 3)]
        ),
    )


def test_splitting(settlement: Settlement) -> None:
    _, [cold, gone, poor, full, worn, bank] = open_books(settlement, [9, 0, 3, 0, 0])
    _, [abroad, _] = open_books(settlement, [0])
    nobody, other = new_id(), new_id()
    frozen(settlement, cold)
    closed(settlement, gone)
    limited(settlement, full, 0, 2)
    wear(settlement, ROOM, worn)

    climb(
        settlement,
        *(
            new(
                SplitTransfer,
                source_id=source,
                destinations=[{"account_id": id, "amount": amount} for id, amount in parts.items()],
                amount=whole,
            )
            for source, parts, whole in (
                (nobody, {nobody: 1, other: 9}, 9),
                (nobody, {nobody: 1, other: 8}, 9),
                (nobody, {other: 9}, 9),
                (cold, {abroad: 1, other: 8}, 9),
                (cold, {abroad: 1, gone: 8}, 9),
                (cold, {bank: 1, gone: 8}, 9),
                (poor, {gone: 1, worn: 8}, 9),
                (poor, {full: 3, worn: 6}, 9),
                (poor, {full: 3, worn: 5}, 8),
                (poor, {full: 3}, 3),
                (poor, {full: 2, worn: 1}, 3),
            )
        ),
    )


def test_exchanging(settlement: Settlement) -> None:
    _, [cold, poor, worn, bank] = open_books(settlement, [9, 3, 0])
    _, [gone, full, abroad_bank] = open_books(settlement, [0, 0])
    nobody, other = new_id(), new_id()
    frozen(settlement, cold)
    closed(settlement, gone)
    limited(settlement, full, 0, 2)
    wear(settlement, ROOM, worn)

    climb(
        settlement,
        *(
            new(
                ExchangeTransfer,
                source_id=source, source_liquidity_id=source_liquidity, source_amount=paid,
                destination_liquidity_id=destination_liquidity, destination_id=destination, destination_amount=got,
            )
            for source, source_liquidity, paid, destination_liquidity, destination, got in (
                (nobody, nobody, 9, abroad_bank, other, 9),
                (nobody, bank, 9, abroad_bank, other, 9),
                (cold, other, 9, abroad_bank, bank, 9),
                (cold, gone, 9, abroad_bank, bank, 9),
                (cold, bank, 9, bank, worn, 9),
                (cold, worn, 9, abroad_bank, gone, 9),
                (poor, worn, 9, abroad_bank, gone, 9),
                (poor, worn, 9, abroad_bank, full, 9),
                (poor, worn, 4, abroad_bank, full, 9),
                (poor, worn, 3, abroad_bank, full, 3),
                (poor, worn, 3, abroad_bank, full, 2),
            )
        ),
    )  # fmt: skip


def test_reversing(settlement: Settlement) -> None:
    _, [cold, gone, worn, poor, bank] = open_books(settlement, [9, 0, 18, 0])
    from_cold, to_gone, to_poor = post(cold, gone, 9), post(worn, gone, 9), post(worn, poor, 9)
    sound = post(worn, bank, 1)
    settlement([from_cold, to_gone, to_poor, post(gone, bank, 18), post(poor, bank, 6), post(bank, worn, 1), sound])
    frozen(settlement, cold)
    closed(settlement, gone)
    limited(settlement, worn, 0, 2)
    wear(settlement, ROOM, worn)

    climb(
        settlement,
        *(
            new(ReverseTransfer, transfer_id=id, amount=amount)
            for id, amount in (
                (new_id(), 10),
                (from_cold.id, 10),
                (from_cold.id, 9),
                (to_gone.id, 9),
                (to_poor.id, 9),
                (to_poor.id, 4),
                (to_poor.id, 3),
                (sound.id, 1),
            )
        ),
    )


class Holds:
    """Holds of 10 that have ended in every way, on an account that is frozen since, and one that is pending there."""

    def __init__(self, settle: Settlement) -> None:
        _, [cold, self.warm, self.full, self.bank] = open_books(settle, [100, 12, 0])
        self.moved = post(cold, self.bank, 1)
        self.captured, self.voided, self.pending = (hold(cold, self.bank, 10) for _ in range(3))
        self.expired = hold(cold, self.bank, 10, expires_in_s=60)
        self.to_full, self.sound = hold(self.warm, self.full, 1), hold(self.warm, self.bank, 9)
        self.cold_to_full = hold(cold, self.full, 1)
        noon = Settlement(settle.engine, clock=lambda _: NOON)
        noon([self.moved, self.captured, self.voided, self.pending, self.expired])
        noon([self.to_full, self.sound, self.cold_to_full])
        noon([new(CaptureTransfer, hold_id=self.captured.id), new(VoidTransfer, hold_id=self.voided.id)])
        frozen(noon, cold)
        limited(noon, self.full, 0, 3)
        wear(settle, ROOM, self.full)
        self.later = Settlement(settle.engine, clock=lambda _: NOON + timedelta(seconds=60))


def test_capturing(settlement: Settlement) -> None:
    holds = Holds(settlement)

    climb(
        holds.later,
        *(
            new(CaptureTransfer, hold_id=id, amount=amount)
            for id, amount in (
                (new_id(), 11),
                (holds.moved.id, 11),
                (holds.captured.id, 11),
                (holds.captured.id, 10),
                (holds.voided.id, 10),
                (holds.expired.id, 10),
                (holds.pending.id, 10),
                (holds.sound.id, 9),
            )
        ),
    )


def test_more_than_a_hold_is_told_before_how_it_ended_and_what_its_accounts_are(settlement: Settlement) -> None:
    holds = Holds(settlement)
    asked = [holds.captured, holds.voided, holds.expired, holds.pending]

    told = statuses(holds.later, *(new(CaptureTransfer, hold_id=it.id, amount=11) for it in asked))

    assert told == ["exceeds_hold"] * 4


def test_voiding(settlement: Settlement) -> None:
    holds = Holds(settlement)
    ids = (new_id(), *(it.id for it in (holds.moved, holds.captured, holds.voided, holds.expired, holds.pending)))

    climb(holds.later, *(new(VoidTransfer, hold_id=id) for id in ids))


def test_extending(settlement: Settlement) -> None:
    holds = Holds(settlement)
    nobody = new_id()

    climb(
        holds.later,
        *(
            new(ExtendHold, hold_id=id, amount=amount)
            for id, amount in (
                (nobody, None),
                (nobody, 10),
                (holds.moved.id, 10),
                (holds.captured.id, 10),
                (holds.voided.id, 10),
                (holds.expired.id, 10),
                (holds.cold_to_full.id, 10),
                (holds.to_full.id, 10),
                (holds.to_full.id, 5),
                (holds.to_full.id, 3),
                (holds.sound.id, 11),
            )
        ),
    )
