"""What goes to the terminal and to programs: tables, JSON lines, progress bars.

Programs get one JSON object a line, compact. People get tables, in which colour is never the only sign, and in which
nothing that a stranger sent can move the cursor.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.contract import FORBIDDEN_CHARACTERS

WIDTH_WITHOUT_TERMINAL = 120
"""Columns where the output is a file: enough for two ids in a row."""


def console() -> Console:
    """Give the console of what was asked for."""
    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)


def json_lines(values: Iterable[object]) -> None:
    """Print values, one a line, and let them go. Strings must be such as UTF-8 can write: see `typed`."""
    for value in values:
        sys.stdout.buffer.write(_harmless(orjson.dumps(value)) + b"\n")
    sys.stdout.buffer.flush()


def _harmless(line: bytes) -> bytes:
    """Spell out what would move a terminal's cursor or reorder its text. A program reads the same."""
    if line.isascii() and b"\x7f" not in line:
        return line
    return FORBIDDEN_CHARACTERS.sub(lambda found: f"\\u{ord(found.group()):04x}", line.decode()).encode()


def typed(argument: str) -> str:
    """Give what somebody typed with its stray bytes spelt out, which Python keeps as lone surrogates."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def plain(text: object) -> str:
    """Make a text harmless: what would move the cursor, hide or reorder is shown by its number, markup as it stands."""
    return escape(visible(str(text)))


def visible(text: str) -> str:
    """Make a text harmless that is shown without markup."""
    return FORBIDDEN_CHARACTERS.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


ID_WIDTH = 36
"""An id stays on one line, so that it can be copied."""


def table(*columns: str, right: Iterable[str] = (), ids: Iterable[str] = (), title: str | None = None) -> Table:
    """Give a table with these columns, numbers to the right."""
    laid = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        width = ID_WIDTH if column in ids else None
        laid.add_column(column, justify="right" if column in right else "left", overflow="fold", min_width=width)
    return laid


@contextmanager
def progress() -> Iterator[Progress]:
    """Show a progress bar on standard error, if that is a terminal, for as long as the block lasts."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    on = Console(stderr=True, highlight=False)
    with Progress(*columns, console=on, transient=True, disable=not on.is_terminal) as bar:
        yield bar


def warn(message: str) -> None:
    """Say something in one line on standard error."""
    print(f"equipoise: {message}", file=sys.stderr)  # noqa: T201
