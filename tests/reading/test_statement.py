"""Statements: pages that fit together, and moments that stay as they were."""

from datetime import timedelta

from sqlalchemy import Engine

from tests.factories import new_id, open_books, post
from worker.engine.settle import Settlement
from worker.reading.statement import ENTRIES_AT_ONCE, pages, statement


def test_pages_hold_every_entry_once_and_in_order(settlement: Settlement, engine: Engine) -> None:
    _, (account, _) = open_books(settlement, [1])
    _, (other, bank) = open_books(settlement, [0])
    count = ENTRIES_AT_ONCE + 3
    settlement([post(bank, other, 2) for _ in range(count)])

    stated = statement(engine, other)

    assert stated is not None
    entries = [entry for page in pages(engine, stated) for entry in page]
    assert [entry.version for entry in entries] == list(range(1, count + 1))
    assert [entry.balance for entry in entries] == [2 * version for version in range(1, count + 1)]
    assert statement(engine, account) is not None


def test_the_statement_of_a_moment_stays_as_it_was(settlement: Settlement, engine: Engine) -> None:
    _, (account, bank) = open_books(settlement, [100])
    now = statement(engine, account)
    assert now is not None
    (first,) = next(pages(engine, now))

    settlement([post(account, bank, 30)])

    then = statement(engine, account, first.created_at)
    before = statement(engine, account, first.created_at - timedelta(microseconds=1))
    after = statement(engine, account)
    assert then is not None and before is not None and after is not None
    assert (then.balance, then.version, list(pages(engine, then))) == (100, 1, [[first]])
    assert (before.balance, before.version, list(pages(engine, before))) == (0, 0, [])
    assert (after.balance, after.version) == (70, 2)


def test_what_came_after_the_statement_was_asked_for_is_not_in_it(settlement: Settlement, engine: Engine) -> None:
    _, (account, bank) = open_books(settlement, [100])
    stated = statement(engine, account)
    assert stated is not None

    settlement([post(account, bank, 30)])

    assert [entry.version for page in pages(engine, stated) for entry in page] == [1]


def test_nobodys_account_has_no_statement(engine: Engine) -> None:
    assert statement(engine, new_id()) is None
    assert statement(engine, "no id at all") is None
