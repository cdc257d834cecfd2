"""Every status a command can end in, in order of precedence, each with its HTTP equivalent.

Of the statuses that hold for a command, the first in this list is given. A test holds the table in
docs/commands.md against this enum.
"""

from enum import StrEnum


class Status(StrEnum):
    """The verdict on a command: `applied`, or the first reason why not."""

    http: int

    MALFORMED = "malformed", 400
    ID_REUSED = "id_reused", 409
    INVALID = "invalid", 400
    ACCOUNTS_MUST_DIFFER = "accounts_must_differ", 422
    LEDGER_EXISTS = "ledger_exists", 409
    LEDGER_NOT_FOUND = "ledger_not_found", 404
    ACCOUNT_EXISTS = "account_exists", 409
    SOURCE_NOT_FOUND = "source_not_found", 404
    DESTINATION_NOT_FOUND = "destination_not_found", 404
    LEDGERS_MUST_MATCH = "ledgers_must_match", 422
    ACCOUNT_FROZEN = "account_frozen", 409
    ACCOUNT_CLOSED = "account_closed", 409
    OVERFLOW = "overflow", 422
    INSUFFICIENT_FUNDS = "insufficient_funds", 422
    LIMIT_EXCEEDED = "limit_exceeded", 422
    CHAIN_FAILED = "chain_failed", 409
    APPLIED = "applied", 200

    def __new__(cls, value: str, http: int) -> "Status":
        """Make one status of its wire name and its HTTP equivalent."""
        status = str.__new__(cls, value)
        status._value_ = value
        status.http = http
        return status
