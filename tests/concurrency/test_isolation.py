"""What SERIALIZABLE is for, and what 23505 means: shown by weakening them, in interleavings that are no luck.

Two workers read before either writes. Locks are off: they would hide what isolation does.
"""

from collections.abc import Callable
from threading import Barrier
from typing import Any

import psycopg
import pytest
from psycopg.errors import UniqueViolation

from models.commands import Command, SplitTransfer
from models.outcomes import Outcome
from tests.concurrency.families import SCHEMA, Count, Counter, Doctors, Leave
from tests.concurrency.threads import WAIT_S, at_once, settlements
from tests.conftest import libpq
from tests.factories import new, new_id, open_books, post
from worker.engine.settle import Settlement
from worker.postgres.failures import is_passing, sqlstate


@pytest.fixture
def teams_url(database_url: str) -> str:
    """A database that has the tables of the test's families, too."""
    with psycopg.connect(libpq(database_url)) as connection:
        connection.execute(SCHEMA)
    return database_url


def meeting() -> Callable[[], None]:
    """Make two workers meet between their first reading and writing; who begins again meets nobody."""
    barrier, met = Barrier(2), list[int]()

    def meet() -> None:
        if len(met) < 2:
            met.append(barrier.wait(WAIT_S))

    return meet


def both(
    url: str, family: Callable[[Callable[[], None]], Any], commands: list[Command], **options: Any
) -> list[Outcome]:
    """Let two workers decide a command each, both having read before either writes."""
    with settlements(url, 2, families=[family(meeting())], lock=False, **options) as [one, other]:
        [first], [second] = at_once(lambda: one([commands[0]]), lambda: other([commands[1]]))
    return [first, second]


def counted(url: str, **options: Any) -> int:
    """Count twice at once, and give what was counted."""
    told = both(url, Counter, [Count(id=new_id()), Count(id=new_id())], **options)
    assert [outcome["status"] for outcome in told] == ["applied", "applied"]
    with psycopg.connect(libpq(url)) as connection:
        [value] = connection.execute("SELECT value FROM counter").fetchone() or [0]
        return int(value)


def left(url: str, **options: Any) -> list[str]:
    """Let both doctors leave at once, and give the verdicts, sorted."""
    told = both(url, Doctors, [Leave(id=new_id(), name="alice"), Leave(id=new_id(), name="bob")], **options)
    return sorted(outcome["status"] for outcome in told)


def test_no_update_is_lost(teams_url: str) -> None:
    assert counted(teams_url) == 2


def test_an_update_is_lost_at_read_committed(teams_url: str) -> None:
    assert counted(teams_url, isolation="READ COMMITTED") == 1


def test_no_write_skew_commits(teams_url: str) -> None:
    assert left(teams_url) == ["applied", "invalid"]


def test_a_write_skew_commits_at_repeatable_read(teams_url: str) -> None:
    assert counted(teams_url, isolation="REPEATABLE READ") == 2
    assert left(teams_url, isolation="REPEATABLE READ") == ["applied", "applied"]


def test_a_duplicate_decided_meanwhile_is_answered_with_the_first_outcome(teams_url: str) -> None:
    """Both look the id up before either writes: the inbox's key tells the second, which begins again."""
    _only(teams_url, "alice")
    command = Leave(id=new_id(), name="alice")
    with settlements(teams_url, 2, families=[Doctors(meeting())], lock=False) as [one, other]:
        first, second = at_once(lambda: one([command]), lambda: other([command]))

        assert first == second
        assert first[0]["status"] == "invalid"
        assert one.retries + other.retries == {"23505": 1}


def test_a_duplicate_fails_where_23505_does_not_begin_again(teams_url: str) -> None:
    _only(teams_url, "alice")
    command = Leave(id=new_id(), name="alice")

    with pytest.raises(UniqueViolation, match="inbox_pkey"):
        both(teams_url, Doctors, [command, command], begin_again=lambda it: is_passing(it) and sqlstate(it) != "23505")


def test_a_key_that_is_violated_twice_was_no_lost_race(settlement: Settlement) -> None:
    """A command with the id of another one's transfer, of which no inbox row tells: whoever was first has committed."""
    _, [account, bank] = open_books(settlement, [10])
    parts = [{"account_id": bank, "rest": True}]
    [split] = settlement([new(SplitTransfer, source_id=account, destinations=parts, amount=5)])

    with pytest.raises(UniqueViolation, match="transfers_id"):
        settlement([post(account, bank, 1, id=split["transfers"][0]["id"])])

    assert settlement.retries == {"23505": 1}


def _only(url: str, name: str) -> None:
    """Leave one doctor on call, so that a command is refused and writes nothing but its outcome."""
    with psycopg.connect(libpq(url)) as connection:
        connection.execute("UPDATE doctors SET on_call = false WHERE name <> %s", [name])
