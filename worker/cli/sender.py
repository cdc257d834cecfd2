"""The command `send`: the commands of a file, or of a pipe, into the queue; with `--wait` also what came of them."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from worker.cli.files import STANDARD_INPUT, reading, size_of, standard_input
from worker.cli.show import progress
from worker.sending.answers import Results
from worker.sending.exchange import send as send_lines
from worker.sending.exchange import send_and_wait, send_in_order
from worker.sending.lines import Line, Reader
from worker.sending.messages import Publisher
from worker.settings import Settings, urls

DEFAULT_TIMEOUT_S = 60.0
"""A worker answers within milliseconds; one that was killed, within its visibility timeout, a minute by default."""


def send(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines, one command each; - is standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Print each outcome, in the file's order.")] = False,
    ordered: Annotated[bool, typer.Option("--ordered", help="Decide each line before the next one.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask for the outcomes it would have now; nothing is stored.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Give up when nothing was answered for so long.")
    ] = DEFAULT_TIMEOUT_S,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line: what --wait prints anyway.")] = False,  # noqa: ARG001  # the explicit form of what is done anyway
) -> None:
    """Put the commands of a file into the queue. Nothing is checked here: the worker does that."""
    where = urls(Settings())
    with _opened(file) as descriptor, Publisher(where.broker_url) as publisher, progress() as bar:
        reader = _Reader(file, descriptor, dry_run=dry_run)
        task = bar.add_task("sending", total=size_of(descriptor))
        if not wait and not ordered:
            for _ in send_lines(reader, publisher):
                bar.update(task, completed=reader.bytes_read)
            return
        results = Results(where.result_url)
        exchange = send_in_order if ordered else send_and_wait
        for burst in exchange(reader, publisher, results, timeout):
            if wait:
                sys.stdout.buffer.writelines(answer.encode() + b"\n" for answer in burst)
                sys.stdout.buffer.flush()
            bar.update(task, completed=reader.bytes_read)


class _Reader(Reader):
    """Tells in one line what cannot be read."""

    def __init__(self, file: str, descriptor: int, *, dry_run: bool) -> None:
        super().__init__(descriptor, dry_run=dry_run)
        self._file = file

    def read(self) -> list[Line]:
        """Read on. Raises Failed where that cannot be done."""
        with reading(self._file):
            return super().read()


@contextmanager
def _opened(file: str) -> Iterator[int]:
    """Open a file for reading; standard input stays open."""
    if file == STANDARD_INPUT:
        yield standard_input()
        return
    with reading(file):
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise IsADirectoryError(0, "it is a folder")
    try:
        yield descriptor
    finally:
        os.close(descriptor)
