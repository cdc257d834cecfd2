"""Splits: exact parts by largest remainder, all or none; statuses in order, each row mending a fault."""

from fractions import Fraction
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.commands import CloseAccount, FreezeAccount, SplitTransfer
from tests.factories import hold, new, new_id, open_books
from tests.ledger.looking import contents, one, reserved, statuses
from worker.engine.settle import Settlement

Said = int | str
"""A part: so much, a share such as "1/3", or "rest"."""


def part(account_id: str, said: Said) -> dict[str, Any]:
    if said == "rest":
        return {"account_id": account_id, "rest": True}
    return {"account_id": account_id, "amount" if isinstance(said, int) else "share": said}


def split(source_id: str, destinations: dict[str, Said], amount: int, **fields: Any) -> SplitTransfer:
    parts = [part(id, said) for id, said in destinations.items()]
    return new(SplitTransfer, source_id=source_id, destinations=parts, amount=amount, **fields)


def collect(sources: dict[str, Said], destination_id: str, amount: int) -> SplitTransfer:
    parts = [part(id, said) for id, said in sources.items()]
    return new(SplitTransfer, sources=parts, destination_id=destination_id, amount=amount)


EXACT: list[tuple[int, list[Said], list[int]]] = [
    (100, ["1/3", "1/3", "1/3"], [34, 33, 33]),
    (101, ["1/3", "1/3", "1/3"], [34, 34, 33]),
    (101, ["1/2", "1/2"], [51, 50]),
    (1, ["1/3", "1/3", "1/3"], [1, 0, 0]),
    # 1.43, 2.86 and 5.71: two units to the second and the third.
    (10, ["1/7", "2/7", "4/7"], [1, 3, 6]),
    # 0.01, 0.99 and 99: the second, though it comes to less than one.
    (1, ["1/100", "99/100"], [0, 1]),
    (100, ["1/1"], [100]),
    (100, ["rest"], [100]),
    (10, [3, "1/2", "rest"], [3, 5, 2]),
    (10, [3, 7], [3, 7]),
    (10, [10, "rest"], [10, 0]),
    # 6.67 together, rounded down to 6; the rest gets what rounding took.
    (10, ["1/3", "1/3", "rest"], [3, 3, 4]),
    # 3.5 and 1.75 are 5 together: the unit goes to the larger remainder.
    (7, ["1/2", "1/4", "rest"], [3, 2, 2]),
    # 2.5 and 2.5 are 5 together: the first of equals.
    (10, ["1/4", "rest", "1/4"], [3, 5, 2]),
    (10, ["rest", "1/3"], [7, 3]),
    (2, ["1/3", "rest"], [0, 2]),
    (10**15, ["1/3", "1/3", "1/3"], [333_333_333_333_334, 333_333_333_333_333, 333_333_333_333_333]),
    (10**15, ["1/3", "rest"], [333_333_333_333_333, 666_666_666_666_667]),
]


@pytest.mark.parametrize("collecting", [False, True], ids=["one to many", "many to one"])
def test_parts_are_exact_to_the_unit(settlement: Settlement, collecting: bool) -> None:
    for amount, says, expected in EXACT:
        _, [*accounts, one_account] = open_books(settlement, [0 for _ in says], min_balance=None)
        parts = dict(zip(accounts, says, strict=True))
        command = collect(parts, one_account, amount) if collecting else split(one_account, parts, amount)

        outcome = one(settlement, command)

        side = "source_id" if collecting else "destination_id"
        moved = {it[side]: it["amount"] for it in outcome["transfers"]}
        assert moved == {id: it for id, it in zip(accounts, expected, strict=True) if it}
        assert list(moved) == [id for id, it in zip(accounts, expected, strict=True) if it]


def test_shares_add_up_are_the_same_again_and_nobody_is_a_unit_off(settlement: Settlement) -> None:
    _, [*accounts, bank] = open_books(settlement, [0] * 9, min_balance=None)

    @settings(max_examples=80)
    @given(
        amount=st.integers(1, 100) | st.integers(1, 10**12),
        weights=st.lists(st.integers(1, 50), min_size=1, max_size=9),
    )
    def law(amount: int, weights: list[int]) -> None:
        parts: dict[str, Said] = {id: f"{it}/{sum(weights)}" for id, it in zip(accounts, weights, strict=False)}
        first, again = settlement([split(bank, parts, amount), split(bank, parts, amount)])

        moved = {it["destination_id"]: it["amount"] for it in first["transfers"]}
        assert sum(moved.values()) == amount
        assert moved == {it["destination_id"]: it["amount"] for it in again["transfers"]}
        for id, weight in zip(accounts, weights, strict=False):
            assert abs(moved.get(id, 0) - Fraction(weight, sum(weights)) * amount) < 1

    law()


