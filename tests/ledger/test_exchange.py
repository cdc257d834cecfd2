"""Exchanges, and chains over two ledgers: both sides or none; statuses in order, each row mending a fault."""

from uuid import UUID, uuid5

from sqlalchemy import text

from models.commands import CloseAccount, ExchangeTransfer, FreezeAccount
from tests.concurrency.threads import at_once, deliver, settlements
from tests.factories import batch, new, new_id, open_books, post
from tests.ledger.looking import contents, one, reserved, statuses
from worker.engine.settle import Settlement


def exchange(
    source_id: str, source_liquidity_id: str, source_amount: int,
    destination_liquidity_id: str, destination_id: str, destination_amount: int,
) -> ExchangeTransfer:  # fmt: skip
    return new(
        ExchangeTransfer,
        source_id=source_id, source_liquidity_id=source_liquidity_id, source_amount=source_amount,
        destination_liquidity_id=destination_liquidity_id, destination_id=destination_id,
        destination_amount=destination_amount,
    )  # fmt: skip


def test_an_exchange_gets_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [payer, frozen, poor, bank] = open_books(settlement, [10, 10, 0])
    _, [payee, closed, liquidity, rich] = open_books(settlement, [0, 0, 20], max_balance=20)
    settlement([new(FreezeAccount, account_id=frozen), new(CloseAccount, account_id=closed)])
    nobody = new_id()

    told = statuses(
        settlement,
        exchange(nobody, nobody, 11, nobody, new_id(), 21),
        exchange(payer, bank, 11, nobody, nobody, 21),
        exchange(nobody, new_id(), 11, bank, payee, 21),
        exchange(payer, bank, 11, nobody, new_id(), 21),
        exchange(payer, nobody, 11, liquidity, payee, 21),
        exchange(payer, payee, 11, liquidity, nobody, 21),
        exchange(payer, payee, 11, bank, frozen, 21),
        exchange(payer, bank, 11, liquidity, bank, 21),
        exchange(frozen, bank, 11, bank, poor, 21),
        exchange(frozen, bank, 11, liquidity, closed, 21),
        exchange(payer, bank, 11, liquidity, closed, 21),
        exchange(payer, bank, 11, rich, payee, 21),
        exchange(payer, bank, 10, liquidity, payee, 21),
        exchange(payer, bank, 10, rich, payee, 21),
        exchange(payer, bank, 10, rich, payee, 20),
    )

    assert told == [
        "accounts_must_differ", "accounts_must_differ", "source_not_found", "source_not_found",
        "destination_not_found", "destination_not_found", "ledgers_must_match", "ledgers_must_match",
        "ledgers_must_differ", "account_frozen", "account_closed", "insufficient_funds", "insufficient_funds",
        "limit_exceeded", "applied",
    ]  # fmt: skip


def test_an_exchange_is_two_transfers_and_each_ledger_keeps_its_money(settlement: Settlement) -> None:
    one_ledger, [payer, bank] = open_books(settlement, [10])
    other_ledger, [payee, liquidity] = open_books(settlement, [1])
    command = exchange(payer, bank, 10, liquidity, payee, 1_500)

    outcome = one(settlement, command)

    ids = [str(uuid5(UUID(command.id), place)) for place in "12"]
    assert list(outcome) == ["id", "type", "status", "decided_at", "transfers", "balances"]
    assert outcome["transfers"] == [
        {"id": ids[0], "source_id": payer, "destination_id": bank, "amount": 10},
        {"id": ids[1], "source_id": liquidity, "destination_id": payee, "amount": 1_500},
    ]
    assert list(outcome["balances"]) == [payer, bank, liquidity, payee]
    assert outcome["balances"][payee] == {"balance": 1_501, "available": 1_501, "version": 2}
    statement = text("""
        SELECT name, sum(credits_posted - debits_posted), ledger.sequence
        FROM equipoise.accounts account JOIN equipoise.ledgers ledger ON ledger.number = account.ledger
        GROUP BY name, ledger.sequence
    """)
    with settlement.engine.connect() as connection:
        assert {tuple(row) for row in connection.execute(statement)} == {(one_ledger, 0, 2), (other_ledger, 0, 2)}


def test_of_an_exchange_that_is_refused_neither_side_moves(settlement: Settlement) -> None:
    _, [payer, bank] = open_books(settlement, [10])
    _, [payee, poor, _] = open_books(settlement, [0, 5])
    before = contents(settlement)

    assert statuses(settlement, exchange(payer, bank, 10, poor, payee, 6)) == ["insufficient_funds"]

    after = contents(settlement)
    assert (after["accounts"], after["transfers"]) == (before["accounts"], before["transfers"])


def test_a_chain_over_two_ledgers_moves_both_or_neither(settlement: Settlement) -> None:
    _, [account, bank] = open_books(settlement, [10])
    _, [other, other_bank] = open_books(settlement, [10])

    [failed] = settlement([batch([post(account, bank, 4), post(other, other_bank, 11)])])
    after_failure = reserved(settlement, account), reserved(settlement, other)
    [applied] = settlement([batch([post(account, bank, 4), post(other, other_bank, 10)])])

    assert [it["status"] for it in failed["outcomes"][0]] == ["chain_failed", "insufficient_funds"]
    assert after_failure == ((10, 0, 0), (10, 0, 0))
    assert [it["status"] for it in applied["outcomes"][0]] == ["applied", "applied"]
    assert (reserved(settlement, account), reserved(settlement, other)) == ((6, 0, 0), (0, 0, 0))
    assert [it["sequence"] for it in applied["outcomes"][0]] == [2, 2]


def test_exchanges_in_opposite_directions_at_once_do_not_deadlock(settlement: Settlement, database_url: str) -> None:
    _, [one_account, one_bank] = open_books(settlement, [1_000])
    _, [other, other_bank] = open_books(settlement, [1_000])
    there = [exchange(one_account, one_bank, 1, other_bank, other, 2) for _ in range(20)]
    back = [exchange(other, other_bank, 2, one_bank, one_account, 1) for _ in range(20)]

    with settlements(database_url, 2) as [first, second]:
        told = at_once(
            lambda: [deliver(first, [command])[0]["status"] for command in there],
            lambda: [deliver(second, [command])[0]["status"] for command in back],
        )

        assert first.retries + second.retries == {}
    assert told == [["applied"] * 20] * 2
    assert reserved(settlement, one_account) == (1_000, 0, 0)
    assert reserved(settlement, other) == (1_000, 0, 0)
