"""Decide a group: each item in order, duplicates answered, chains whole or not at all. No database here.

A group equals its commands one by one: what an item finds decided by an earlier item of its group is
exactly what it would have found in the inbox had that item come in a group of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from models import outcomes
from models.commands import Batch, Command, Member
from models.content import first_difference
from models.dead_letters import DeadLetter
from models.outcomes import Outcome
from models.statuses import Status
from worker.engine.inbox import Known

Item: TypeAlias = Command | Batch | DeadLetter
"""What a message becomes at the door."""


class Work(Protocol):
    """The families' states, behind the three things that deciding needs."""

    def decide(self, command: Command, decided_at: str) -> Outcome:
        """Let the command's family decide it."""
        ...

    def mark(self) -> Any:
        """Name this moment in every family."""
        ...

    def undo(self, mark: Any) -> None:
        """Take back everything since `mark` in every family."""
        ...


def answer(first: Known, command: Command | Batch) -> Outcome:
    """Answer a command whose id was used before: by the first outcome, if it is the same command."""
    content = first.content()
    field = first_difference(content, command)
    if field == "commands" and isinstance(command, Batch):
        malformed = _malformed(first.outcome["outcomes"])
        if malformed and command.digest_with(malformed) == content["commands"]:
            return first.outcome
    return first.outcome if field is None else outcomes.id_reused(command, field, first.outcome["decided_at"])


def _malformed(nested: Sequence[Outcome | list[Outcome]]) -> set[str]:
    """Name the places of a batch's members that were malformed when it was decided."""
    places: dict[str, Outcome] = {}
    for place, entry in enumerate(nested):
        if isinstance(entry, list):
            places |= {f"{place}.{step}": member for step, member in enumerate(entry)}
        else:
            places[str(place)] = entry
    return {place for place, member in places.items() if member["status"] == Status.MALFORMED}


class Desk:
    """Decides one group's items in turn; afterwards `fresh` and `letters` are what is to be written."""

    def __init__(self, known: Mapping[str, Known], work: Work, decided_at: str) -> None:
        self.fresh: dict[str, Known] = {}
        self.letters: list[DeadLetter] = []
        self._known = dict(known)
        self._work = work
        self._decided_at = decided_at

    def decide(self, item: Item) -> Outcome:
        """Give an item's outcome: the first one its id ever got, or a new verdict."""
        if isinstance(item, Batch):
            return self._batch(item)
        return self._member(item)

    def _member(self, member: Member) -> Outcome:
        if isinstance(member, DeadLetter):
            self.letters.append(member)
            return outcomes.malformed(member)
        answered = self._answered(member)
        if answered is not None:
            return answered
        mark = self._work.mark() if member.dry_run else None
        outcome = self._work.decide(member, self._decided_at)
        if member.dry_run:
            self._work.undo(mark)
            return outcome
        self._known[member.id] = self.fresh[member.id] = Known(outcome, member)
        return outcome

    def _answered(self, command: Command | Batch) -> Outcome | None:
        first = self._known.get(command.id)
        return None if first is None else answer(first, command)

    def _batch(self, batch: Batch) -> Outcome:
        answered = self._answered(batch)
        if answered is not None:
            return answered
        return self._tried(batch) if batch.dry_run else self._new_batch(batch)

    def _tried(self, batch: Batch) -> Outcome:
        """Decide a batch without a trace: whatever it does is taken back, in the families and here."""
        mark, known, fresh, letters = self._work.mark(), dict(self._known), dict(self.fresh), list(self.letters)
        outcome = self._new_batch(batch)
        self._work.undo(mark)
        self._known, self.fresh, self.letters = known, fresh, letters
        return outcome

    def _new_batch(self, batch: Batch) -> Outcome:
        # The batch's id is taken before its members look: none of them can have it.
        placeholder = outcomes.decided(batch.id, batch.type, Status.APPLIED.value, self._decided_at)
        self._known[batch.id] = Known(placeholder, batch)
        nested = [self._chain(entry) if isinstance(entry, tuple) else self._member(entry) for entry in batch.commands]
        outcome = outcomes.decided(batch.id, batch.type, Status.APPLIED.value, self._decided_at, {"outcomes": nested})
        self._known[batch.id] = self.fresh[batch.id] = Known(outcome, batch)
        return outcome

    def _chain(self, members: Sequence[Member]) -> list[Outcome]:
        """Apply all members or none. Only the refused one uses its id up; wholly known, it is a redelivery."""
        known = [isinstance(member, Command) and member.id in self._known for member in members]
        ids = [member.id for member in members]
        if all(known):
            return [self._member(member) for member in members]
        if any(known) or len(set(ids)) < len(ids) or any(isinstance(member, DeadLetter) for member in members):
            return [
                self._member(member) if is_known or isinstance(member, DeadLetter) else self._chain_failed(member)
                for member, is_known in zip(members, known, strict=True)
            ]
        mark = self._work.mark()
        verdicts: list[Outcome] = []
        for member in members:
            verdicts.append(self._member(member))
            if verdicts[-1]["status"] != Status.APPLIED:
                break
        else:
            return verdicts
        self._work.undo(mark)
        refused = len(verdicts) - 1
        for member in members[:refused]:
            if not (isinstance(member, Command) and member.dry_run):
                del self._known[member.id], self.fresh[member.id]
        return [
            verdicts[refused] if place == refused else self._chain_failed(member)
            for place, member in enumerate(members)
        ]

    def _chain_failed(self, member: Member) -> Outcome:
        assert isinstance(member, Command)
        return outcomes.decided(member.id, member.type, Status.CHAIN_FAILED.value, self._decided_at)