def test_amounts_shares_and_a_rest_add_up(settlement: Settlement) -> None:
    _, [*accounts, bank] = open_books(settlement, [0] * 6, min_balance=None)

    @settings(max_examples=80)
    @given(
        amount=st.integers(1, 10**6),
        shares=st.lists(st.tuples(st.integers(1, 9), st.integers(20, 99)), max_size=3),
        fixed=st.lists(st.integers(1, 10**6), max_size=2),
    )
    def law(amount: int, shares: list[tuple[int, int]], fixed: list[int]) -> None:
        says: list[Said] = ["rest", *(f"{over}/{under}" for over, under in shares), *fixed]
        exact = [Fraction(over, under) * amount for over, under in shares]

        outcome = one(settlement, split(bank, dict(zip(accounts, says, strict=False)), amount))

        if sum(exact) + sum(fixed) > amount:
            assert outcome["status"] == "invalid"
            return
        moved = {it["destination_id"]: it["amount"] for it in outcome["transfers"]}
        parts = [moved.get(id, 0) for id, _ in zip(accounts, says, strict=False)]
        assert sum(parts) == amount
        assert parts[1 + len(shares) :] == fixed
        assert sum(parts[1 : 1 + len(shares)]) == int(sum(exact))
        assert all(abs(got - due) < 1 for got, due in zip(parts[1:], exact, strict=False))

    law()


def test_a_split_gets_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [source, full, frozen, closed, bank] = open_books(settlement, [10, 0, 0, 0], max_balance=10)
    _, [abroad, _] = open_books(settlement, [0])
    settlement([hold(bank, full, 5), new(FreezeAccount, account_id=frozen), new(CloseAccount, account_id=closed)])
    nobody = new_id()

    told = statuses(
        settlement,
        split(nobody, {nobody: 1, bank: 1}, 12),
        split(nobody, {bank: 1, nobody: 11}, 12),
        split(nobody, {bank: 1, new_id(): 11}, 12),
        split(source, {abroad: 1, nobody: 11}, 12),
        split(source, {frozen: 1, abroad: 11}, 12),
        split(source, {closed: 1, frozen: 11}, 12),
        split(source, {full: 6, closed: 6}, 12),
        split(source, {full: 6, bank: 5}, 11),
        split(source, {full: 6, bank: 4}, 10),
        split(source, {full: 5, bank: 5}, 10),
    )

    assert told == [
        "invalid", "accounts_must_differ", "source_not_found", "destination_not_found", "ledgers_must_match",
        "account_frozen", "account_closed", "insufficient_funds", "limit_exceeded", "applied",
    ]  # fmt: skip


