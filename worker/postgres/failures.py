"""What a failed transaction means: begin again, wait, or look at the command. One table, nothing else decides.

Classes follow SQLSTATE (PostgreSQL manual, appendix A). What is not listed is the deployment's fault, not
the command's: an unknown error never turns a message into a dead letter by itself.
"""

from enum import Enum

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError


class Failure(Enum):
    """Each kind of failure with its treatment."""

    CONFLICT = "begin again in a new transaction, milliseconds later"
    LOST = "begin again on a new connection: only the inbox tells whether this one committed"
    BUSY = "let the ledger wait; others go on"
    COMMAND = "try the group one by one: one of its commands cannot be stored"
    OUTAGE = "go back to the queue and wait"


class LedgerBusy(Exception):
    """Another session kept a ledger's lock, or a row in it, for longer than the patience; nothing was written."""


CONFLICTS = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53200",  # out_of_memory: the pool of predicate locks is used up for the moment
        "23505",  # unique_violation: on the inbox somebody else decided the command; elsewhere a lost race, once a key
    }
)
COMMANDS = frozenset(
    {
        "22003",  # numeric_value_out_of_range
        "22021",  # character_not_in_repertoire
        "22P02",  # invalid_text_representation
        "22P05",  # untranslatable_character
        "23000",  # integrity_constraint_violation: our triggers
        "23502",  # not_null_violation
        "23503",  # foreign_key_violation
        "23514",  # check_violation: the rules let something pass that the database does not
    }
)


def sqlstate(error: BaseException) -> str | None:
    """Give the error's SQLSTATE, wherever SQLAlchemy has put the driver's error."""
    original = _original(error)
    return original.sqlstate if isinstance(original, psycopg.Error) else None


def violated_key(error: BaseException) -> str | None:
    """Name the key, and the value of it, that a unique_violation is about; None for any other error."""
    original = _original(error)
    if not isinstance(original, psycopg.errors.UniqueViolation):
        return None
    return f"{original.diag.constraint_name}: {original.diag.message_detail}"


def classify(error: BaseException) -> Failure:
    """Say what to do about an error that ended a transaction."""
    if isinstance(error, LedgerBusy):
        return Failure.BUSY
    if _is_lost(error):
        return Failure.LOST
    state = sqlstate(error)
    if state in CONFLICTS:
        return Failure.CONFLICT
    if state in COMMANDS:
        return Failure.COMMAND
    original = _original(error)
    if state is None and isinstance(original, psycopg.DataError):
        return Failure.COMMAND  # psycopg itself cannot write a value of it; the server never saw it
    if isinstance(original, psycopg.Error | SQLAlchemyError):
        return Failure.OUTAGE
    # A bug that some command provokes: the others must not wait for it.
    return Failure.COMMAND


def is_passing(error: BaseException) -> bool:
    """Whether to begin again at once."""
    return classify(error) in (Failure.CONFLICT, Failure.LOST)


def _is_lost(error: BaseException) -> bool:
    """Whether a connection broke that there was; COPY's errors come as psycopg raises them."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, psycopg.OperationalError) and error.sqlstate in (None, "57P01")


def _original(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error
