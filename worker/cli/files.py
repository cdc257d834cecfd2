"""Files that commands read, and standard input: what cannot be read is one line and a status, whenever it turns out."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from typing import Any

from worker.cli.endings import Failed, Status
from worker.cli.show import typed

STANDARD_INPUT = "-"


@contextmanager
def opened(file: str) -> Iterator[BufferedReader]:
    """Open a file for reading; standard input stays open. What it gives raises Failed where it cannot be read."""
    raw: Any  # the stubs know only one kind of file that may be buffered
    with reading(file):
        raw = _File(standard_input(), file, closefd=False) if file == STANDARD_INPUT else _File(file, file)
    with BufferedReader(raw) as buffered:
        yield buffered


@contextmanager
def reading(file: str) -> Iterator[None]:
    """Tell in one line what keeps a file from being opened, or from being read further."""
    try:
        yield
    except OSError as error:
        raise unreadable(file, error.strerror or type(error).__name__) from error


def unreadable(file: str, reason: str) -> Failed:
    """Make the failure of a file that cannot be read."""
    what = "standard input" if file == STANDARD_INPUT else f"{typed(file)!a}"
    return Failed(Status.NO_INPUT, f"cannot read {what}: {reason}")


def standard_input() -> int:
    """Give the descriptor of standard input. Who began this may have closed it: its number is another file's then."""
    if sys.stdin is None:
        raise unreadable(STANDARD_INPUT, "it is closed")
    return sys.stdin.fileno()


def size_of(descriptor: int) -> int | None:
    """Give the size of what is a file; a pipe has none."""
    status = os.fstat(descriptor)
    return status.st_size if stat.S_ISREG(status.st_mode) else None


class _File(FileIO):
    """A file that says whose it is when it cannot be read: an error may come long after it was opened."""

    def __init__(self, file: str | int, named: str, *, closefd: bool = True) -> None:
        super().__init__(file, "rb", closefd)
        self._named = named

    def readinto(self, buffer: Any, /) -> int | None:
        with reading(self._named):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with reading(self._named):
            return super().readall()
