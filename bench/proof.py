"""`make bench-proof`: how long the proof of the books takes, and in how much memory, as the journal grows.

Books of a tenth of the transfers and of all of them, written by the engine without a queue; each is proved by
`equipoise verify` in a process of its own. That memory is bounded shows in the two peaks.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import create_engine, text

from bench import works
from models.commands import PostTransfer
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine
from worker.stack.stack import Stack

TRANSFERS = 1_000_000
GROUP = 8_000  # near the largest that a worker makes (10,000)
SIZE = text(
    "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname IN ('transfers', 'inbox') AND relkind = 'r'"
)


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof of so many transfers: how fast they were written and proved, and what both took."""

    transfers: int
    written_per_s: float
    proved_per_s: float
    bytes_per_transfer: float
    peak_mib: float


def main(transfers: Annotated[int, typer.Option(help="How many there are in the end.")] = TRANSFERS) -> None:
    """Write the books, prove them twice, and print both."""
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="equipoise-bench-") as folder,
        Stack(Path(folder)) as stack,
        Progress(console=console, transient=True) as progress,
    ):
        task = progress.add_task("writing and proving", total=transfers)
        proofs = measure(stack.database_url, transfers, lambda count: progress.update(task, completed=count))
    console.print(table(proofs))


def measure(database_url: str, transfers: int, written: Callable[[int], None]) -> list[Proof]:
    """Write and prove a tenth, then the whole."""
    dice = Random(transfers)
    url = works._fresh_database(database_url)
    accounts = works._open_accounts(url, dice)
    ids = works._ids_of_7(dice)
    engine = committing_engine(url)
    settle = Settlement(engine)
    count, proofs = 0, []
    for goal in (transfers // 10, transfers):
        seconds, before = 0.0, count
        while count < goal:
            group = [
                PostTransfer(**works._transfer(next(ids), accounts, dice, hot=False))
                for _ in range(min(GROUP, goal - count))
            ]
            began = time.monotonic()
            settle(group)
            seconds += time.monotonic() - began
            count += len(group)
            written(count)
        proofs.append(prove(url, count, (count - before) / seconds))
    engine.dispose()
    return proofs


def prove(url: str, count: int, written: float) -> Proof:
    """Prove the books in a process of its own."""
    command = [sys.executable, "-P", "-m", "worker.cli", "verify", "--json"]
    environment = os.environ | {"EQUIPOISE_DATABASE_URL": url, "EQUIPOISE_BROKER_URL": "redis://127.0.0.1/0"}
    began = time.monotonic()
    ended = subprocess.run(command, env=environment | {"PYTHONPATH": str(works.ROOT)}, capture_output=True, check=True)
    seconds = time.monotonic() - began
    verdict = json.loads(ended.stdout)
    assert (verdict["sound"], verdict["transfers"]) == (True, count)
    engine = create_engine(url)
    with engine.connect() as connection:
        size = int(connection.execute(SIZE).scalar_one())
    engine.dispose()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Proof(count, written, count / seconds, size / count, peak)


def table(proofs: list[Proof]) -> Table:
    """Lay out the proofs, one a line."""
    laid = Table("transfers", title="The proof of the books, on one machine in one run")
    for heading in ("written", "proved", "proved / written", "bytes a transfer", "peak memory"):
        laid.add_column(heading, justify="right")
    for proof in proofs:
        laid.add_row(
            f"{proof.transfers:,}",
            f"{proof.written_per_s:,.0f}/s",
            f"{proof.proved_per_s:,.0f}/s",
            f"{proof.proved_per_s / proof.written_per_s:.1f}",
            f"{proof.bytes_per_transfer:.0f}",
            f"{proof.peak_mib:.0f} MiB",
        )
    return laid


if __name__ == "__main__":
    typer.run(main)
