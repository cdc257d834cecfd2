"""A file's commands, settled in the file's order: in groups, by the settlement that a worker uses, beside one or not.

    lines → judged → groups → opening balances become transfers → settle → counted

Nothing remembers how far an import has come but the inbox: an import that was interrupted is begun again, and what was
decided gets its outcome from there. A group may touch several ledgers, whose locks it takes in ascending order as any
group does; to keep the file's order is worth more here than that ledgers do not wait for one another.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import psycopg
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from models.commands import Batch
from models.outcomes import Outcome, said
from models.statuses import Status
from worker.engine.decide import Item
from worker.engine.settle import Settlement
from worker.porting import opening
from worker.porting.judging import Judged
from worker.porting.opening import OpeningBalance
from worker.postgres.engines import OUTSIDE_TRANSACTIONS
from worker.postgres.failures import Failure, classify
from worker.reading import accounts

SOUND: Final = "sound"
"""What a dry run calls a line that the contract admits; no verdict."""

GROUP_COMMANDS: Final = 5_000
"""Commands a transaction: see `worker.intake.committer.MAX_GROUP_COMMANDS`. Half of the largest, since a worker beside
an import waits for its groups."""

GROUP_BYTES: Final = 16 * 1024 * 1024
"""A group of the largest commands is cut short by this, and memory is bounded by it."""

PATIENCE_S: Final = 30.0
"""How long an import tries to go on while a ledger is kept by somebody else, or the database restarts."""


_OF_A_LINE: Final = (Failure.COMMAND, Failure.CONFLICT)
"""What one of a group's lines has brought about. A conflict that the settlement has given up on is none that passes."""

Asked: TypeAlias = tuple[Judged | None, Item]
"""What is settled, and the line that asks for it; None: what the import itself needs first."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was not applied: a line, or a command in its batch."""

    line: int
    id: str | None
    type: str | None
    status: str
    detail: str | None

    def as_json(self) -> dict[str, object]:
        """Give it for programs; what is not known is left out."""
        return said(line=self.line, id=self.id, type=self.type, status=self.status, detail=self.detail)


@dataclass(slots=True)
class Settled:
    """What became of some lines. `settled`: how many lines were decided, `known`: of them, before."""

    ends_at: int
    """Where the last of them ends in the file."""
    statuses: Counter[str] = field(default_factory=Counter)
    settled: int = 0
    known: int = 0
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, judged: Judged, outcome: Outcome) -> None:
        """Count a line's outcome; a batch by its members."""
        for told in _each({"id": judged.id, "type": judged.type} | outcome):
            status = told["status"]
            self.statuses[status] += 1
            if status not in (Status.APPLIED, SOUND):
                named = told.get("id"), told.get("type")
                self.refusals.append(Refusal(judged.line.number, *named, status, told.get("detail")))


class Unstorable(Exception):
    """A line can be decided and not be committed, which no rule foresees; the lines before it are committed."""

    def __init__(self, judged: Judged | None, reason: Exception) -> None:
        what = "the account for opening balances" if judged is None else f"line {judged.line.number}"
        super().__init__(f"{what} cannot be committed: {type(reason).__name__}: {str(reason).splitlines()[0]}")


def check(judged: Iterable[Judged]) -> Iterator[Settled]:
    """Judge lines and settle nothing: those that are sound would be decided."""
    for group in _groups(judged):
        told = Settled(group[-1].line.ends_at)
        for one in group:
            told.add(one, _malformed(one) if one.item is None else {"status": SOUND})
        yield told


