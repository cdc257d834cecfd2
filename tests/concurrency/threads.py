"""Several settlements at once: a thread and an engine each, as several workers would be."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Barrier
from typing import Any, TypeVar

from models.outcomes import Outcome
from worker.engine.decide import Item
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine
from worker.postgres.failures import is_passing

T = TypeVar("T")

WAIT_S = 60
"""For a barrier: a fuse. Everybody arrives in milliseconds, or the test is wrong."""
MAX_DELIVERIES = 50


@contextmanager
def settlements(database_url: str, count: int, **options: Any) -> Iterator[list[Settlement]]:
    """So many workers."""
    with ExitStack() as exits:
        engines = [committing_engine(database_url, pool_size=1) for _ in range(count)]
        for engine in engines:
            exits.callback(engine.dispose)
        yield [Settlement(engine, **options) for engine in engines]


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Begin all calls at the same moment, each in a thread of its own; give what they return, in their order."""
    start = Barrier(len(calls))

    def call(it: Callable[[], T]) -> T:
        start.wait(WAIT_S)
        return it()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def deliver(settle: Settlement, items: Sequence[Item]) -> list[Outcome]:
    """Settle as the queue does: what a conflict or a busy ledger sent back is delivered again."""
    for _ in range(MAX_DELIVERIES):
        try:
            return settle(items, patience_ms=WAIT_S * 1_000)
        except Exception as error:
            if not is_passing(error):
                raise
    raise AssertionError(f"no outcome after {MAX_DELIVERIES} deliveries")
