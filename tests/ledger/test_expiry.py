"""Holds whose time has come while nobody touches their accounts expire by the scheduled work, once."""

from datetime import UTC, datetime, timedelta

import psycopg

from tests.conftest import libpq
from tests.factories import hold, open_books
from worker.engine.expiry import expire_overdue
from worker.engine.settle import Settlement


def test_the_scheduled_work_expires_what_is_overdue_and_nothing_else(settlement: Settlement, database_url: str) -> None:
    an_hour_ago = Settlement(settlement.engine, clock=lambda _: datetime.now(UTC) - timedelta(hours=1))
    _, [account, bank] = open_books(an_hour_ago, [100])
    overdue = [hold(account, bank, 10, expires_in_s=60) for _ in range(2)]
    an_hour_ago([*overdue, hold(account, bank, 10, expires_in_s=7_200), hold(account, bank, 10)])

    expired = [expire_overdue(settlement), expire_overdue(settlement)]

    assert expired == [2, 0]
    with psycopg.connect(libpq(database_url)) as connection:
        states = connection.execute("SELECT state, count(*) FROM equipoise.holds GROUP BY state ORDER BY state")
        pending = connection.execute("SELECT debits_pending FROM equipoise.accounts WHERE id = %s", [account])
        assert states.fetchall() == [("expired", 2), ("pending", 2)]
        assert pending.fetchone() == (20,)
