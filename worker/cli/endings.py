"""How a command ends: its exit statuses, and the one line in which an expected failure is told.

What is not named here is a bug, and keeps its traceback.
"""

import signal
from enum import IntEnum
from types import FrameType
from typing import NoReturn

import psycopg
import redis
from kombu.exceptions import BatchPublishError
from kombu.exceptions import OperationalError as BrokerError
from pydantic import ValidationError
from sqlalchemy.exc import ArgumentError, DBAPIError

from worker.postgres.engines import NotPostgres
from worker.postgres.failures import sqlstate
from worker.sending.exchange import NoAnswer
from worker.sending.lines import LineTooLong
from worker.settings import NoServers
from worker.stack.process import StackError


class Status(IntEnum):
    """Exit statuses beside 0; from 64 on they are those of sysexits.h. 130 and 143: ended by Ctrl-C, by SIGTERM."""

    NO = 1
    """The answer is no: the books are not sound, an id is nobody's, the demo's counts differ."""
    USAGE = 2
    """The command line was not understood."""
    DATA = 65
    """A file's content cannot be used."""
    NO_INPUT = 66
    """A file cannot be read."""
    UNAVAILABLE = 69
    """No servers, or the database or the broker is away."""
    NO_ANSWER = 75
    """Sent, and not answered in time; sending the same again is safe."""
    CONFIGURATION = 78
    """The schema is not migrated, or a setting is wrong."""


class Failed(Exception):
    """A command cannot go on; the message is the line to print."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


EXPECTED = (
    Failed,
    NoServers,
    StackError,
    NoAnswer,
    LineTooLong,
    ValidationError,
    ArgumentError,
    NotPostgres,
    DBAPIError,
    BrokerError,
    BatchPublishError,
    redis.RedisError,
)

_NOT_MIGRATED = {
    "3F000",  # invalid_schema_name
    "42P01",  # undefined_table
    "42703",  # undefined_column: an older schema
    "22023",  # invalid_parameter_value: SET ROLE of a role that no migration has made
}
_MIGRATE = "the database's schema is not that of this program: run `equipoise migrate`"


def told(error: BaseException) -> tuple[Status, str]:
    """Give the exit status of an expected failure, and its one line."""
    match error:
        case Failed():
            return error.status, str(error)
        case NoServers() | StackError():
            return Status.UNAVAILABLE, str(error)
        case NoAnswer():
            return Status.NO_ANSWER, str(error)
        case LineTooLong():
            return Status.DATA, str(error)
        case ValidationError():
            fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
            reason = fault["msg"].removeprefix("Value error, ")
            return Status.CONFIGURATION, f"EQUIPOISE_{'_'.join(map(str, fault['loc'])).upper()}: {reason}"
        case NotPostgres():
            return Status.CONFIGURATION, f"EQUIPOISE_DATABASE_URL: {_line(error)}"
        case ArgumentError():
            return (
                Status.CONFIGURATION,
                "EQUIPOISE_DATABASE_URL is no database URL, such as postgresql://user@host/name",
            )
        case DBAPIError():
            return _database(error)
        case BatchPublishError():
            return Status.UNAVAILABLE, f"the broker went away while sending: {_line(error.__cause__ or error)}" + _AGAIN
    return Status.UNAVAILABLE, f"the broker cannot be reached: {_line(error)}"


_AGAIN = "; some lines may have been sent, and sending all of them again is safe: their ids tell"


def _database(error: DBAPIError) -> tuple[Status, str]:
    state = sqlstate(error)
    if state in _NOT_MIGRATED:
        return Status.CONFIGURATION, _MIGRATE
    reason = _line(error.orig or error)
    if isinstance(error.orig, psycopg.OperationalError):
        return Status.UNAVAILABLE, f"the database cannot be reached: {reason}"
    return Status.UNAVAILABLE, f"the database refuses ({state}): {reason}"


def _line(error: BaseException) -> str:
    """Give an error's first line: servers explain themselves at length."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def end_on_sigterm() -> None:
    """Let SIGTERM and the terminal's end unwind what runs, as Ctrl-C does."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)  # the status a shell gives to what a signal ended

    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) != signal.SIG_IGN:  # as `nohup` leaves it
            signal.signal(ending, end)