def test_many_to_one_gets_the_first_status_that_holds(settlement: Settlement) -> None:
    _, [some, more, full, frozen, _] = open_books(settlement, [5, 5, 0, 0], max_balance=9)
    settlement([new(FreezeAccount, account_id=frozen)])
    nobody = new_id()

    told = statuses(
        settlement,
        collect({some: 6, nobody: 5}, nobody, 11),
        collect({some: 6, new_id(): 5}, nobody, 11),
        collect({some: 6, more: 5}, nobody, 11),
        collect({some: 6, frozen: 5}, full, 11),
        collect({some: 5, more: 6}, full, 11),
        collect({some: 5, more: 5}, full, 10),
        collect({some: 4, more: 5}, full, 9),
    )

    assert told == [
        "accounts_must_differ", "source_not_found", "destination_not_found", "account_frozen", "insufficient_funds",
        "limit_exceeded", "applied",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"source_id": "A"},
        {"destinations": [{"account_id": "B", "rest": True}]},
        {"source_id": "A", "sources": [{"account_id": "B", "rest": True}]},
        {"source_id": "A", "destination_id": "B"},
        {"source_id": "A", "destinations": [{"account_id": "B", "rest": True}], "destination_id": "B"},
        {
            "source_id": "A",
            "destinations": [{"account_id": "B", "rest": True}],
            "sources": [{"account_id": "B", "rest": True}],
        },
        {"source_id": "A", "destinations": [{"account_id": "B"}]},
        {"source_id": "A", "destinations": [{"account_id": "B", "rest": False}]},
        {"source_id": "A", "destinations": [{"account_id": "B", "amount": 10, "rest": True}]},
        {"source_id": "A", "destinations": [{"account_id": "B", "amount": 10, "share": "1/1"}]},
        {"source_id": "A", "destinations": [{"account_id": "B", "share": "1/2", "rest": True}]},
        {
            "source_id": "A",
            "destinations": [
                {"account_id": "B", "rest": True},
                {"account_id": "B", "rest": True},
                {"account_id": "B", "amount": 1},
            ],
        },
        {"source_id": "A", "destinations": [{"account_id": "B", "amount": 9}]},
        {"source_id": "A", "destinations": [{"account_id": "B", "amount": 11}]},
        {
            "source_id": "A",
            "destinations": [{"account_id": "B", "amount": 11}, {"account_id": "B", "rest": True}],
        },
        {"source_id": "A", "destinations": [{"account_id": "B", "share": "9/10"}]},
        {"source_id": "A", "destinations": [{"account_id": "B", "share": "1/2"}, {"account_id": "B", "amount": 6}]},
    ],
)
def test_a_split_that_contradicts_itself_is_invalid(settlement: Settlement, fields: dict[str, Any]) -> None:
    a, b = new_id(), new_id()

    def real(value: Any) -> Any:
        if isinstance(value, list):
            return [{name: real(it) for name, it in entry.items()} for entry in value]
        return {"A": a, "B": b}.get(value, value) if isinstance(value, str) else value

    command = new(SplitTransfer, amount=10, **{name: real(value) for name, value in fields.items()})

    # Nobody is found either: `invalid` comes first.
    assert statuses(settlement, command) == ["invalid"]


def test_of_a_split_that_is_refused_nothing_moves(settlement: Settlement) -> None:
    _, [source, some, full, bank] = open_books(settlement, [10, 0, 10], max_balance=10)
    before = contents(settlement)

    assert statuses(settlement, split(source, {some: 4, full: 1, bank: 5}, 10)) == ["limit_exceeded"]

    after = contents(settlement)
    assert [after[table] for table in ("accounts", "transfers")] == [
        before[table] for table in ("accounts", "transfers")
    ]


def test_a_split_tells_of_each_transfer_by_its_place_and_of_each_balance_once(settlement: Settlement) -> None:
    _, [source, one_account, nothing, other, _] = open_books(settlement, [10, 0, 0, 0])
    command = split(source, {one_account: 4, nothing: "rest", other: 6}, 10, kind="fee")

    outcome = one(settlement, command)

    ids = [str(uuid5(UUID(command.id), place)) for place in "12"]
    assert list(outcome) == ["id", "type", "status", "decided_at", "amount", "transfers", "balances"]
    assert outcome["transfers"] == [
        {"id": ids[0], "source_id": source, "destination_id": one_account, "amount": 4},
        {"id": ids[1], "source_id": source, "destination_id": other, "amount": 6},
    ]
    assert outcome["balances"] == {
        source: {"balance": 0, "available": 0, "version": 3},
        one_account: {"balance": 4, "available": 4, "version": 1},
        other: {"balance": 6, "available": 6, "version": 1},
    }


def test_a_part_that_comes_to_nothing_may_be_a_frozen_accounts(settlement: Settlement) -> None:
    _, [source, frozen, bank] = open_books(settlement, [10, 0])
    settlement([new(FreezeAccount, account_id=frozen)])

    assert statuses(settlement, split(source, {bank: 10, frozen: "rest"}, 10)) == ["applied"]
    assert statuses(settlement, split(source, {bank: 10, new_id(): "rest"}, 10)) == ["destination_not_found"]


def test_an_account_may_have_several_parts_which_its_limits_see_together(settlement: Settlement) -> None:
    _, [source, twice, bank] = open_books(settlement, [10, 0], max_balance=10)
    parts = [part(twice, 3), part(twice, 3), part(bank, "rest")]
    settlement([hold(bank, twice, 5)])

    assert statuses(settlement, new(SplitTransfer, source_id=source, destinations=parts, amount=8)) == [
        "limit_exceeded",
    ]
    parts[1] = part(twice, 2)
    assert statuses(settlement, new(SplitTransfer, source_id=source, destinations=parts, amount=8)) == ["applied"]
    assert reserved(settlement, twice) == (5, 0, 5)
