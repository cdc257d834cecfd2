"""Three ways to send a file: without waiting, waiting for each outcome, and each line decided before the next.

All of them stream: a file of any length is sent in little memory, and what somebody types into a pipe is sent at once.
Answers come in the order of the lines, in bursts, each of which is worth flushing.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Final

from worker.sending.answers import Answer, Place, Result, Results, answer, member_answer
from worker.sending.lines import Line, Reader
from worker.sending.messages import Message, Publisher, batch, message

MAX_OUTSTANDING: Final = 10_000
MAX_OUTSTANDING_BYTES: Final = 32 * 1024 * 1024
"""Lines that are on their way: a second's work of a worker, and what their outcomes may take in memory, twice that."""

RESULTS_AT_ONCE: Final = 1_000
MAX_PACK: Final = 1_000
"""Lines decided together where order counts: past that a transaction gains little."""

FIRST_LOOK_S: Final = 0.001
LONGEST_LOOK_S: Final = 0.05
"""How soon a result is looked for after the last one came, and how seldom while none comes: a person waits for it."""

IDLE_S: Final = 1.0
"""With nothing on its way: `select` returns as soon as there is a line, so this costs nobody any time."""


class NoAnswer(Exception):
    """Nothing was answered for too long; the message says which line waits."""


@dataclass(slots=True)
class _Outstanding:
    place: Place
    task_id: str
    bytes: int
    result: Result | None = None


def send(reader: Reader, publisher: Publisher) -> Iterator[int]:
    """Send every line; give, now and then, how many lines went out since."""
    while not reader.at_end:
        lines = reader.read()
        publisher.publish([message(line, wants_result=False) for line in lines])
        yield len(lines)


def send_and_wait(reader: Reader, publisher: Publisher, results: Results, timeout_s: float) -> Iterator[list[Answer]]:
    """Send every line, and give the answers in the order of the lines.

    Raises NoAnswer where for `timeout_s` nothing at all was sent or answered.
    """
    outstanding: deque[_Outstanding] = deque()
    patience = _Patience(timeout_s)
    while not reader.at_end or outstanding:
        if _has_room(outstanding) and not reader.at_end:
            if reader.ready(patience.look_s if outstanding else IDLE_S):
                outstanding.extend(_publish(reader.read(), publisher))
                patience.restart()
        else:
            sleep(patience.look_s)
        if not outstanding:
            continue
        _look(outstanding, results, patience)
        if outstanding[0].result is not None:
            yield list(_take_answered(outstanding))
        patience.check(outstanding)


def send_in_order(reader: Reader, publisher: Publisher, results: Results, timeout_s: float) -> Iterator[list[Answer]]:
    """Send every line once the one before is decided, and give the answers. Raises NoAnswer, as above.

    Neighbours share a message as a batch, inside which list order is decision order.
    """
    while not reader.at_end:
        for pack in _packs(reader.read()):
            yield from _decide(pack, publisher, results, timeout_s)


def _decide(pack: Sequence[Line], publisher: Publisher, results: Results, timeout_s: float) -> Iterator[list[Answer]]:
    places = [Place.of(line) for line in pack]
    one = message(pack[0], wants_result=True) if len(pack) == 1 else batch(pack, wants_result=True)
    result = _wait(one, places[0], publisher, results, timeout_s)
    if len(pack) == 1:
        yield [answer(places[0], result)]
    elif result.outcome is not None:
        told = zip(places, result.outcome["outcomes"], strict=True)
        yield [member_answer(place, outcome) for place, outcome in told]
    else:
        # The message as a whole is a dead letter, so nothing of it was decided: each line shall have its own reason.
        for line in pack:
            yield from _decide([line], publisher, results, timeout_s)


def _wait(one: Message, place: Place, publisher: Publisher, results: Results, timeout_s: float) -> Result:
    publisher.publish([one])
    outstanding = deque([_Outstanding(place, one.task_id, len(one.body))])
    patience = _Patience(timeout_s)
    while (result := outstanding[0].result) is None:
        sleep(patience.look_s)
        _look(outstanding, results, patience)
        patience.check(outstanding)
    return result


def _packs(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Put neighbours that may share a message together; the others go alone, in their turn."""
    pack: list[Line] = []
    for line in lines:
        if pack and not (line.may_share and pack[-1].may_share and len(pack) < MAX_PACK):
            yield pack
            pack = []
        pack.append(line)
    if pack:
        yield pack


def _publish(lines: Sequence[Line], publisher: Publisher) -> list[_Outstanding]:
    messages = [message(line, wants_result=True) for line in lines]
    publisher.publish(messages)
    return [_Outstanding(Place.of(line), one.task_id, len(one.body)) for line, one in zip(lines, messages, strict=True)]


def _has_room(outstanding: deque[_Outstanding]) -> bool:
    return len(outstanding) < MAX_OUTSTANDING and sum(one.bytes for one in outstanding) < MAX_OUTSTANDING_BYTES


def _look(outstanding: deque[_Outstanding], results: Results, patience: "_Patience") -> None:
    """Read the results that have arrived for the lines that come next."""
    wanted = {one.task_id: one for one, _ in zip(outstanding, range(RESULTS_AT_ONCE), strict=False) if not one.result}
    arrived = results.arrived(list(wanted)) if wanted else {}
    for task_id, result in arrived.items():
        wanted[task_id].result = result
    if arrived:
        patience.restart()
    else:
        patience.wait_longer()


def _take_answered(outstanding: deque[_Outstanding]) -> Iterator[Answer]:
    while outstanding and outstanding[0].result is not None:
        first = outstanding.popleft()
        assert first.result is not None
        yield answer(first.place, first.result)


class _Patience:
    """How long to wait before the next look, and when to give up."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.restart()

    def restart(self) -> None:
        """Something happened: look again soon."""
        self.look_s = FIRST_LOOK_S
        self._since = monotonic()

    def wait_longer(self) -> None:
        """Nothing happened: look less often."""
        self.look_s = min(self.look_s * 2, LONGEST_LOOK_S)

    def check(self, outstanding: Sequence[_Outstanding] | deque[_Outstanding]) -> None:
        """Give up if nothing has happened for too long, though something is outstanding."""
        if outstanding and monotonic() - self._since > self._timeout_s:
            raise NoAnswer(
                f"no answer for {self._timeout_s:g} s: line {outstanding[0].place.number} and perhaps more were sent"
                " and wait in the queue; is a worker running?"
            )
