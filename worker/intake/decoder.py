"""A strict JSON decoder: what two readers could read differently is a flaw, found where it stands.

The flaw stands in place of the value, so that one bad member of a batch does not take the others with it.
Python's decoder does the work; a duplicate key, a float, NaN or a number that nothing here can hold
becomes a `Flaw`, and characters that a person would not see are looked for afterwards.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from threading import local
from typing import Any

from models.contract import FORBIDDEN_CHARACTERS, MAX_COUNTER, MAX_DEPTH


class Unreadable(ValueError):
    """The bytes are not JSON at all; the message says where."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """Stands where a value stood that the contract does not admit."""

    what: str


def decode(body: bytes) -> tuple[Any, bool]:
    """Read JSON in UTF-8; give the value, and whether anything in it may be flawed (`first_flaw` tells).

    Raises Unreadable where the bytes are no JSON.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8: {error.reason} at byte {error.start}") from error
    reader = _reader()
    try:
        value = reader.read(text)
    except json.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise Unreadable(f"not readable: nested deeper than any command ({MAX_DEPTH} levels)") from error
    return value, reader.flawed or _may_hide_characters(text)


def first_flaw(value: Any) -> str | None:
    """Name the first thing in a decoded value that the contract does not admit, with its path; None: sound.

    The value is nested no deeper than a command may be: see `depth`.
    """
    return next(_flaws(value, ""), None)


def depth(value: Any) -> int:
    """Count the levels of objects and lists; a plain value has none. Stops counting past the limit."""
    deepest, level, here = 0, 1, [value]
    while level <= MAX_DEPTH + 1:
        inner: list[Any] = []
        nested = False
        for entry in here:
            if isinstance(entry, dict):
                nested = True
                inner.extend(entry.values())
            elif isinstance(entry, list):
                nested = True
                inner.extend(entry)
        if not nested:
            break
        deepest, level, here = level, level + 1, inner
    return deepest


def _may_hide_characters(text: str) -> bool:
    """Whether a string in it may hold a forbidden character: shown as it is, or behind an escape."""
    if "\\" in text or "\x7f" in text:
        return True
    # Of ASCII's other control characters the decoder takes none.
    return not text.isascii() and FORBIDDEN_CHARACTERS.search(text) is not None


class _Reader:
    """Python's decoder with hooks that put flaws in place of what is not admitted, and remember that they did."""

    def __init__(self) -> None:
        self.flawed = False
        self.decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_float=lambda digits: self._flaw(f"a number with a fraction or exponent ({digits[:40]})"),
            parse_int=self._integer,
            parse_constant=lambda name: self._flaw(f"{name} is no number of JSON"),
        )

    def read(self, text: str) -> Any:
        """Decode one text; afterwards `flawed` tells of it."""
        self.flawed = False
        return self.decoder.decode(text)

    def _object(self, pairs: list[tuple[str, Any]]) -> Any:
        fields = dict(pairs)
        if len(fields) == len(pairs):
            return fields
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        # The fields stay beside the flaw, so that a dead letter can still tell whose it is.
        return fields | {"": self._flaw(f"the key {twice!r} stands twice")}

    def _integer(self, digits: str) -> Any:
        if len(digits) > len(str(-MAX_COUNTER)) or not -MAX_COUNTER <= int(digits) <= MAX_COUNTER:
            return self._flaw(f"a number out of range ({digits[:40]})")
        return int(digits)

    def _flaw(self, what: str) -> Flaw:
        self.flawed = True
        return Flaw(what)


_of_this_thread = local()


def _reader() -> _Reader:
    """Give this thread's reader: making one takes longer than reading a command."""
    if not hasattr(_of_this_thread, "reader"):
        _of_this_thread.reader = _Reader()
    reader: _Reader = _of_this_thread.reader
    return reader


def _flaws(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Flaw):
        yield f"{path.rstrip('.')}: {value.what}" if path.strip(".") else value.what
    elif isinstance(value, str):
        hidden = FORBIDDEN_CHARACTERS.search(value)
        if hidden:
            yield f"{path.rstrip('.')}: control or bidirectional character U+{ord(hidden.group()):04X}"
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from _flaws(name, f"{path}(a key).")
            yield from _flaws(entry, f"{path}{name}.")
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            yield from _flaws(entry, f"{path}{place}.")
