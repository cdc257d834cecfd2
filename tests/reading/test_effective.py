"""Statements by effective date equal a plain addition, and a transfer that is dated back rewrites nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

import pytest
from sqlalchemy import Engine

from tests.factories import new_id, open_books, post
from worker.engine.settle import Settlement
from worker.reading import effective as reading
from worker.reading.effective import EffectiveStatement, effective_statement, entries
from worker.reading.statement import pages, statement

TICK = timedelta(microseconds=1)


class Fact(NamedTuple):
    """One entry of the account, as its command and its outcome tell."""

    committed: datetime
    effective: datetime
    change: int
    version: int


def live(settle: Settlement, dice: Random) -> tuple[str, list[Fact]]:
    """Move money out of and into an account in forty groups, every other transfer dated, with dates near and equal."""
    _, (account, other, bank) = open_books(settle, [0, 0], min_balance=None)
    start = datetime.now(UTC)
    facts: list[Fact] = []
    dates: list[datetime] = []
    for _ in range(40):
        commands = []
        for _ in range(dice.randint(1, 4)):
            date = start + timedelta(microseconds=dice.randint(-300_000, 600_000))
            date = dice.choice([date, dice.choice([*dates, date]), dice.choice(facts).committed if facts else date])
            dates.append(date)
            sides = dice.choice([(account, other), (bank, account)])
            commands.append(post(*sides, dice.randint(1, 100), effective_at=dice.choice([None, date])))
        for command, outcome in zip(commands, settle(commands), strict=True):
            committed = datetime.fromisoformat(outcome["decided_at"])
            change = -command.amount if command.source_id == account else command.amount
            facts.append(Fact(committed, command.effective_at or committed, change, len(facts) + 1))
    return account, facts


def counting(facts: Sequence[Fact], effective: datetime, at: datetime | None) -> list[Fact]:
    known = [fact for fact in facts if at is None or fact.committed <= at]
    return sorted((fact for fact in known if fact.effective <= effective), key=lambda it: (it.effective, it.version))


def stated(engine: Engine, account: str, effective: datetime, at: datetime | None = None) -> EffectiveStatement:
    found = effective_statement(engine, account, effective, at)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_statement_by_effective_date_is_a_plain_addition_of_what_counts(
    seed: int, settlement: Settlement, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ENTRIES_AT_ONCE", 7)  # so that pages end everywhere
    dice = Random(seed)
    account, facts = live(settlement, dice)
    times = [time + step for fact in facts for time in fact[:2] for step in (-TICK, timedelta(), TICK)]
    times += [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]

    for effective, at in zip(dice.choices(times, k=60), dice.choices([*times, None, None], k=60), strict=True):
        found = stated(engine, account, effective, at)

        expected = counting(facts, effective, at)
        assert (found.balance, found.entries) == (sum(fact.change for fact in expected), len(expected))
        assert found.known == sum(at is None or fact.committed <= at for fact in facts)
        listed = list(entries(engine, found))
        assert [(it.moment, it.entry.version) for it in listed] == [(it.effective, it.version) for it in expected]
        balances = [sum(fact.change for fact in expected[: place + 1]) for place in range(len(expected))]
        assert [it.balance for it in listed] == balances


def test_backdating_never_rewrites_what_was_known_when(settlement: Settlement, engine: Engine) -> None:
    _, (account, bank) = open_books(settlement, [100])
    (spent,) = settlement([post(account, bank, 30)])
    then = datetime.fromisoformat(spent["decided_at"])
    day_before = then - timedelta(days=1)
    told = [told_of(engine, account, at=then), told_of(engine, account, day_before, then)]
    told.append(told_of(engine, account, then, then))

    settlement([post(bank, account, 7, effective_at=day_before), post(account, bank, 1, effective_at=then)])

    assert [told_of(engine, account, at=then), told_of(engine, account, day_before, then)] == told[:2]
    assert told_of(engine, account, then, then) == told[2]
    assert stated(engine, account, day_before).balance == 7
    assert stated(engine, account, then).balance == 100 - 30 + 7 - 1


def told_of(
    engine: Engine, account: str, effective: datetime | None = None, at: datetime | None = None
) -> list[object]:
    """Give every line that the statement has for programs."""
    if effective is None:
        plain = statement(engine, account, at)
        assert plain is not None
        return [plain.as_json(), *(entry.as_json() for page in pages(engine, plain) for entry in page)]
    found = stated(engine, account, effective, at)
    return [found.as_json(), *(entry.as_json() for entry in entries(engine, found))]


def test_what_is_dated_ahead_counts_from_its_date(settlement: Settlement, engine: Engine) -> None:
    _, (account, bank) = open_books(settlement, [100])
    due = datetime.now(UTC) + timedelta(days=30)
    settlement([post(account, bank, 40, effective_at=due)])

    assert stated(engine, account, due - TICK).balance == 100
    assert stated(engine, account, due).balance == 60


def test_without_dates_the_effective_statement_is_the_statement_of_the_moment(
    settlement: Settlement, engine: Engine
) -> None:
    _, (account, bank) = open_books(settlement, [100])
    settlement([post(account, bank, 1)])
    now = statement(engine, account)
    assert now is not None
    moments = [entry.created_at for page in pages(engine, now) for entry in page]
    settlement([post(account, bank, 2)])

    for moment in moments:
        plain = statement(engine, account, moment)
        assert plain is not None
        found = stated(engine, account, moment)
        assert (found.balance, found.entries) == (plain.balance, plain.version)
        assert [it.entry for it in entries(engine, found)] == [it for page in pages(engine, plain) for it in page]


def test_nobodys_account_has_no_effective_statement(engine: Engine) -> None:
    assert effective_statement(engine, new_id(), datetime.now(UTC)) is None
    assert effective_statement(engine, "no id at all", datetime.now(UTC)) is None
