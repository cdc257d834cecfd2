"""`make bench`: measure each work in interleaved rounds on the same servers, and hold it against the naive worker.

A *work* is a line of the table; its *contenders* are the ways to do it, of which the best counts (the naive worker has
three pools). A contender is a function of the servers that makes its own tables, fills the queue, times the drain,
checks the books, and returns a rate: all that this module knows of Equipoise's works or of the naive ones. Interleaved,
since a machine's mood changes by the minute, and medians, since it changes by the second.

Adding a work is adding a line to `WORKS`.
"""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import make_url

from bench import works
from bench.naive import run as naive
from worker.stack.stack import Stack

ROUNDS = 3  # the fewest whose median ignores one bad round
BASELINE = "naive"
NAIVE_TRANSFERS = 2_000  # some 10 s a round
NAIVE_HOT_TRANSFERS = 500  # half of its attempts conflict, hence fewer


@dataclass(frozen=True, slots=True)
class Servers:
    """Where to measure: the same for all works. The naive worker's broker database is its own."""

    database_url: str  # postgresql+psycopg://
    broker_url: str
    naive_broker_url: str


Contender = Callable[[Servers], float]


@dataclass(frozen=True, slots=True)
class Work:
    name: str
    contenders: Mapping[str, Contender]
    unit: str = "transfers/s"


@dataclass(frozen=True, slots=True)
class Rate:
    """A line of `bench.json`; other programs read it."""

    work: str
    rate: float
    unit: str
    ratio_to_naive: float


def _naive(pool: naive.Pool, count: int, servers: Servers, *, hot: bool) -> float:
    return naive.measure(servers.database_url, servers.naive_broker_url, pool, count, hot=hot)


def _ours(count: int, servers: Servers, *, batch: int = 1, hot: bool = False, time_ordered: bool = True) -> float:
    return works.measure(
        servers.database_url, servers.broker_url, count, batch=batch, hot=hot, time_ordered=time_ordered
    )


# In the table's order.
WORKS: tuple[Work, ...] = (
    Work(BASELINE, {str(pool): partial(_naive, pool, NAIVE_TRANSFERS, hot=False) for pool in naive.POOLS}),
    Work("single", {"threads": partial(_ours, 30_000)}),
    Work("batch_100", {"threads": partial(_ours, 60_000, batch=100)}),
    Work("batch_1000", {"threads": partial(_ours, 100_000, batch=1_000)}),
    Work("batch_1000_v4", {"threads": partial(_ours, 100_000, batch=1_000, time_ordered=False)}),  # random ids
    Work("hot", {"threads": partial(_ours, 30_000, hot=True)}),
    Work("hot_naive", {str(pool): partial(_naive, pool, NAIVE_HOT_TRANSFERS, hot=True) for pool in naive.POOLS}),
)

Measured = dict[tuple[str, str], list[float]]  # rates by work and contender, one a round


def measure(works: tuple[Work, ...], servers: Servers, rounds: int, done: Callable[[str], None]) -> Measured:
    """Measure every contender once a round, so that a slow minute falls on all of them; call `done` after each."""
    rates: Measured = {(work.name, name): [] for work in works for name in work.contenders}
    for _ in range(rounds):
        for work in works:
            for name, contender in work.contenders.items():
                rates[work.name, name].append(contender(servers))
                done(f"{work.name}: {name}")
    return rates


def best(work: Work, rates: Measured) -> tuple[float, str]:
    """Return the highest median of a work's contenders, and whose it is."""
    return max((median(rates[work.name, name]), name) for name in work.contenders)


def summarise(works: tuple[Work, ...], rates: Measured) -> list[Rate]:
    """Return a line a work, in the same order. The baseline must be among them."""
    by_work = {work.name: best(work, rates)[0] for work in works}
    return [
        Rate(work.name, round(by_work[work.name], 1), work.unit, round(by_work[work.name] / by_work[BASELINE], 2))
        for work in works
    ]


def table(works: tuple[Work, ...], rates: Measured, summary: list[Rate]) -> Table:
    """Lay out the summary, with the spread of the rounds beside each median: a ratio is as good as it is narrow."""
    laid = Table("work", "best as", title=f"Ratios of one run on one machine, to the best {BASELINE} worker")
    for heading in ("rate", "rounds", f"ratio to {BASELINE}"):
        laid.add_column(heading, justify="right")
    for work, line in zip(works, summary, strict=True):
        winner = best(work, rates)[1]
        rounds = rates[work.name, winner]
        laid.add_row(
            work.name,
            winner,
            f"{line.rate:,.0f} {line.unit}",
            f"{min(rounds):,.0f} to {max(rounds):,.0f}",
            f"{line.ratio_to_naive:.2f}",
        )
    return laid


@contextmanager
def servers(database_url: str | None, broker_url: str | None) -> Iterator[Servers]:
    """Give the servers that are named, or an embedded stack for as long as the block lasts."""
    if database_url and broker_url:
        yield Servers(database_url, broker_url, _other_database(broker_url))
        return
    with tempfile.TemporaryDirectory(prefix="equipoise-bench-") as folder, Stack(Path(folder)) as stack:
        yield Servers(stack.database_url, stack.broker_url, _other_database(stack.broker_url))


def _other_database(broker_url: str) -> str:
    """Name another database of the same Redis: stock kombu keeps what is unacknowledged under one name for all."""
    if broker_url.startswith("redis+socket://"):
        return f"{broker_url.partition('?')[0]}?virtual_host=9"
    return make_url(broker_url).set(database="9").render_as_string(hide_password=False)


def main(
    database_url: Annotated[str | None, typer.Option(envvar="EQUIPOISE_DATABASE_URL")] = None,
    broker_url: Annotated[str | None, typer.Option(envvar="EQUIPOISE_BROKER_URL")] = None,
    rounds: int = ROUNDS,
    output: Path = Path("bench.json"),
) -> None:
    """Measure all works, print the table, and write `bench.json`. Starts its own servers where none are named."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a worker is ended then, too
    console = Console()
    with servers(database_url, broker_url) as where, Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=rounds * sum(len(work.contenders) for work in WORKS))
        rates = measure(WORKS, where, rounds, lambda finished: progress.update(task, advance=1, description=finished))
    summary = summarise(WORKS, rates)
    console.print(table(WORKS, rates, summary))
    output.write_text(json.dumps([asdict(line) for line in summary], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
