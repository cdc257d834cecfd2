"""The lines of a file of commands: read as they come, looked at leniently, and never changed.

Nothing is judged here; the door does that. All that is wanted of a line is the name of the task it goes to, and the id
that it calls itself by, for whoever watches. What is no JSON object of a known type is sent all the same, as
`commands.unreadable`.
"""

import json
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from models.commands import COMMANDS
from models.contract import MAX_COMMAND_BYTES
from models.fields import is_id

BATCH: Final = "batch"
UNREADABLE: Final = "commands.unreadable"

BYTES_AT_ONCE: Final = 256 * 1024
"""What is read in one go, and so what goes out in one round trip: about a thousand commands."""

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""Four of the largest messages there are. A file without line ends must not end up in memory."""

_MAX_BRACKETS: Final = 256
"""In a line that may share a message: decoders give up somewhere past 900 levels, for the whole message."""


class LineTooLong(Exception):
    """A line is longer than anything that could be sent."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, without its end. `number` counts from 1, empty lines included, as an editor does."""

    number: int
    content: bytes
    task: str
    id: str | None
    sound: bool
    """Whether a strict decoder reads it, so that it can share a message with others."""

    @property
    def may_share(self) -> bool:
        """Whether it can stand in a batch and spoil nobody else's day."""
        if not self.sound or self.task == BATCH or len(self.content) > MAX_COMMAND_BYTES:
            return False
        return self.content.count(b"[") + self.content.count(b"{") <= _MAX_BRACKETS

    def as_dry_run(self) -> "Line":
        """Ask for the outcome and nothing else: `dry_run` goes before the line's own bytes, which stay as they are."""
        if self.task == UNREADABLE:
            return self
        before, brace, fields = self.content.partition(b"{")
        return replace(self, content=before + brace + b'"dry_run":true,' + fields)


def look(number: int, content: bytes) -> Line:
    """Find the task and the id of a line."""
    sound, value = _read(content)
    if not isinstance(value, dict):
        return Line(number, content, UNREADABLE, None, sound=False)
    type_, id = value.get("type"), value.get("id")
    known = isinstance(type_, str) and (type_ in COMMANDS or type_ == BATCH)
    return Line(
        number,
        content,
        task=str(type_) if known else UNREADABLE,
        id=id if isinstance(id, str) and is_id(id) else None,
        sound=sound and known,
    )


def _read(content: bytes) -> tuple[bool, Any]:
    """Decode strictly, or else with Python's decoder, which takes NaN, large numbers and lone surrogates as well."""
    try:
        return True, orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    try:
        return False, json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return False, None


class Reader:
    """Reads lines from a file descriptor, giving what is there without waiting for more."""

    def __init__(self, descriptor: int, *, dry_run: bool = False) -> None:
        self.bytes_read = 0
        self._dry_run = dry_run
        self.at_end = False
        self._descriptor = descriptor
        self._number = 0
        self._unfinished: list[bytes] = []
        self._unfinished_bytes = 0

    def ready(self, timeout_s: float) -> bool:
        """Wait until something can be read, or the time is over."""
        return bool(select.select([self._descriptor], [], [], timeout_s)[0])

    def read(self) -> list[Line]:
        """Wait for something to read, and give the lines that it completes: often many, sometimes none."""
        chunk = os.read(self._descriptor, BYTES_AT_ONCE)
        self.bytes_read += len(chunk)
        self.at_end = not chunk
        *complete, rest = (chunk or b"\n").split(b"\n")
        if not complete:
            self._keep(rest)
            return []
        complete[0] = b"".join([*self._unfinished, complete[0]])
        self._unfinished.clear()
        self._unfinished_bytes = 0
        self._keep(rest)
        return list(self._looked_at(complete))

    def _keep(self, rest: bytes) -> None:
        self._unfinished.append(rest)
        self._unfinished_bytes += len(rest)
        if self._unfinished_bytes > MAX_LINE_BYTES:
            raise LineTooLong(f"line {self._number + 1} is longer than {MAX_LINE_BYTES // 2**20} MiB")

    def _looked_at(self, contents: list[bytes]) -> Iterator[Line]:
        for content in contents:
            self._number += 1
            if content.strip():
                line = look(self._number, content)
                yield line.as_dry_run() if self._dry_run else line
