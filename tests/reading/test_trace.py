"""A trace leads from an id to everything it left behind."""

from sqlalchemy import Engine

from tests.factories import batch, batch_of, new_id, open_books, post
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
