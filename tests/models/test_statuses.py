"""Statuses in order of precedence: each row mends one fault of the row before, so the next shows."""

from typing import Any

import pytest

from models.books import Account, Books, Ledger
from models.commands import OpenAccount, OpenLedger, PostTransfer
from models.outcomes import Outcome
from models.rules import accounts, transfers
from models.statuses import Status
from tests.factories import new_id

A, B, C, D = (f"{digit}0000000-0000-4000-8000-000000000000" for digit in "abcd")
NOW = "2026-11-23T12:00:00.000000Z"
MAX_COUNTER = 2**63 - 1
Row = tuple[dict[str, Any], str]


def books(**changes: Any) -> Books:
    """Two ledgers; in `m` a source and a destination, to which changes are made as `source_state="frozen"`."""
    ledger, other = Ledger("m", "EUR", 2), Ledger("n", "USD", 2)
    accounts = {A: Account(A, ledger, 0, None), B: Account(B, ledger, 0, None), C: Account(C, other, None, None)}
    for name, value in changes.items():
        side, _, field = name.partition("_")
        setattr(accounts[{"source": A, "destination": B}[side]], field, value)
    return Books({"m": ledger, "n": other}, accounts)


# Every fault at once, mended one by one: first what the command says, then what the books say.
TRANSFERS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"source_id": D, "destination_id": D}, {}, "accounts_must_differ"),
    ({"source_id": D, "destination_id": new_id()}, {}, "source_not_found"),
    ({"source_id": A, "destination_id": D}, {}, "destination_not_found"),
    ({"source_id": A, "destination_id": C}, {"source_state": "frozen"}, "ledgers_must_match"),
    ({}, {"source_state": "closed", "destination_state": "frozen"}, "account_frozen"),
    ({}, {"source_state": "closed", "destination_state": "closed"}, "account_closed"),
    ({}, {"destination_state": "closed", "source_debits_posted": MAX_COUNTER}, "account_closed"),
    ({}, {"source_state": "closed", "destination_credits_posted": MAX_COUNTER}, "account_closed"),
    ({}, {"source_debits_posted": MAX_COUNTER - 9}, "overflow"),
    ({}, {"source_debits_posted": MAX_COUNTER - 10, "source_debits_pending": 1}, "overflow"),
    ({}, {"destination_credits_posted": MAX_COUNTER - 9}, "overflow"),
    ({}, {"destination_credits_posted": MAX_COUNTER - 10, "destination_credits_pending": 1}, "overflow"),
    ({}, {"source_credits_posted": 9, "destination_max_balance": 9}, "insufficient_funds"),
    ({}, {"source_credits_posted": 10, "source_debits_pending": 1}, "insufficient_funds"),
    ({}, {"source_credits_posted": 9, "source_min_balance": -0}, "insufficient_funds"),
    ({"up_to": True}, {}, "insufficient_funds"),
    ({"up_to": True}, {"source_min_balance": None}, "insufficient_funds"),
    ({}, {"source_credits_posted": 10, "destination_max_balance": 9}, "limit_exceeded"),
    (
        {},
        {"source_credits_posted": 10, "destination_max_balance": 10, "destination_credits_pending": 1},
        "limit_exceeded",
    ),
    ({}, {"source_credits_posted": 10, "destination_max_balance": 10}, "applied"),
    ({}, {"source_credits_posted": 9, "source_min_balance": -1}, "applied"),
    ({}, {"source_min_balance": None}, "applied"),
    ({}, {"source_min_balance": None, "source_debits_posted": MAX_COUNTER - 10}, "applied"),
    ({}, {"source_credits_posted": MAX_COUNTER, "destination_credits_posted": MAX_COUNTER - 10}, "applied"),
    ({"up_to": True}, {"source_credits_posted": 3}, "applied"),
]


@pytest.mark.parametrize(("fields", "changes", "status"), TRANSFERS)
def test_a_transfer_gets_the_first_status_that_holds(
    fields: dict[str, Any], changes: dict[str, Any], status: str
) -> None:
    state = books(**changes)
    command = PostTransfer(**{"id": new_id(), "source_id": A, "destination_id": B, "amount": 10} | fields)

    outcome = transfers.post_transfer(command, state, NOW)

    assert outcome["status"] == status
    assert bool(state.log) is (status == "applied")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"min_balance": 1, "ledger": "none", "account_id": A}, "invalid"),
        ({"max_balance": -1, "ledger": "none", "account_id": A}, "invalid"),
        ({"ledger": "none", "account_id": A}, "ledger_not_found"),
        ({"account_id": A}, "account_exists"),
        ({"account_id": A, "ledger": "n"}, "account_exists"),
        ({"min_balance": 0, "max_balance": 0}, "applied"),
        ({"min_balance": None, "max_balance": None}, "applied"),
    ],
)
def test_an_account_gets_the_first_status_that_holds(fields: dict[str, Any], status: str) -> None:
    outcome = accounts.open_account(
        OpenAccount(**{"id": new_id(), "account_id": D, "ledger": "m"} | fields), books(), NOW
    )

    assert outcome["status"] == status


def test_a_ledger_is_opened_once() -> None:
    state = books()

    told = [
        accounts.open_ledger(OpenLedger(id=new_id(), ledger="new", currency=currency, scale=2), state, NOW)["status"]
        for currency in ("EUR", "EUR", "USD")
    ]

    assert told == ["applied", "ledger_exists", "ledger_exists"]


def test_up_to_moves_what_is_available_and_ignores_the_floor() -> None:
    def moved(**changes: Any) -> Outcome:
        command = PostTransfer(id=new_id(), source_id=A, destination_id=B, amount=10, up_to=True)
        return transfers.post_transfer(command, books(**changes), NOW)

    assert moved(source_credits_posted=7, source_debits_pending=2)["amount"] == 5
    assert moved(source_credits_posted=7, source_min_balance=-5)["amount"] == 7
    assert moved(source_credits_posted=70)["amount"] == 10


def test_an_outcome_tells_both_balances_after_in_the_contracts_order() -> None:
    id = new_id()
    state = books(source_credits_posted=100, source_debits_pending=30, source_version=4)

    outcome = transfers.post_transfer(PostTransfer(id=id, source_id=A, destination_id=B, amount=10), state, NOW)

    assert list(outcome) == ["id", "type", "status", "decided_at", "sequence", "amount", "transfers", "balances"]
    assert outcome == {
        "id": id, "type": "transfers.post", "status": "applied", "decided_at": NOW, "sequence": 1, "amount": 10,
        "transfers": [{"id": id, "source_id": A, "destination_id": B, "amount": 10}],
        "balances": {
            A: {"balance": 90, "available": 60, "version": 5},
            B: {"balance": 10, "available": 10, "version": 1},
        },
    }  # fmt: skip


def test_every_status_has_one_of_the_contracts_http_equivalents() -> None:
    assert {status.http for status in Status} <= {200, 400, 404, 409, 422, 500, 503}
    assert [status for status in Status if status.http == 200] == [Status.APPLIED]
