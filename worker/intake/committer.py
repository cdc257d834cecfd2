"""The one committing thread: takes what was gathered while the last commit was in flight, and settles it.

    put → lanes (one a ledger) → a group of one lane → settle → answer
                                     ├ ledger busy:   the lane waits, other ledgers go on
                                     ├ outage:        everything goes back to the queue, and claiming pauses
                                     └ a bad command: one by one; dead letter only if others commit around it,
                                                      else it goes to the queue's tail and its lane waits

No timer gathers: a group is what is there. Every way out of here answers a request or puts it back.
"""

import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from threading import Condition, Thread
from time import monotonic

from models.dead_letters import DeadLetter, Reason
from models.outcomes import Outcome
from worker.engine.decide import Item
from worker.engine.directory import commands_of
from worker.engine.settle import PATIENCE_MS, Settlement
from worker.intake.answers import AWAY, Answers
from worker.intake.request import Request
from worker.postgres.failures import Failure, LedgerBusy, classify

log = logging.getLogger(__name__)

MAX_GROUP_COMMANDS = 10_000
"""As many as the largest batch, which is never split. Per command, groups of 1,000 / 2,000 / 4,000 / 8,000 took 1.5 /
1.4 / 1.2 / 1 times as long; one of 10,000 takes a quarter of a second."""

BUSY_RETRY_S = 0.25
"""How often a ledger that another worker holds is looked at again, for at most `BUSY_PATIENCE_MS`."""

BUSY_PATIENCE_MS = 10
"""With the above: what a blocked ledger costs the others, 4 % of the time."""

MAX_WAITING_FOR_A_LEDGER = 1_000
"""Requests kept here for a blocked ledger; more go to the queue's tail, so that others find credit."""

FIRST_OUTAGE_WAIT_S = 0.1
LONGEST_OUTAGE_WAIT_S = 5.0
"""How long everything waits after an outage, and a lane after a failure of its own; doubled each time in a row."""

ONE_BY_ONE_S = 5.0
"""What finding the commands at fault may take, unless it is one that takes longer; other ledgers wait meanwhile."""

_NOBODYS_FAULT = (Failure.OUTAGE, Failure.BUSY, Failure.LOST)
"""What says nothing of any command. A conflict that outlasts its budget does: one of the group may bring it about."""

Lane = frozenset[str]


class CommitterEndedError(RuntimeError):
    """A message came after the committing thread had ended, which only a fault of ours can make happen."""


