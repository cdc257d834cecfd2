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
    ACCOUNT_NOT_FOUND = "account_not_found", 404
    SOURCE_NOT_FOUND = "source_not_found", 404
    DESTINATION_NOT_FOUND = "destination_not_found", 404
    LEDGERS_MUST_MATCH = "ledgers_must_match", 422
    LEDGERS_MUST_DIFFER = "ledgers_must_differ", 422
    TRANSFER_NOT_FOUND = "transfer_not_found", 404
    EXCEEDS_ORIGINAL = "exceeds_original", 422
    HOLD_NOT_FOUND = "hold_not_found", 404
    NOT_A_HOLD = "not_a_hold", 422
    EXCEEDS_HOLD = "exceeds_hold", 422
    ALREADY_CAPTURED = "already_captured", 409
    ALREADY_VOIDED = "already_voided", 409
    HOLD_EXPIRED = "hold_expired", 409
    ACCOUNT_FROZEN = "account_frozen", 409
    ACCOUNT_CLOSED = "account_closed", 409
    PENDING_NOT_ZERO = "pending_not_zero", 409
    BALANCE_NOT_ZERO = "balance_not_zero", 409
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


PRECEDENCE = list(Status)
"""The order that decides between several that hold."""
