"""Dry runs: the outcome that a command would have now, and nothing left of it."""

from typing import Any

import pytest

from models.commands import (
    CaptureTransfer,
    CloseAccount,
    Command,
    ExchangeTransfer,
    ExtendHold,
    FreezeAccount,
    LimitAccount,
    OpenAccount,
    OpenLedger,
    ReverseTransfer,
    SplitTransfer,
    UnfreezeAccount,
    VoidTransfer,
)
from models.outcomes import encode
from tests.factories import as_json, batch, batch_of, hold, new, new_id, open_books, post
from tests.ledger.looking import contents, one, statuses
from worker.engine.settle import Settlement


def dry(command: Command) -> Command:
    """The same command, only to be tried."""
    return command.model_copy(update={"dry_run": True})


def of_every_type(settlement: Settlement) -> list[Command]:
    """A command of each type that is applied as things stand."""
    ledger, [account, other, bank] = open_books(settlement, [50, 0])
    _, [abroad, abroad_bank] = open_books(settlement, [0])
    held, moved = hold(account, bank, 5), post(account, bank, 5)
    settlement([held, moved])
    return [
        new(OpenLedger, ledger=f"{ledger}-2", currency="EUR", scale=2),
        new(OpenAccount, account_id=new_id(), ledger=ledger),
        new(LimitAccount, account_id=account, min_balance=-1, max_balance=100),
        new(FreezeAccount, account_id=account),
        new(UnfreezeAccount, account_id=account),
        new(CloseAccount, account_id=other, remainder_to=bank),
        post(account, bank, 5),
        new(SplitTransfer, source_id=account, destinations=[{"account_id": bank, "rest": True}], amount=5),
        new(
            ExchangeTransfer,
            source_id=account, source_liquidity_id=bank, source_amount=5,
            destination_liquidity_id=abroad_bank, destination_id=abroad, destination_amount=5,
        ),
        new(ReverseTransfer, transfer_id=moved.id),
        hold(account, bank, 5, expires_in_s=60),
        new(ExtendHold, hold_id=held.id, amount=7),
        new(CaptureTransfer, hold_id=held.id, amount=3, final=False),
        new(VoidTransfer, hold_id=held.id),
    ]  # fmt: skip


def timeless(outcome: Any) -> Any:
    """An outcome without what depends on when it was decided."""
    return {name: it for name, it in outcome.items() if name not in ("decided_at", "hold")}


def test_a_dry_run_of_any_command_leaves_nothing(settlement: Settlement) -> None:
    commands = of_every_type(settlement)
    before = contents(settlement)

    told = [statuses(settlement, dry(command)) for command in commands]

    assert told == [["applied"]] * len(commands)
    after = contents(settlement)
    # A ledger's clock may go on.
    assert {name: rows for name, rows in after.items() if name != "ledgers"} == {
        name: rows for name, rows in before.items() if name != "ledgers"
    }
    assert [row[:5] for row in after["ledgers"]] == [row[:5] for row in before["ledgers"]]


def test_a_dry_run_of_any_command_tells_the_outcome_that_comes_to_be(settlement: Settlement) -> None:
    for command in of_every_type(settlement):
        told, became = one(settlement, dry(command)), one(settlement, command)

        assert list(told) == list(became)
        assert timeless(told) == timeless(became)


def test_a_dry_run_that_is_refused_uses_no_id_up(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])
    command = post(account, bank, 6)

    told = statuses(settlement, dry(command), post(bank, account, 1), dry(command), command)

    assert told == ["insufficient_funds", "applied", "applied", "applied"]


def test_a_dry_run_with_a_known_id_gets_the_stored_outcome(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])
    command, refused = post(account, bank, 5), post(account, bank, 50)
    stored = [encode(one(settlement, it)) for it in (command, refused)]
    settlement([post(bank, account, 100)])

    assert [encode(one(settlement, dry(it))) for it in (command, refused)] == stored


def test_a_dry_run_with_the_id_of_other_content_is_told_so(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])
    command = post(account, bank, 5)
    settlement([command])

    outcome = one(settlement, dry(post(account, bank, 4, id=command.id)))

    assert (outcome["status"], outcome["detail"]) == ("id_reused", "amount")


def test_dry_runs_of_one_group_do_not_see_each_other_nor_do_others(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])
    commands = [
        dry(post(account, bank, 5)),
        dry(post(account, bank, 5)),
        post(account, bank, 5),
        post(account, bank, 1),
    ]

    told = [outcome["status"] for outcome in settlement(commands)]

    assert told == ["applied", "applied", "applied", "insufficient_funds"]


def test_a_dry_batch_tells_what_each_member_would_find_and_leaves_nothing(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])
    held = hold(account, bank, 5)
    members: list[Any] = [
        held,
        post(account, bank, 1),
        [new(CaptureTransfer, hold_id=held.id, amount=2), post(account, bank, 3), post(account, bank, 1)],
        new(CaptureTransfer, hold_id=held.id),
    ]
    before = contents(settlement)["inbox"]
    id = new_id()

    outcome = one(settlement, batch(*members, id=id, dry_run=True))

    first, second, chain, last = outcome["outcomes"]
    assert outcome["status"] == "applied"
    assert [first["status"], second["status"], last["status"]] == ["applied", "insufficient_funds", "applied"]
    assert [it["status"] for it in chain] == ["chain_failed", "chain_failed", "insufficient_funds"]
    assert contents(settlement)["inbox"] == before
    assert contents(settlement)["holds"] == []
    assert [it["status"] for it in one(settlement, batch(*members, id=id))["outcomes"][:2]] == [
        "applied",
        "insufficient_funds",
    ]


def test_a_malformed_member_of_a_dry_batch_is_no_dead_letter(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])
    commands = [{"type": "transfers.post", "id": new_id(), "amount": 1.5}, as_json(post(account, bank, 5))]
    tried, done = batch_of(commands, dry_run=True), batch_of(commands)

    first = [it["status"] for it in one(settlement, tried)["outcomes"]]
    letters = contents(settlement)["dead_letters"]
    second = [it["status"] for it in one(settlement, done)["outcomes"]]

    assert first == second == ["malformed", "applied"]
    assert letters == []
    assert len(contents(settlement)["dead_letters"]) == 1


@pytest.mark.parametrize("amount", [5, 6], ids=["applied", "refused"])
def test_a_dry_member_of_a_batch_is_told_again_as_the_batch_was(settlement: Settlement, amount: int) -> None:
    _, [account, bank] = open_books(settlement, [5])
    item = batch(dry(post(account, bank, amount)), post(account, bank, 5))

    first = encode(one(settlement, item))

    assert encode(one(settlement, item)) == first


def test_a_dry_member_of_a_batch_stays_as_it_was_told_when_its_id_is_used_later(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])
    tried = post(account, bank, 6)
    item = batch(dry(tried))
    first = encode(one(settlement, item))

    told = statuses(settlement, post(bank, account, 1), tried)

    assert told == ["applied", "applied"]
    assert encode(one(settlement, item)) == first


def test_a_chain_fails_where_a_dry_member_of_it_would_be_refused(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])
    tried = dry(post(account, bank, 6))

    outcome = one(settlement, batch([post(account, bank, 5), tried]))

    assert [it["status"] for it in outcome["outcomes"][0]] == ["chain_failed", "insufficient_funds"]


def test_a_chain_fails_where_another_than_its_dry_member_is_refused(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [5])

    outcome = one(settlement, batch([dry(post(account, bank, 5)), post(account, bank, 6)]))

    assert [it["status"] for it in outcome["outcomes"][0]] == ["chain_failed", "insufficient_funds"]
