"""What people type after a command's name: ids, times, amounts, and how a wrong one is told."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from models.money import NotExact, minor_units
from worker.cli.files import STANDARD_INPUT, opened

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]

MAX_LIMIT = 10**9
"""For `--limit`: more than anybody reads, and far from where numbers of the database or of `islice` end."""


def moment(text: str, option: str) -> datetime:
    """Read a time with its zone; an option's, which the error names."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time, such as 2026-11-23T12:00:00Z", param_hint=option) from error
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone: end it with Z, or +01:00", param_hint=option)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise typer.BadParameter(f"{text!r} is outside the years 1 to 9999 of UTC", param_hint=option) from error


def amount(text: str, option: str, *, currency: str, scale: int) -> int:
    """Read a decimal of a currency, which need not be named, as minor units; an option's, which the error names."""
    try:
        return minor_units(text if " " in text else f"{text} {currency}", currency, scale)
    except NotExact as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def from_stdin() -> list[str]:
    """Read ids from standard input, between spaces or a line each."""
    with opened(STANDARD_INPUT) as source:
        return source.read().decode("utf-8", "surrogateescape").split()


def quoted(text: str) -> str:
    """Show what somebody typed, on one line."""
    return f"{text[:80]!a}"