class Importer:
    """Settles lines in their order. What it gives was committed before it gives it."""

    def __init__(self, settlement: Settlement, *, patience_s: float = PATIENCE_S) -> None:
        self._settle = settlement
        self._opened: set[str] = set()
        """Ledgers whose account for opening balances was seen."""
        self._retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=stop_after_delay(patience_s),
            reraise=True,
        )

    def run(self, judged: Iterable[Judged]) -> Iterator[Settled]:
        """Settle all lines, a group at a time.

        Raises Unstorable; and LedgerBusy or the database's own error where its patience was in vain. Beginning again
        with the first line is always safe, and goes on with the first that was not decided.
        """
        for group in _groups(judged):
            yield self._group(group)

    def _group(self, group: Sequence[Judged]) -> Settled:
        told = Settled(group[-1].line.ends_at)
        asked = list(self._asked(group, told))
        outcomes = self._retrying(self._outcomes, asked)
        for (one, _), (outcome, known) in zip(asked, outcomes, strict=True):
            if one is not None:
                told.settled += 1
                told.known += known
                told.add(one, outcome)
        # What was never asked was counted first; people read refusals by their lines.
        told.refusals.sort(key=lambda refusal: refusal.line)
        return told

    def _asked(self, group: Sequence[Judged], told: Settled) -> Iterator[Asked]:
        """Give what is to be settled, and count the rest at once."""
        ledger_of = self._retrying(self._ledgers_of_openings, group)
        opened = set(self._opened)
        for one in group:
            if one.item is None:
                told.add(one, _malformed(one))
            elif not isinstance(one.item, OpeningBalance):
                yield one, one.item
            elif one.item.account_id not in ledger_of:
                # Not a verdict: once the account is there, the same line can be imported.
                told.add(one, {"status": Status.ACCOUNT_NOT_FOUND.value})
            elif one.item.amount == 0:
                told.add(one, {"status": Status.APPLIED.value})
            else:
                ledger = ledger_of[one.item.account_id]
                if ledger not in opened:
                    opened.add(ledger)
                    yield None, opening.opening(ledger)
                yield one, opening.post(one.item, ledger)

    def _ledgers_of_openings(self, group: Sequence[Judged]) -> Mapping[str, str]:
        """Give the ledgers of the accounts that get opening balances, of those that are there."""
        named = [one.item.account_id for one in group if isinstance(one.item, OpeningBalance)]
        if not named:
            return {}
        with self._settle.engine.connect() as connection:
            connection.execution_options(isolation_level=OUTSIDE_TRANSACTIONS)
            ledger_of = {id: account.ledger for id, account in accounts.find(connection, named).items()}
            new = set(ledger_of.values()) - self._opened
            seen = accounts.find(connection, [opening.account_of(ledger) for ledger in sorted(new)])
        self._opened.update(account.ledger for account in seen.values())
        return ledger_of

    def _outcomes(self, asked: Sequence[Asked]) -> list[tuple[Outcome, bool]]:
        """Give each outcome, and whether it was decided before."""
        items = [item for _, item in asked]
        known = self._settle.known(items)
        if all(known):
            return [(outcome, True) for outcome in known if outcome is not None]
        try:
            outcomes = self._settle(items)
        except Exception as error:
            if classify(error) not in _OF_A_LINE:
                raise
            outcomes = list(self._one_by_one(asked))
        return [(outcome, first is not None) for outcome, first in zip(outcomes, known, strict=True)]

    def _one_by_one(self, asked: Sequence[Asked]) -> Iterator[Outcome]:
        """Settle as far as it can be done, and raise Unstorable for the line that it cannot be done with."""
        for one, item in asked:
            try:
                [outcome] = self._settle([item])
            except Exception as error:
                if classify(error) not in _OF_A_LINE:
                    raise
                raise Unstorable(one, error) from error
            yield outcome


def _groups(judged: Iterable[Judged]) -> Iterator[list[Judged]]:
    """Cut the lines into groups that one transaction settles.

    What opens an account, if it does, is committed before the account's opening balance is looked at: whether it is
    there, and in which ledger, is a fact then, wherever else the file is cut.
    """
    group: list[Judged] = []
    opens: set[str] = set()
    commands = bytes_ = 0
    for one in judged:
        size = len(one.item.members) if isinstance(one.item, Batch) else 1
        is_full = commands + size > GROUP_COMMANDS or bytes_ + len(one.line.content) > GROUP_BYTES
        if group and (is_full or (isinstance(one.item, OpeningBalance) and one.item.account_id in opens)):
            yield group
            group, opens, commands, bytes_ = [], set(), 0, 0
        group.append(one)
        opens.update(opening.accounts_opened_by(one.item))
        commands += size
        bytes_ += len(one.line.content)
    if group:
        yield group


def _may_pass(error: BaseException) -> bool:
    """Whether to try a group again: a ledger in use, a server that restarts. Not what somebody has to mend."""
    if classify(error) in (Failure.BUSY, Failure.LOST):
        return True
    return isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.OperationalError)


def _malformed(judged: Judged) -> Outcome:
    assert judged.detail is not None
    return {"status": Status.MALFORMED.value, "detail": judged.detail}


def _each(told: Any) -> Iterator[Outcome]:
    """Give the outcomes of commands: of a batch those of its members."""
    if isinstance(told, list):
        for one in told:
            yield from _each(one)
    elif "outcomes" in told:
        yield from _each(told["outcomes"])
    else:
        yield told
