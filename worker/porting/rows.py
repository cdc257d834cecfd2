"""A command as a row of a CSV file (RFC 4180), and a row as the command's JSON, which the door then judges.

A column is a field, an empty cell leaves the field out. Texts stand as they are; numbers, `true`, `null`, objects and
lists as in JSON. A text that begins as a spreadsheet's formula does is written as a JSON string, quotes included: it is
read back exactly, and no spreadsheet runs what a stranger sent. A row is one line, since no field of any command
holds a line's end.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

import orjson

from models.commands import Command
from worker.intake.decoder import Unreadable, decode
from worker.intake.door import Malformed

_PLAIN: Final = re.compile(r"-?[0-9]+|true|false|null")
"""What is JSON at first sight. Of a number the door has more to say."""

_NOT_AS_IT_IS: Final = ("=", "+", "-", "@", '"')
"""How a text begins that a spreadsheet would compute (OWASP, CSV Injection), or that would be read as JSON here."""

_MAX_CELL_CHARACTERS: Final = 1024 * 1024
"""Far beyond a command's 16 KiB, so that the door says what is too long. The csv module's own bound is lower."""

csv.field_size_limit(_MAX_CELL_CHARACTERS)


class BadHeader(ValueError):
    """The first row does not name the columns; the message says why."""


class Header:
    """The columns of a file, by its first row."""

    def __init__(self, line: bytes, models: Iterable[type[Command]]) -> None:
        """Read the first row. Raises BadHeader where a column is no field of these models, or there twice."""
        try:
            self._names = _cells(line)
        except Malformed as error:
            raise BadHeader(f"the first row must name the columns: {error}") from error
        self._texts, known = _texts(tuple(models))
        for name in self._names:
            if name not in known:
                raise BadHeader(f"the first row must name the columns; {name[:40]!a} is no field of any command")
            if self._names.count(name) > 1:
                raise BadHeader(f"the column {name!a} is there twice")

    def as_json(self, line: bytes) -> bytes:
        """Give a row as the JSON of a command. Raises Malformed where it is no row of these columns."""
        cells = _cells(line)
        if len(cells) != len(self._names):
            raise Malformed(f"{len(cells)} cells; the first row names {len(self._names)}")
        fields = (
            b'"%s":%s' % (name.encode(), self._value(name, cell))
            for name, cell in zip(self._names, cells, strict=True)
            if cell
        )
        return b"{%s}" % b",".join(fields)

    def _value(self, name: str, cell: str) -> bytes:
        """Write a cell as one JSON value: as it is where it is one, else as a string, which the door judges."""
        is_text = name in self._texts
        if not is_text and _PLAIN.fullmatch(cell):
            return cell.encode()
        if not is_text or cell.startswith('"'):
            try:
                value, _ = decode(cell.encode())
            except Unreadable:
                pass  # no JSON: the text itself
            else:
                if not is_text or isinstance(value, str):
                    return cell.encode()
        return orjson.dumps(cell)


class Writer:
    """Writes commands as rows of these columns."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def header(self) -> bytes:
        """Give the first row."""
        return _row(self._columns)

    def row(self, command: Mapping[str, Any]) -> bytes:
        """Give a command's row; all of its fields must be columns."""
        assert command.keys() <= set(self._columns), command.keys()
        return _row([_cell(command[name]) if name in command else "" for name in self._columns])


def _cells(line: bytes) -> list[str]:
    try:
        [cells] = csv.reader([line.decode("utf-8")], strict=True)
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise Malformed(f"not CSV: {error}") from error
    return cells


def _row(cells: Sequence[str]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerow(cells)
    return written.getvalue().encode()


def _cell(value: Any) -> str:
    if isinstance(value, str) and not value.startswith(_NOT_AS_IT_IS):
        return value
    return orjson.dumps(value).decode()


@cache
def _texts(models: tuple[type[Command], ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Name the fields that are texts, and all fields."""
    fields = [(name, field.annotation) for model in models for name, field in model.model_fields.items()]
    texts = frozenset(name for name, annotation in fields if _is_text(annotation))
    return texts, frozenset(name for name, _ in fields)


def _is_text(annotation: Any) -> bool:
    """Whether a field is a string in JSON: an id, a name, a moment; None may stand beside it."""
    if get_origin(annotation) in (Literal, list, dict):
        return get_origin(annotation) is Literal
    return annotation in (str, datetime) or any(map(_is_text, get_args(annotation)))