class Committer(Thread):
    """Settles requests until told to finish. `put` and `finish` may be called from any thread."""

    def __init__(self, settlement: Settlement, answers: Answers) -> None:
        super().__init__(name="committer", daemon=True)
        self.answers = answers
        self.outages = 0
        """Outages in a row; 0 while all is well."""
        self._settle = settlement
        self._arrived: deque[Request] = deque()
        self._changed = Condition()
        self._finishing = False
        self._ended = False
        self._lanes: OrderedDict[Lane, deque[Request]] = OrderedDict()
        self._held: list[Request] = []
        """What is being worked on and not answered yet."""
        self._busy: dict[Lane, float] = {}
        """When a lane that has to wait is looked at again."""
        self._failures: Counter[Lane] = Counter()
        """How often in a row nobody could be committed, of lanes of which that is so."""

        self._proofs: dict[str, set[str]] = {}
        """The types of commands that were applied in a ledger since somebody was suspected."""

    def put(self, request: Request) -> None:
        """Take a request over; it is answered or goes back to its queue.

        Raises CommitterEndedError, for nobody to catch, if the thread is dead: the worker ends with it, rather than
        live on and do nothing, and what it claimed is given back.
        """
        with self._changed:
            if self._ended:
                raise CommitterEndedError("the committing thread has ended; this worker cannot go on")
            self._arrived.append(request)
            self._changed.notify()

    def finish(self, timeout_s: float) -> bool:
        """Settle what is here, then stop; False where that took longer than `timeout_s`."""
        with self._changed:
            self._finishing = True
            self._changed.notify()
        self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        """Settle group after group. However this ends, what is not answered is back in its queue."""
        try:
            while self._wait():
                try:
                    self._sort()
                    lane = self._next_lane()
                    if lane is not None:
                        self._commit(lane)
                except Exception as error:  # noqa: BLE001  # whatever it is, no message may be lost by it
                    self._go_back(error)
        finally:
            with self._changed:
                self._ended = True
            self._put_back(self._drop_all(), at="head")
            self.answers.flush()

    def _wait(self) -> bool:
        """Wait until there is something to do; False once all is done and nothing more will come."""
        with self._changed:
            while not self._arrived:
                if self._finishing and not self._lanes:
                    return False
                ready_in = self._ready_in()
                if ready_in == 0:
                    return True
                if self._finishing:
                    return False
                if not self._changed.wait(ready_in if ready_in is not None else 1.0):
                    self.answers.flush()
            return True

    def _ready_in(self) -> float | None:
        """Say in how many seconds a lane can be worked on; None: there is none."""
        if not self._lanes:
            return None
        now = monotonic()
        return max(0.0, min(self._busy.get(lane, now) - now for lane in self._lanes))

    def _sort(self) -> None:
        """Put what arrived into lanes, one a ledger: an account's ledger never changes."""
        with self._changed:
            self._held.extend(self._arrived)
            self._arrived.clear()
        ledgers = self._settle.ledgers([request.item for request in self._held])
        for request, lane in zip(self._held, ledgers, strict=True):
            self._lanes.setdefault(lane, deque()).append(request)
        self._held.clear()
        for lane in self._busy:
            self._relieve(lane)

    def _next_lane(self) -> Lane | None:
        """Name the lane that has waited longest of those that are not blocked."""
        now = monotonic()
        return next((lane for lane in self._lanes if self._busy.get(lane, now) <= now), None)

    def _take(self, lane: Lane) -> None:
        """Hold the lane's next group. What touches several ledgers takes several locks: it goes alone."""
        waiting = self._lanes[lane]
        self._held = [waiting.popleft()]
        commands = self._held[0].size
        while waiting and len(lane) < 2 and commands + waiting[0].size <= MAX_GROUP_COMMANDS:
            commands += waiting[0].size
            self._held.append(waiting.popleft())
        if waiting:
            self._lanes.move_to_end(lane)
        else:
            del self._lanes[lane]

    def _commit(self, lane: Lane) -> None:
        """Settle the lane's next group, and answer it. Until it is answered it is held."""
        self._take(lane)
        self.answers.started([request for request in self._held if request.time_start is None])
        self._bury_overtaken()
        try:
            self._settle_held(lane)
        except LedgerBusy as busy:
            self._block(lane, busy)

    def _settle_held(self, lane: Lane) -> None:
        try:
            patience_ms = BUSY_PATIENCE_MS if lane in self._busy else PATIENCE_MS
            outcomes = self._settle(_items(self._held), ledgers=lane, patience_ms=patience_ms)
        except Exception as error:
            if classify(error) in _NOBODYS_FAULT:
                raise
            self._one_by_one(lane, error)
        else:
            self._answer(self._held, outcomes)
            if self._failures:
                self._note_proofs(lane)
            self._trust(lane)

    def _answer(self, group: Sequence[Request], outcomes: Sequence[Outcome]) -> None:
        if self.outages:
            log.warning("the database takes commands again")
            self.outages = 0
        self.answers.decided(group, outcomes)
        answered = set(group)
        self._held = [request for request in self._held if request not in answered]

    def _block(self, lane: Lane, busy: LedgerBusy) -> None:
        """Let a lane wait for its ledger; others go on."""
        if lane not in self._busy:
            log.warning("%s; its commands wait, others go on", busy)
        self._busy[lane] = monotonic() + BUSY_RETRY_S
        self._lanes.setdefault(lane, deque()).extendleft(reversed(self._held))
        self._held = []
        self._relieve(lane)

    def _relieve(self, lane: Lane) -> None:
        """Send what a blocked lane holds beyond its share to the queue's tail, so that others find credit."""
        waiting = self._lanes.get(lane, deque())
        surplus = [waiting.pop() for _ in range(len(waiting) - MAX_WAITING_FOR_A_LEDGER)]
        self._put_back(surplus, at="tail")

    def _bury_overtaken(self) -> None:
        """Turn what was revoked or has expired, and was not decided before, into dead letters."""
        overtaken = [(request, reason) for request in self._held if (reason := request.overtaken())]
        if not overtaken:
            return
        known = self._settle.known([request.item for request, _ in overtaken])
        for (request, reason), outcome in zip(overtaken, known, strict=True):
            if outcome is None and not isinstance(request.item, DeadLetter):
                request.bury(reason, f"{reason.value} before it was decided")

    def _one_by_one(self, lane: Lane, error: Exception) -> None:
        """Find the requests that their group cannot be committed with: at fault if others like them commit."""
        log.error("a group of %d failed and is tried one by one", len(self._held), exc_info=error)
        self._failures[lane] += 1
        untried = deque(self._held)
        suspects: dict[Request, str] = {}
        ends = monotonic() + ONE_BY_ONE_S
        if len(untried) == 1:
            suspects[untried.popleft()] = _told(error)
        while untried and monotonic() < ends:
            request = untried.popleft()
            try:
                outcomes = self._settle([request.item], ledgers=lane)
            except Exception as failure:
                if classify(failure) in _NOBODYS_FAULT:
                    raise
                suspects[request] = _told(failure)
            else:
                self._note_proofs(lane)
                self._answer([request], outcomes)
        guilty = [request for request in suspects if self._is_proved_guilty(request, lane)]
        for request in guilty:
            request.bury(Reason.UNFORESEEN, suspects.pop(request))
        self._held = []
        if guilty:
            # What was not tried yet goes first next time, or the same few would use the time up again.
            self._lanes.setdefault(lane, deque()).extendleft(reversed([*guilty, *untried]))
            self._put_back([*suspects], at="tail")
        elif suspects or untried:
            self._wait_for_others(lane, [*untried, *suspects])
        else:
            self._trust(lane)

    def _trust(self, lane: Lane) -> None:
        """Forget what was held against a lane: all of it commits."""
        self._busy.pop(lane, None)
        self._failures.pop(lane, None)
        if not self._failures:
            self._proofs.clear()

    def _note_proofs(self, lane: Lane) -> None:
        """Remember which types of commands can be applied in these ledgers, while somebody is suspected there."""
        applied = self._settle.applied_types()
        for ledger in lane:
            self._proofs.setdefault(ledger, set()).update(applied)

    def _is_proved_guilty(self, request: Request, lane: Lane) -> bool:
        """Whether commands of all its types were applied around it: then it is not the deployment.

        A duplicate or a refusal proves nothing, since neither writes what it would; nor does a dead letter.
        """
        types = {command.type for command in commands_of(request.item)}
        proofs = set[str]().union(*(self._proofs.get(ledger, set()) for ledger in lane))
        return bool(types) and types <= proofs

    def _wait_for_others(self, lane: Lane, requests: Sequence[Request]) -> None:
        """Let those wait of whom it is not known whether they are at fault. In the queue, others will join them."""
        self._busy[lane] = monotonic() + _wait_s(self._failures[lane])
        self._put_back(requests, at="tail")

    def _go_back(self, error: Exception) -> None:
        """Put everything back and claim nothing until the database answers."""
        self.outages += 1
        log.error("everything goes back to the queue and waits (%d in a row)", self.outages, exc_info=error)
        held = self._drop_all()
        sources = {request.source for request in held}
        for source in sources:
            source.pause()
        try:
            self._put_back(held, at="head")
            self._wait_until_reachable(_wait_s(self.outages))
        finally:
            for source in sources:
                source.resume()

    def _wait_until_reachable(self, wait_s: float) -> None:
        """Wait at least `wait_s`, and then until the database answers, unless told to finish."""
        while not self._told_to_finish_within(wait_s) and not self._settle.reachable():
            pass

    def _told_to_finish_within(self, wait_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._finishing, wait_s)

    def _drop_all(self) -> list[Request]:
        """Give up everything that is not answered."""
        with self._changed:
            dropped = [*self._held, *(request for lane in self._lanes.values() for request in lane), *self._arrived]
            self._held.clear()
            self._lanes.clear()
            self._busy.clear()
            self._failures.clear()
            self._proofs.clear()
            self._arrived.clear()
        return dropped

    def _put_back(self, requests: Sequence[Request], at: str) -> None:
        by_source: dict[int, list[Request]] = {}
        for request in requests:
            by_source.setdefault(id(request.source), []).append(request)
            self.answers.returned(request)
        for returned in by_source.values():
            try:
                returned[0].source.restore([request.tag for request in returned], at=at)
            except AWAY as error:
                # They stay claimed, and come back by themselves when their time is up.
                log.error("%d messages could not be put back: %s", len(returned), error)


def _wait_s(times: int) -> float:
    """Say how long to wait after something failed so many times in a row."""
    # Bounded before it is raised: a thousand failures in a row, an hour and a half, would leave float.
    return min(LONGEST_OUTAGE_WAIT_S, FIRST_OUTAGE_WAIT_S * 2.0 ** min(times - 1, 10))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _items(requests: Sequence[Request]) -> list[Item]:
    return [request.item for request in requests]
