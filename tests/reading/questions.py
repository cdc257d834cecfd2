"""A history of 50,000 transfers, the questions that people ask of it, and the plans by which PostgreSQL answers them.

`python -m tests.reading.questions DATABASE_URL` fills an empty, migrated database and prints the plans as
`docs/queries.md` has them.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine, event

from models.commands import HoldTransfer, OpenAccount, OpenLedger, VoidTransfer
from tests.conftest import libpq
from tests.factories import hold, new, new_id, post
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine, server_clock
from worker.reading import accounts, effective, open_holds, statement
from worker.reading.reader import reader
from worker.reading.statement import ENTRIES_AT_ONCE
from worker.reading.transfers import FEW, Query, find_ledger, transfers

COUNT = 50_000
GROUP = 5_000
SHOP = "5409000a-0000-4000-8000-000000000000"
"""An account with a side in every fifth transfer; the other 400 share the rest."""
BOOKED = datetime(2020, 1, 1, tzinfo=UTC)
TOMORROW = datetime.now(UTC) + timedelta(days=1)
HOLDS = 2_000
"""The shop is a side of every tenth; every other one of those is voided."""
NOT_OURS = ("clock_timestamp", "set_config", "FROM equipoise.ledgers", "min_balance")
"""What statements have that ask no question of the history: the time, settings, the ledger, the account itself."""


def fill(database_url: str) -> None:
    """Settle the history: fees, some payouts, orders, large amounts, and dates of some day before."""
    dice = Random(1)
    others = [str(UUID(int=dice.getrandbits(128), version=4)) for _ in range(400)]
    engine = committing_engine(database_url)
    settle = Settlement(engine)
    settle([OpenLedger(id=new_id(), ledger="shop", currency="EUR", scale=2)])
    settle([OpenAccount(id=new_id(), account_id=id, ledger="shop", min_balance=None) for id in (SHOP, *others)])
    for start in range(0, COUNT, GROUP):
        commands = [a_transfer(number, others, dice) for number in range(start, start + GROUP)]
        assert {outcome["status"] for outcome in settle(commands)} == {"applied"}
    holds = [a_hold(number, others, dice) for number in range(HOLDS)]
    settle(holds)
    settle([new(VoidTransfer, hold_id=held.id) for held in holds[::20]])
    engine.dispose()
    with psycopg.connect(libpq(database_url), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE equipoise.transfers, equipoise.holds, equipoise.accounts, equipoise.ledgers")


def a_transfer(number: int, others: list[str], dice: Random) -> Any:
    source, destination = dice.sample(others, 2)
    said: dict[str, Any] = {}
    if number % 5 == 0:
        source, destination = dice.choice([(SHOP, destination), (source, SHOP)])
    if number % 10 == 0:
        said["kind"] = "payout" if number % 5_000 == 0 else "fee"
    if number % 4 == 0:
        said["metadata"] = {"order": str(number), "channel": dice.choice(["web", "app"])}
    if number % 20 == 0:
        said["effective_at"] = BOOKED + timedelta(seconds=number)
    amount = 1_000_000 + number if number % 4_000 == 7 else dice.randint(1, 10_000)
    return post(source, destination, amount, **said)


def a_hold(number: int, others: list[str], dice: Random) -> HoldTransfer:
    source, destination = dice.sample(others, 2)
    if number % 10 == 0:
        source, destination = dice.choice([(SHOP, destination), (source, SHOP)])
    return hold(source, destination, 1, expires_in_s=86_400 + number)


@dataclass(frozen=True)
class Question:
    """What is asked, as on the command line; `rows` that are returned, and the most that may be `read` for them."""

    command: str
    ask: Callable[[Engine], list[Any]]
    rows: int
    read: int
    moments: bool = False
    """Whether the look-ups by which a time's place is found belong to what is shown."""


def looking(limit: int = 50, **asked: Any) -> Callable[[Engine], list[Any]]:
    def ask(engine: Engine) -> list[Any]:
        with engine.connect() as connection:
            ledger = find_ledger(connection, "shop")
            assert ledger is not None
            side = accounts.find(connection, [SHOP])[SHOP] if asked.get("account") else None
        return list(transfers(engine, Query(ledger, **asked | {"account": side}), limit))

    return ask


def stated_at(engine: Engine) -> list[Any]:
    found = statement.statement(engine, SHOP, datetime.now(UTC))
    assert found is not None
    return [found]


def stated_effective(moment: datetime, *, listed: int) -> Callable[[Engine], list[Any]]:
    def ask(engine: Engine) -> list[Any]:
        found = effective.effective_statement(engine, SHOP, moment)
        assert found is not None
        return list(islice(effective.entries(engine, found), listed)) or [found]

    return ask


