"""Looking for transfers gives what a plain filter gives, page by page, whichever way it takes."""

from datetime import timedelta
from random import Random
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from tests.factories import open_books, post
from worker.engine.settle import Settlement
from worker.reading import transfers as reading
from worker.reading.accounts import find
from worker.reading.transfers import Ledger, Query, Transfer, find_ledger, transfers

TICK = timedelta(microseconds=1)


def book(engine: Engine, name: str) -> Ledger:
    with engine.connect() as connection:
        found = find_ledger(connection, name)
    assert found is not None
    return found


def live(settle: Settlement, dice: Random) -> tuple[str, list[str]]:
    """Move money in two ledgers, in thirty groups each, with all that can be asked for; give the first ledger."""
    books = [open_books(settle, [0] * 4, min_balance=None) for _ in range(2)]
    for _ in range(30):
        for _, accounts in books:
            settle([a_post(accounts, dice) for _ in range(dice.randint(1, 9))])
    return books[0]


def a_post(accounts: list[str], dice: Random) -> Any:
    metadata = {"order": dice.choice(["1", "2", 2]), "tags": dice.sample(["a", "b", "c"], 2), "at": {"shop": 7}}
    return post(
        *dice.sample(accounts, 2),
        dice.randint(1, 30),
        kind=dice.choice([None, "fee", "gift"]),
        metadata=dice.choice([None, {}, metadata, {"order": "1"}]),
    )


def everything(engine: Engine, ledger: Ledger) -> list[Any]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM equipoise.transfers ORDER BY sequence DESC")).all()
    return [row for row in rows if row.ledger == ledger.number]


def a_question(dice: Random, rows: list[Any], ledger: Ledger, accounts: list[Any]) -> Query:
    times = [row.created_at + step for row in rows for step in (-TICK, timedelta(), TICK)]
    amounts = dice.randint(0, 20)
    objects = [{"order": "1"}, {"order": 2}, {"tags": ["a"]}, {"at": {"shop": 7}}, {"order": "2", "tags": ["c", "b"]}]
    return Query(
        ledger,
        dice.choice([None, *accounts]),
        since=dice.choice([None, None, dice.choice(times)]),
        until=dice.choice([None, None, dice.choice(times)]),
        kind=dice.choice([None, None, "fee", "gift", "nothing"]),
        metadata=dice.choice([None, None, orjson.dumps(dice.choice(objects)).decode()]),
        amounts=dice.choice([None, None, (amounts, amounts), (amounts, amounts + 5)]),
        after=dice.choice([None, None, dice.randint(1, len(rows) + 5)]),
        oldest_first=dice.choice([False, True]),
    )


def contains(whole: Any, part: Any) -> bool:
    """What `@>` means, in plain words."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(it, wanted) for it in whole) for wanted in part)
    return type(whole) is type(part) and whole == part


def matches(row: Any, query: Query) -> bool:
    after = query.after is None or (row.sequence > query.after if query.oldest_first else row.sequence < query.after)
    return (
        after
        and (query.account is None or query.account.id in (str(row.source_id), str(row.destination_id)))
        and (query.since is None or row.created_at >= query.since)
        and (query.until is None or row.created_at < query.until)
        and (query.kind is None or row.kind == query.kind)
        and (query.metadata is None or contains(row.metadata, orjson.loads(query.metadata)))
        and (query.amounts is None or query.amounts[0] <= row.amount <= query.amounts[1])
    )


@pytest.mark.parametrize("few", [0, 10, 40], ids=["walking", "either", "picking"])
def test_what_is_found_is_what_a_plain_filter_leaves(
    few: int, settlement: Settlement, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TRANSFERS_AT_ONCE", 4)  # so that pages end everywhere
    monkeypatch.setattr(reading, "FEW", few)
    dice = Random(few)
    name, ids = live(settlement, dice)
    ledger = book(engine, name)
    rows = everything(engine, ledger)
    with engine.connect() as connection:
        accounts = list(find(connection, ids).values())

    for _ in range(150):
        query = a_question(dice, rows, ledger, accounts)
        most = dice.choice([None, 1, 7])

        found = list(transfers(engine, query, most))

        expected = [row for row in (reversed(rows) if query.oldest_first else rows) if matches(row, query)][:most]
        assert [it.sequence for it in found] == [row.sequence for row in expected], query
        assert found == [as_read(row) for row in expected]


def as_read(row: Any) -> Transfer:
    ids = {name: str(getattr(row, name)) for name in ("id", "source_id", "destination_id")}
    same = ("sequence", "amount", "created_at", "kind", "effective_at", "metadata", "hold_id", "reverses", "command_id")
    return Transfer(**ids, **{name: getattr(row, name) for name in same})


def test_what_is_committed_while_somebody_reads_is_not_in_the_answer(settlement: Settlement, engine: Engine) -> None:
    name, (account, bank) = open_books(settlement, [100])
    settlement([post(account, bank, 1)])
    reading_on = transfers(engine, Query(book(engine, name), oldest_first=True), None)
    first = next(reading_on)

    settlement([post(account, bank, 2)])

    assert [first.amount, *(it.amount for it in reading_on)] == [100, 1]


def test_a_page_goes_on_after_the_last_transfer_of_the_one_before(settlement: Settlement, engine: Engine) -> None:
    name, (account, bank) = open_books(settlement, [100])
    settlement([post(account, bank, amount) for amount in range(1, 8)])
    pages, after = [], None

    while page := list(transfers(engine, Query(book(engine, name), after=after), 3)):
        settlement([post(account, bank, 9)])  # moves nobody's place
        pages.append([it.amount for it in page])
        after = page[-1].sequence

    assert pages == [[7, 6, 5], [4, 3, 2], [1, 100]]


def test_a_ledger_that_is_nobodys_is_none(engine: Engine) -> None:
    with engine.connect() as connection:
        assert find_ledger(connection, "nobodys") is None
