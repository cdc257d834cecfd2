"""What each command type can be refused with, by the rules beside this: the statuses, in order of precedence.

A promise to senders, printed in docs/statuses.md. The rules do not read it; tests hold them to it from both sides, and
reach every one of these through a settlement.
"""

from typing import Final

from models.commands import (
    CaptureTransfer,
    CloseAccount,
    Command,
    ExchangeTransfer,
    ExtendHold,
    FreezeAccount,
    HoldTransfer,
    LimitAccount,
    OpenAccount,
    OpenLedger,
    PostTransfer,
    ReverseTransfer,
    SplitTransfer,
    UnfreezeAccount,
    VoidTransfer,
)
from models.statuses import Status

_NO_PAIR = (
    Status.ACCOUNTS_MUST_DIFFER,
    Status.SOURCE_NOT_FOUND,
    Status.DESTINATION_NOT_FOUND,
    Status.LEDGERS_MUST_MATCH,
)
_STATES = (Status.ACCOUNT_FROZEN, Status.ACCOUNT_CLOSED)
_AMOUNTS = (Status.OVERFLOW, Status.INSUFFICIENT_FUNDS, Status.LIMIT_EXCEEDED)
_NO_HOLD = (Status.HOLD_NOT_FOUND, Status.NOT_A_HOLD)
_ENDED = (Status.ALREADY_CAPTURED, Status.ALREADY_VOIDED, Status.HOLD_EXPIRED)

ANY: Final = (Status.MALFORMED, Status.ID_REUSED, Status.CHAIN_FAILED)
"""What keeps a command of any type from being decided at all."""

REFUSALS: Final[dict[type[Command], tuple[Status, ...]]] = {
    OpenLedger: (Status.LEDGER_EXISTS,),
    OpenAccount: (Status.INVALID, Status.LEDGER_NOT_FOUND, Status.ACCOUNT_EXISTS),
    LimitAccount: (
        Status.INVALID,
        Status.ACCOUNT_NOT_FOUND,
        Status.ACCOUNT_CLOSED,
        Status.INSUFFICIENT_FUNDS,
        Status.LIMIT_EXCEEDED,
    ),
    FreezeAccount: (Status.ACCOUNT_NOT_FOUND, Status.ACCOUNT_CLOSED),
    UnfreezeAccount: (Status.ACCOUNT_NOT_FOUND, Status.ACCOUNT_CLOSED),
    CloseAccount: (
        Status.ACCOUNTS_MUST_DIFFER,
        Status.ACCOUNT_NOT_FOUND,
        Status.DESTINATION_NOT_FOUND,
        Status.LEDGERS_MUST_MATCH,
        *_STATES,
        Status.PENDING_NOT_ZERO,
        Status.BALANCE_NOT_ZERO,
        *_AMOUNTS,
    ),
    PostTransfer: (*_NO_PAIR, *_STATES, *_AMOUNTS),
    SplitTransfer: (Status.INVALID, *_NO_PAIR, *_STATES, *_AMOUNTS),
    ExchangeTransfer: (*_NO_PAIR, Status.LEDGERS_MUST_DIFFER, *_STATES, *_AMOUNTS),
    ReverseTransfer: (Status.TRANSFER_NOT_FOUND, Status.EXCEEDS_ORIGINAL, *_STATES, *_AMOUNTS),
    HoldTransfer: (Status.INVALID, *_NO_PAIR, Status.HOLD_EXPIRED, *_STATES, *_AMOUNTS),
    CaptureTransfer: (*_NO_HOLD, Status.EXCEEDS_HOLD, *_ENDED, Status.ACCOUNT_FROZEN),
    VoidTransfer: (*_NO_HOLD, *_ENDED),
    ExtendHold: (Status.INVALID, *_NO_HOLD, *_ENDED, Status.ACCOUNT_FROZEN, *_AMOUNTS),
}
