"""From commands to outcomes: the one function behind which "exactly once" is kept.

    lock the ledgers → look the ids up → BEGIN SERIALIZABLE → load what is named → decide each, in order
    → write it all, set-based → COMMIT → unlock

It knows nothing of threads, Celery or brokers; how messages are gathered in front of it can change without
it. One command is a group of one: there is no second path.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from models.books import Ledger
from models.commands import Batch, Command
from models.dead_letters import DeadLetter
from models.outcomes import Outcome, timestamp
from models.statuses import Status
from worker.engine import crash, dead_letters, inbox
from worker.engine.decide import Desk, Item, answer
from worker.engine.directory import Directory, commands_of
from worker.engine.families import Family, State
from worker.engine.inbox import Known
from worker.engine.journal import Journal
from worker.postgres.engines import OUTSIDE_TRANSACTIONS, SERIALIZABLE, server_clock
from worker.postgres.failures import is_passing, sqlstate, violated_key
from worker.postgres.locks import ledgers_locked

MAX_ATTEMPTS = 20
MAX_RETRYING_S = 5.0
"""A conflict that outlasts either is no passing one. Under the lock there is none to speak of. Without it one of all
writers commits each time, and twenty attempts with growing waits in between see some fifty others through."""

# Full jitter: two losers of one conflict must not meet again. From one small transaction (2 ms) to one of the largest.
_WAIT = wait_random_exponential(multiplier=0.002, max=0.25)

PATIENCE_MS = 2_000
"""How long a ledger's lock is waited for: eight of the largest groups, of a quarter of a second each."""

DEFAULT_FAMILIES: tuple[Family, ...] = (Journal(),)


