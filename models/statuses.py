"""Every status a command can end in, in order of precedence, each with its HTTP equivalent and what it means.

Of the statuses that hold for a command, the first in this list is given. `make docs` writes docs/statuses.md from it;
which command types give which is in `rules.refusals`.
"""

from enum import StrEnum


class Status(StrEnum):
    """The verdict on a command: `applied`, or the first reason why not."""

    http: int
    meaning: str

    MALFORMED = "malformed", 400, "breaks the contract; kept as a dead letter, `detail` says why"
    ID_REUSED = (
        "id_reused",
        409,
        "the id, or that of a transfer it would make, is another's; `detail` names the first field that differs",
    )
    INVALID = "invalid", 400, "fields contradict each other"
    ACCOUNTS_MUST_DIFFER = "accounts_must_differ", 422, "the source is the destination"
    LEDGER_EXISTS = "ledger_exists", 409, "the ledger's name is taken"
    LEDGER_NOT_FOUND = "ledger_not_found", 404, "there is no such ledger"
    ACCOUNT_EXISTS = "account_exists", 409, "the account's id is taken"
    ACCOUNT_NOT_FOUND = "account_not_found", 404, "there is no such account"
    SOURCE_NOT_FOUND = "source_not_found", 404, "there is no account with the source's id"
    DESTINATION_NOT_FOUND = "destination_not_found", 404, "there is no account with the destination's id"
    LEDGERS_MUST_MATCH = "ledgers_must_match", 422, "source and destination are in different ledgers"
    LEDGERS_MUST_DIFFER = "ledgers_must_differ", 422, "both sides of an exchange are in one ledger"
    TRANSFER_NOT_FOUND = "transfer_not_found", 404, "there is no such transfer"
    EXCEEDS_ORIGINAL = "exceeds_original", 422, "more than what is left of the transfer, or nothing is"
    HOLD_NOT_FOUND = "hold_not_found", 404, "there is neither a hold nor a transfer with this id"
    NOT_A_HOLD = "not_a_hold", 422, "the id is a transfer's"
    EXCEEDS_HOLD = "exceeds_hold", 422, "more than the hold reserves, or if it has ended, ever reserved"
    ALREADY_CAPTURED = "already_captured", 409, "the hold has ended as captured"
    ALREADY_VOIDED = "already_voided", 409, "the hold has ended as voided"
    HOLD_EXPIRED = "hold_expired", 409, "the hold's deadline has come"
    ACCOUNT_FROZEN = "account_frozen", 409, "an account that would take part is frozen"
    ACCOUNT_CLOSED = "account_closed", 409, "an account that would take part is closed"
    PENDING_NOT_ZERO = "pending_not_zero", 409, "a hold is pending on the account"
    BALANCE_NOT_ZERO = "balance_not_zero", 409, "the account has a balance that nobody is to take"
    OVERFLOW = "overflow", 422, "a counter would pass 2^63 - 1, or the remainder is more than one transfer moves"
    INSUFFICIENT_FUNDS = (
        "insufficient_funds",
        422,
        "`available` would fall below `min_balance`, or is nothing",
    )
    LIMIT_EXCEEDED = "limit_exceeded", 422, "`balance + credits_pending` would be above `max_balance`"
    CHAIN_FAILED = "chain_failed", 409, "another member of the chain was refused; the id can be used again"
    APPLIED = "applied", 200, "done"

    def __new__(cls, value: str, http: int, meaning: str) -> "Status":
        """Make one status of its wire name, its HTTP equivalent and a line for people."""
        status = str.__new__(cls, value)
        status._value_ = value
        status.http = http
        status.meaning = meaning
        return status


PRECEDENCE = list(Status)
"""The order that decides between several that hold."""
