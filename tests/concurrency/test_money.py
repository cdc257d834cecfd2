"""Money when many want it at once, with the ledgers' locks and without. The classic, all there is, is in `traps`."""

import psycopg
import pytest

from models.outcomes import encode
from tests.concurrency.threads import at_once, deliver, settlements
from tests.conftest import libpq
from tests.factories import batch, open_books, post
from worker.engine.settle import Settlement

LOCKS = pytest.mark.parametrize("lock", [True, False], ids=["locked", "unlocked"])


@LOCKS
@pytest.mark.parametrize("amount", [100, 101], ids=["applied", "refused"])
def test_deliveries_of_one_command_at_once_get_one_outcome(
    settlement: Settlement, database_url: str, lock: bool, amount: int
) -> None:
    _, [account, bank] = open_books(settlement, [100])
    command = post(account, bank, amount)
    with settlements(database_url, 8, lock=lock) as workers:
        told = at_once(*(lambda worker=worker: deliver(worker, [command]) for worker in workers))

    assert len({encode(outcome) for [outcome] in told}) == 1
    with psycopg.connect(libpq(database_url)) as connection:
        rows = connection.execute("SELECT count(*) FROM equipoise.transfers WHERE id = %s", [command.id]).fetchone()
    assert rows == (1 if amount == 100 else 0,)


def test_groups_over_two_ledgers_in_opposite_orders_do_not_deadlock(settlement: Settlement, database_url: str) -> None:
    _, [one, one_bank] = open_books(settlement, [1_000])
    _, [other, other_bank] = open_books(settlement, [1_000])
    there = [batch(post(one, one_bank, 1), post(other, other_bank, 1)) for _ in range(30)]
    back = [batch(post(other_bank, other, 1), post(one_bank, one, 1)) for _ in range(30)]

    with settlements(database_url, 2) as [first, second]:
        at_once(
            lambda: [deliver(first, [item]) for item in there],
            lambda: [deliver(second, [item]) for item in back],
        )

        # Nor does anything else begin again: under the locks there are no conflicts.
        assert first.retries + second.retries == {}
    balances = settlement([post(one, one_bank, 1_000), post(other, other_bank, 1_000)])
    assert [outcome["status"] for outcome in balances] == ["applied", "applied"]


def test_two_workers_on_one_hot_account_begin_nothing_again(settlement: Settlement, database_url: str) -> None:
    _, [hot, bank] = open_books(settlement, [100])
    there, back = [post(hot, bank, 1) for _ in range(50)], [post(bank, hot, 1) for _ in range(50)]

    with settlements(database_url, 2) as [first, second]:
        told = at_once(
            lambda: [deliver(first, [command]) for command in there],
            lambda: [deliver(second, [command]) for command in back],
        )

        assert {outcome["status"] for outcomes in told for [outcome] in outcomes} == {"applied"}
        assert first.retries + second.retries == {}
