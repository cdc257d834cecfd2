"""A moment's place, found by halving, is what counting gives."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from tests.conftest import Tamper
from tests.factories import open_books, post
from worker.engine.settle import Settlement
from worker.reading.moments import sequence_before, version_at, version_of

TICK = timedelta(microseconds=1)


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


def test_the_place_of_every_time_is_what_counting_gives(settlement: Settlement, connection: Connection) -> None:
    _, (account, other, bank) = open_books(settlement, [50, 0])
    for size in (1, 3, 2, 1, 5):  # those of one group have one time
        settlement([post(account, other, 1), *(post(bank, other, 1) for _ in range(size)), post(other, account, 1)])
    settlement([post(bank, other, 1)])

    rows = connection.execute(text("SELECT * FROM equipoise.transfers ORDER BY sequence")).all()
    mine = [row for row in rows if account in (str(row.source_id), str(row.destination_id))]

    for moment in {row.created_at + step for row in rows for step in (-TICK, timedelta(), TICK)}:
        assert sequence_before(connection, 1, len(rows), moment) == sum(row.created_at < moment for row in rows)
        assert version_at(connection, account, len(mine), moment) == sum(row.created_at <= moment for row in mine)
    for sequence in range(len(rows) + 2):
        assert version_of(connection, account, len(mine), sequence) == sum(row.sequence <= sequence for row in mine)


def test_a_history_of_nothing_has_one_place(settlement: Settlement, connection: Connection) -> None:
    _, (account, _) = open_books(settlement, [0])

    assert version_at(connection, account, 0, datetime.now(UTC)) == 0
    assert sequence_before(connection, 1, 0, datetime.now(UTC)) == 0


def test_a_hole_in_broken_books_ends_the_search_like_any_other(
    settlement: Settlement, connection: Connection, tamper: Tamper
) -> None:
    _, (account, bank) = open_books(settlement, [50])
    settlement([post(account, bank, 1) for _ in range(9)])

    tamper("DELETE FROM equipoise.transfers WHERE sequence BETWEEN 4 AND 6")

    assert 0 <= version_at(connection, account, 10, datetime.now(UTC)) <= 10