class Settlement:
    """Settles groups of items against one database. May be used by one thread at a time.

    `lock=False` leaves the ledgers' locks alone, for databases that have none: all laws hold, at a price in
    conflicts. `isolation` and `begin_again` are there to be weakened by the tests that show what they are for.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        families: Sequence[Family] = DEFAULT_FAMILIES,
        lock: bool = True,
        isolation: str = SERIALIZABLE,
        begin_again: Callable[[BaseException], bool] | None = None,
        clock: Callable[[Connection], datetime] = server_clock,
    ) -> None:
        self.engine = engine
        self._directory = Directory()
        self.retries: Counter[str] = Counter()
        """Attempts that were begun again, by SQLSTATE ("lost" where a connection broke)."""
        self._family_of = {command: family for family in families for command in family.commands}
        self._decided: dict[str, Known] = {}
        self._violated: str | None = None
        """The key that the attempt before has violated."""
        self._is_passing = begin_again or is_passing
        self._lock = lock
        self._isolation = isolation
        self._clock = clock
        self._retrying = Retrying(
            retry=retry_if_exception(self._begins_again),
            wait=_WAIT,
            stop=stop_after_attempt(MAX_ATTEMPTS) | stop_after_delay(MAX_RETRYING_S),
            before_sleep=self._count,
            reraise=True,
        )

    def __call__(
        self, items: Sequence[Item], *, ledgers: frozenset[str] | None = None, patience_ms: int = PATIENCE_MS
    ) -> list[Outcome]:
        """Give one outcome an item, in the items' order, all of them committed.

        `ledgers` are those that the items work on, if the caller has asked for them already.
        Raises LedgerBusy where another worker keeps a ledger for longer than `patience_ms`; the database's
        own error where `failures` calls it anything but a passing conflict, or where a conflict outlasts its
        budget. Then nothing of the group was written, except when a connection broke during COMMIT: call
        again, and the ids tell.
        """
        self._violated = None
        return self._retrying(self._attempt, items, self._to_lock(items, ledgers), patience_ms)

    def known(self, items: Sequence[Item]) -> list[Outcome | None]:
        """Give the outcomes of the items that were decided before, None for the others; decides nothing."""
        found = self._retrying(self._find, items)
        return [
            answer(found[item.id], item) if item.id in found and not isinstance(item, DeadLetter) else None
            for item in items
        ]

    def applied_types(self) -> set[str]:
        """Name the types of which the last call has newly applied a command; a batch counts by its members."""
        applied = (known for known in self._decided.values() if known.outcome["status"] == Status.APPLIED)
        return {known.outcome["type"] for known in applied if not isinstance(known.source, Batch)}

    def ledgers(self, items: Sequence[Item]) -> list[frozenset[str]]:
        """Name the ledgers that each item works on, as far as they are there yet."""
        return self._retrying(self._directory.ledgers, items, self._outside_transactions)

    def reachable(self) -> bool:
        """Whether the database answers."""
        try:
            with self._outside_transactions() as connection:
                server_clock(connection)
        except DBAPIError:
            return False
        return True

    def _to_lock(self, items: Sequence[Item], ledgers: frozenset[str] | None) -> frozenset[str]:
        if not self._lock:
            return frozenset()
        return frozenset[str]().union(*self.ledgers(items)) if ledgers is None else ledgers

    def _attempt(self, items: Sequence[Item], ledgers: frozenset[str], patience_ms: int) -> list[Outcome]:
        with (
            self._outside_transactions() as connection,
            ledgers_locked(connection, ledgers, patience_ms),
        ):
            commands = _commands(items)
            known = inbox.find(connection, _ids(items, commands))
            undecided = [command for command in commands if command.id not in known]
            connection.rollback()
            connection.execution_options(isolation_level=self._isolation)
            with connection.begin():
                outcomes = self._decide_and_write(connection, items, known, undecided)
                crash.reached("before_commit")
            crash.reached("after_commit")
        return outcomes

    def _find(self, items: Sequence[Item]) -> dict[str, Known]:
        with self._outside_transactions() as connection:
            return inbox.find(connection, _ids(items, _commands(items)))

    @contextmanager
    def _outside_transactions(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection.execution_options(isolation_level=OUTSIDE_TRANSACTIONS)

    def _decide_and_write(
        self, connection: Connection, items: Sequence[Item], known: dict[str, Known], undecided: Sequence[Command]
    ) -> list[Outcome]:
        work = _Work.load(connection, self._family_of, undecided)
        now = max(filter(None, (self._clock(connection), work.latest)))
        work.catch_up(connection, now)
        decided_at = timestamp(now)
        desk = Desk(known, work, decided_at)
        outcomes = [desk.decide(item) for item in items]
        self._decided = desk.fresh
        crash.reached("decided")
        if desk.fresh:
            rows = inbox.seal(desk.fresh.values(), work.ledger_of)
            work.write(connection, decided_at)
            inbox.store(connection, rows)
        dead_letters.store(connection, desk.letters)
        return outcomes

    def _begins_again(self, error: BaseException) -> bool:
        # Who was first with a key has committed, and the next attempt sees it: violated twice, it was no race.
        before, self._violated = self._violated, violated_key(error)
        return self._is_passing(error) and (before is None or before != self._violated)

    def _count(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self.retries[(error and sqlstate(error)) or "lost"] += 1


class _Work:
    """The states of the families that a group's commands belong to."""

    def __init__(self, states: dict[Family, State], family_of: dict[type[Command], Family]) -> None:
        self._states = states
        self._family_of = family_of

    @classmethod
    def load(
        cls, connection: Connection, family_of: dict[type[Command], Family], commands: Sequence[Command]
    ) -> "_Work":
        named: dict[Family, list[Command]] = {}
        for command in commands:
            named.setdefault(family_of[type(command)], []).append(command)
        return cls({family: family.load(connection, group) for family, group in named.items()}, family_of)

    @property
    def latest(self) -> datetime | None:
        return max((state.latest for state in self._states.values() if state.latest), default=None)

    def catch_up(self, connection: Connection, now: datetime) -> None:
        for family, state in self._states.items():
            family.catch_up(connection, state, now)

    def decide(self, command: Command, decided_at: str) -> Outcome:
        family = self._family_of[type(command)]
        return family.decide(command, self._states[family], decided_at)

    def ledger_of(self, source: Command | Batch) -> Ledger | None:
        """Give the first ledger that a command, or a member of a batch, is sealed in."""
        for command in commands_of(source):
            state = self._states.get(self._family_of[type(command)])
            ledger = None if state is None else state.ledger_of(command)
            if ledger is not None:
                return ledger
        return None

    def mark(self) -> Any:
        return {family: state.mark() for family, state in self._states.items()}

    def undo(self, mark: Any) -> None:
        for family, state in self._states.items():
            state.undo(mark[family])

    def write(self, connection: Connection, decided_at: str) -> None:
        for family, state in self._states.items():
            family.write(connection, state, decided_at)


def _commands(items: Sequence[Item]) -> list[Command]:
    return [command for item in items for command in commands_of(item)]


def _ids(items: Sequence[Item], commands: Sequence[Command]) -> list[str]:
    batches = [item.id for item in items if isinstance(item, Batch)]
    return batches + [command.id for command in commands]
