"""Where the members of a batch stand in its bytes, so that each is measured, kept and compared as it was sent.

A decoded value says no longer which digits a number had, or which of two equal keys came first. Python's decoder tells
where a value ends; that is all that is used of it here.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from json import JSONDecoder

# Reads no number: Python refuses to read one of some thousands of digits.
_MEASURING = JSONDecoder(parse_int=str, parse_float=str)
_SPACE = re.compile(r"[ \t\n\r]*")


def value_end(text: str, start: int) -> int:
    """Give where the JSON value ends that starts at `start`; the text is known to be JSON."""
    _, end = _MEASURING.raw_decode(text, start)
    return end


class Sent:
    """The body of a batch's message, `[[], {…, "commands": […]}, …]`: known to be JSON of that shape."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def member(self, place: str) -> bytes:
        """Give the bytes of the member at a place: `3`, or `3.1` in a chain."""
        return self._members[place].encode("utf-8", "surrogatepass")

    @cached_property
    def _members(self) -> dict[str, str]:
        text = self._body.decode()
        fields = list(_values(text, text.index("[") + 1))[1]
        commands = [(start, end) for name, start, end in _fields(text, fields[0] + 1) if name == "commands"][-1]
        found: dict[str, str] = {}
        for place, (start, end) in enumerate(_values(text, commands[0] + 1)):
            found[str(place)] = text[start:end]
            if text[start] == "[":
                for step, (first, last) in enumerate(_values(text, start + 1)):
                    found[f"{place}.{step}"] = text[first:last]
        return found


def _values(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Give where each value of a list starts and ends; `start` is behind its bracket."""
    here = _skip(text, start)
    while text[here] != "]":
        end = value_end(text, here)
        yield here, end
        here = _skip(text, end)
        if text[here] == ",":
            here = _skip(text, here + 1)


def _fields(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Give each field of an object: its name, and where its value starts and ends; `start` is behind its brace."""
    here = _skip(text, start)
    while text[here] != "}":
        name, end = _MEASURING.raw_decode(text, here)
        value = _skip(text, _skip(text, end) + 1)
        end = value_end(text, value)
        yield name, value, end
        here = _skip(text, end)
        if text[here] == ",":
            here = _skip(text, here + 1)


def _skip(text: str, start: int) -> int:
    """Give where the space ends that may be at `start`."""
    space = _SPACE.match(text, start)
    assert space is not None
    return space.end()