def held(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        now = server_clock(connection)
        accounts.find(connection, [SHOP], now)
        return list(open_holds.find(connection, [SHOP], now)[SHOP].holds)


LOOK_UPS = 17
"""Halvings of 50,000, each one look-up in a ledger and two in an account, on either side."""
ASKED_WHETHER_FEW = FEW + 1
"""What is read where there are too many to pick from."""

# `read` is arithmetic about the history above, and where chance places the matches half as much again.
QUESTIONS = {
    "A ledger's newest": Question("transfers --ledger shop", looking(), 50, read=50),
    "An account's newest": Question(
        f"transfers --account {SHOP}", looking(account=True), 50,
        read=50 + 2 + 2 * 2 * LOOK_UPS,  # the page, one ahead on each side to merge them, and both ends of the span
    ),
    "A time": Question(
        "transfers --ledger shop --until TIME", looking(until=TOMORROW), 50, read=50 + LOOK_UPS, moments=True
    ),
    "A kind": Question("transfers --ledger shop --kind fee", looking(kind="fee"), 50, read=50),
    "A rare kind of an account's": Question(
        f"transfers --account {SHOP} --kind payout", looking(account=True, kind="payout"), 10,
        read=10 + 2 * 10 + 2 * 2 * LOOK_UPS,  # looked up, picked on either side; both ends of the span
    ),
    "Metadata": Question(
        "transfers --ledger shop --metadata order=40000", looking(metadata='{"order": "40000"}'), 1,
        read=1 + 1,  # looked up and picked
    ),
    "Metadata that many have": Question(
        "transfers --ledger shop --metadata channel=web", looking(metadata='{"channel": "web"}'), 50,
        read=ASKED_WHETHER_FEW + 50 * 8 * 3 // 2,  # one in eight is walked to
    ),
    "A large amount": Question(
        "transfers --ledger shop --min-amount 10000", looking(amounts=(1_000_000, 10**15)), 13, read=13 + 13
    ),
    "An amount": Question("transfers --ledger shop --amount 12.50", looking(amounts=(1_250, 1_250)), 10, read=10 + 10),
    "An amount that many have": Question(
        "transfers --ledger shop --max-amount 50", looking(amounts=(1, 5_000)), 50,
        read=ASKED_WHETHER_FEW + 50 * 2 * 3 // 2,  # one in two
    ),
    "An account at a time": Question(
        f"statement {SHOP} --at TIME --balance", stated_at, 1, read=1 + 2 * LOOK_UPS, moments=True
    ),
    "A balance by effective date": Question(
        f"statement {SHOP} --effective 2020-01-01T05:00:00Z --balance",
        stated_effective(BOOKED + timedelta(hours=5), listed=0), 1,
        read=5 * 3_600 // 20 + 1 + 2 * LOOK_UPS,  # all that is dated by then, one in 20 s: they were committed later
    ),
    "Entries by effective date": Question(
        f"statement {SHOP} --effective TIME", stated_effective(TOMORROW, listed=50), 50,
        # A page of the three in four that are undated, past the others; one of the dated; the place of the time.
        read=ENTRIES_AT_ONCE * 4 // 3 + ENTRIES_AT_ONCE + 2 * LOOK_UPS,
    ),
    "Open holds": Question(
        f"account {SHOP} --holds", held, 100,
        read=HOLDS // 10 // 2,  # every one that is pending, none that has ended
    ),
}  # fmt: skip


def plans(engine: Engine, question: Question, options: str) -> list[Any]:
    """Ask, and give the plan of each statement that this took, made and run in the same way once more."""
    with _overheard(engine) as statements:
        question.ask(engine)
    with engine.connect() as connection:
        return [plan for statement, values in statements for plan in _plan(connection, statement, values, options)]


@contextmanager
def _overheard(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    heard: list[tuple[str, Any]] = []

    def hear(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        heard.append((statement, values))

    event.listen(engine, "before_cursor_execute", hear)
    yield heard
    event.remove(engine, "before_cursor_execute", hear)


def _plan(connection: Connection, statement: str, values: Any, options: str) -> Iterator[Any]:
    if any(name in statement for name in NOT_OURS):
        connection.exec_driver_sql(statement, values)
    else:
        rows = connection.exec_driver_sql(f"EXPLAIN ({options}) {statement}", values).scalars().all()
        yield rows[0] if "JSON" in options else "\n".join(rows)


def shown(engine: Engine, question: Question) -> str:
    """Give the plans as the page shows them: each once, and without what is another's at every run."""
    told = [plan for plan in plans(engine, question, "COSTS OFF") if question.moments or "halving" not in plan]
    plain = re.sub(r"'[^']*'::timestamp[a-z ]*", "TIME", "\n\n".join(dict.fromkeys(told)))
    return re.sub(r"'(\d+)'::(?:small|big)int", r"\1", re.sub(r"'\{[^']*\}'", "'{…}'", plain))


if __name__ == "__main__":
    fill(sys.argv[1])
    with reader(sys.argv[1]) as engine:
        for title, question in QUESTIONS.items():
            told = shown(engine, question)
            print(f"## {title}\n\n```sh\nequipoise {question.command}\n```\n\n```\n{told}\n```\n")
