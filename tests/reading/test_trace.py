"""A trace leads from an id to everything it left behind."""

from datetime import UTC, datetime

from sqlalchemy import Engine

from models.commands import CaptureTransfer, HoldTransfer, Part, ReverseTransfer, SplitTransfer
from tests.factories import batch, batch_of, hold, new_id, open_books, post
from worker.engine.settle import Settlement
from worker.reading.trace import Trace, trace


def traced(engine: Engine, id: str) -> Trace:
    with engine.connect() as connection:
        return trace(connection, id)


def test_a_transfer_has_its_outcome_and_both_entries(settlement: Settlement, engine: Engine) -> None:
    ledger, (account, bank) = open_books(settlement, [100])
    command = post(account, bank, 30, kind="gift")
    (outcome,) = settlement([command])

    found = traced(engine, command.id)

    assert found.outcome == outcome
    assert found.content == {
        "type": "transfers.post", "source_id": account, "destination_id": bank, "amount": 30, "kind": "gift"
    }  # fmt: skip
    (transfer,) = found.transfers
    assert (transfer.id, transfer.ledger, transfer.amount, transfer.kind) == (command.id, ledger, 30, "gift")
    assert [(side.account_id, side.change, side.balance) for side in transfer.entries] == [
        (account, -30, 70),
        (bank, 30, -70),
    ]


def test_a_batch_has_its_members_and_their_transfers(settlement: Settlement, engine: Engine) -> None:
    _, (account, bank) = open_books(settlement, [100])
    alone, first, second = (post(account, bank, amount) for amount in (1, 2, 3))
    whole = batch(alone, [first, second])
    (outcome,) = settlement([whole])

    found = traced(engine, whole.id)

    assert found.outcome == outcome
    assert [(place, member["id"]) for place, member in found.members()] == [
        ("0", alone.id),
        ("1.0", first.id),
        ("1.1", second.id),
    ]
    assert [transfer.amount for transfer in found.transfers] == [1, 2, 3]


def test_a_refusal_moves_nothing(settlement: Settlement, engine: Engine) -> None:
    _, (account, bank) = open_books(settlement, [100])
    command = post(account, bank, 101)
    settlement([command])

    found = traced(engine, command.id)

    assert found.outcome is not None
    assert (found.outcome["status"], found.transfers) == ("insufficient_funds", [])


def test_a_dead_letter_is_found_by_the_id_it_calls_itself_by(settlement: Settlement, engine: Engine) -> None:
    id = new_id()
    settlement([batch_of([{"type": "transfers.post", "id": id, "amount": 1.5}])])

    found = traced(engine, id)

    assert found.found
    assert found.outcome is None
    assert [letter.reason for letter in found.letters] == ["malformed"]


def test_of_an_id_that_nobody_used_nothing_is_known(engine: Engine) -> None:
    assert not traced(engine, new_id()).found
    assert not traced(engine, "no id at all").found


def test_a_reversal_and_its_original_lead_to_each_other(settlement: Settlement, engine: Engine) -> None:
    _, (account, bank) = open_books(settlement, [100])
    original = post(account, bank, 30)
    refunds = [ReverseTransfer(id=new_id(), transfer_id=original.id, amount=amount) for amount in (10, 5)]
    settlement([original, *refunds])

    (there,), (back,) = (traced(engine, id).transfers for id in (original.id, refunds[0].id))

    assert there.as_json()["reversed_by"] == [refund.id for refund in refunds]
    assert back.as_json()["reverses"] == original.id


def test_a_hold_leads_to_its_captures_and_they_to_it(settlement: Settlement, engine: Engine) -> None:
    _, (account, bank) = open_books(settlement, [100])
    hold = HoldTransfer(id=new_id(), source_id=account, destination_id=bank, amount=30)
    captures = [CaptureTransfer(id=new_id(), hold_id=hold.id, amount=amount, final=False) for amount in (10, 5)]
    settlement([hold])
    settlement(captures)

    found, of_capture = traced(engine, hold.id), traced(engine, captures[1].id)

    assert [transfer.id for transfer in found.transfers] == [capture.id for capture in captures]
    assert [(it.state, it.remaining, it.captured) for it in found.holds] == [("pending", 15, 15)]
    assert of_capture.holds == found.holds
    assert [transfer.hold_id for transfer in of_capture.transfers] == [hold.id]


def test_a_split_leads_to_all_of_its_transfers_and_each_to_the_split(settlement: Settlement, engine: Engine) -> None:
    _, (account, other, bank) = open_books(settlement, [100, 0])
    split = SplitTransfer(
        id=new_id(),
        source_id=account,
        destinations=[Part(account_id=other, share="1/3"), Part(account_id=bank, rest=True)],
        amount=10,
    )
    settlement([split])

    whole = traced(engine, split.id).transfers
    part = traced(engine, whole[1].id).transfers

    assert [transfer.amount for transfer in whole] == [3, 7]
    assert [transfer.command_id for transfer in part] == [split.id]


def test_a_hold_at_its_deadline_has_ended_though_nobody_has_touched_it(settlement: Settlement, engine: Engine) -> None:
    _, (payer, payee, other, bank) = open_books(settlement, [100, 0, 0])
    settlement([held := hold(payer, payee, 10, expires_in_s=60)])
    later = datetime(2100, 1, 1, tzinfo=UTC)
    Settlement(settlement.engine, clock=lambda _: later)([post(bank, other, 1)])

    with engine.connect() as connection:
        (told,) = trace(connection, held.id).holds

    assert (told.state, told.remaining, told.ended_at) == ("expired", 0, told.expires_at)
