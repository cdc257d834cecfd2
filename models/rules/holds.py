"""Rules about money that is reserved: placing a hold, capturing it in parts, voiding, extending, and its expiry.

A hold is pending until it ends, once, as captured, voided or expired. Its deadline is exact: a command that is decided
at the deadline finds it expired.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

from models import outcomes
from models.books import Books, Hold
from models.commands import CaptureTransfer, Command, ExtendHold, HoldTransfer, VoidTransfer
from models.contract import MAX_COUNTER
from models.fields import Id
from models.outcomes import Outcome, moment, refused
from models.rules.transfers import first, obstacle
from models.statuses import Status


class ExpireHolds(Command):
    """Have the overdue holds on some accounts expire: the scheduled task's own, which no message can carry."""

    type: Literal["holds.expire"] = "holds.expire"
    account_ids: list[Id]

    def accounts(self) -> tuple[str, ...]:
        """Name the accounts."""
        return tuple(self.account_ids)


_ENDED = {"captured": Status.ALREADY_CAPTURED, "voided": Status.ALREADY_VOIDED, "expired": Status.HOLD_EXPIRED}


def expire(books: Books, now: datetime) -> None:
    """Release the holds whose deadline has come."""
    for hold in books.holds.values():
        if hold.state == "pending" and hold.expires_at is not None and hold.expires_at <= now:
            books.release(hold, "expired")


def expire_holds(command: ExpireHolds, _books: Books, decided_at: str) -> Outcome:
    """Do nothing more: what is overdue on the accounts of a group expires before anything is decided."""
    return outcomes.decided(command.id, command.type, Status.APPLIED.value, decided_at)


def hold_transfer(command: HoldTransfer, books: Books, decided_at: str) -> Outcome:
    """Reserve money on both sides, within the limits of both, as if it had moved."""
    if command.expires_in_s is not None and command.expires_at is not None:
        return refused(command, Status.INVALID, decided_at)
    if command.source_id == command.destination_id:
        return refused(command, Status.ACCOUNTS_MUST_DIFFER, decided_at)
    source = books.accounts.get(command.source_id)
    if source is None:
        return refused(command, Status.SOURCE_NOT_FOUND, decided_at)
    destination = books.accounts.get(command.destination_id)
    if destination is None:
        return refused(command, Status.DESTINATION_NOT_FOUND, decided_at)
    amount = min(command.amount, source.available) if command.up_to else command.amount
    deadline = command.expires_at or _deadline(command.expires_in_s, decided_at)
    faults = [fault] if (fault := obstacle(source, destination, amount)) else []
    if deadline is not None and deadline <= moment(decided_at):
        faults.append(Status.HOLD_EXPIRED)
    if faults:
        return refused(command, first(faults), decided_at)

    hold = Hold(
        id=command.id,
        ledger=source.ledger,
        source_id=source.id,
        destination_id=destination.id,
        amount=amount,
        remaining=amount,
        expires_at=deadline,
        kind=command.kind,
        effective_at=command.effective_at,
        metadata=command.metadata,
    )
    books.place(hold)
    return _told(command, hold, books, decided_at, amount=amount)


def capture_transfer(command: CaptureTransfer, books: Books, decided_at: str) -> Outcome:
    """Move what a hold reserves, or a part of it. Limits were checked when it was reserved."""
    fault = _fault(command, books, command.amount)
    if fault is not None:
        return refused(command, fault, decided_at)

    hold = books.holds[command.hold_id]
    amount = hold.remaining if command.amount is None else command.amount
    moved = books.capture(command.id, hold, amount, final=command.final)
    return outcomes.transferred(command.id, command.type, decided_at, moved, hold=_state(hold))


def void_transfer(command: VoidTransfer, books: Books, decided_at: str) -> Outcome:
    """Release what a hold reserves, of frozen accounts, too."""
    fault = _fault(command, books, None)
    if fault is not None and fault is not Status.ACCOUNT_FROZEN:
        return refused(command, fault, decided_at)

    hold = books.holds[command.hold_id]
    books.release(hold, "voided")
    return _told(command, hold, books, decided_at)


def extend_hold(command: ExtendHold, books: Books, decided_at: str) -> Outcome:
    """Give a hold another deadline, another amount to reserve, or both; more is checked as if it were a hold anew."""
    if command.expires_in_s is None and command.amount is None:
        return refused(command, Status.INVALID, decided_at)
    fault = _fault(command, books, None)
    if fault is not None:
        return refused(command, fault, decided_at)
    hold = books.holds[command.hold_id]
    remaining = hold.remaining if command.amount is None else command.amount
    more = remaining - hold.remaining
    # Reduced and extended often enough, it has ever reserved more than it can count.
    if hold.amount + more > MAX_COUNTER:
        return refused(command, Status.OVERFLOW, decided_at)
    if more > 0:
        fault = obstacle(books.accounts[hold.source_id], books.accounts[hold.destination_id], more)
        if fault is not None:
            return refused(command, fault, decided_at)

    if remaining != hold.remaining:
        books.reprice(hold, remaining)
    if command.expires_in_s is not None:
        books.change(hold, expires_at=_deadline(command.expires_in_s, decided_at))
    return _told(command, hold, books, decided_at)


def _fault(command: CaptureTransfer | VoidTransfer | ExtendHold, books: Books, amount: int | None) -> Status | None:
    """Give the first status that keeps something from being done with a hold; `amount` is what is asked of it."""
    hold = books.holds.get(command.hold_id)
    if hold is None:
        return Status.NOT_A_HOLD if command.hold_id in books.originals else Status.HOLD_NOT_FOUND
    # Of one that has ended, all that it ever reserved: asked for as much as it had, it says how it ended.
    if amount is not None and amount > (hold.remaining if hold.state == "pending" else hold.amount):
        return Status.EXCEEDS_HOLD
    if hold.state != "pending":
        return _ENDED[hold.state]
    if "frozen" in (books.accounts[hold.source_id].state, books.accounts[hold.destination_id].state):
        return Status.ACCOUNT_FROZEN
    return None


def _deadline(expires_in_s: int | None, decided_at: str) -> datetime | None:
    return None if expires_in_s is None else moment(decided_at) + timedelta(seconds=expires_in_s)


def _told(
    command: HoldTransfer | VoidTransfer | ExtendHold, hold: Hold, books: Books, decided_at: str, **told: int
) -> Outcome:
    sides = (books.accounts[hold.source_id], books.accounts[hold.destination_id])
    answer: dict[str, Any] = told | {"hold": _state(hold), "balances": {side.id: side.after() for side in sides}}
    return outcomes.decided(command.id, command.type, Status.APPLIED.value, decided_at, answer)


def _state(hold: Hold) -> outcomes.HoldState:
    expires_at = None if hold.expires_at is None else outcomes.timestamp(hold.expires_at)
    return {"state": hold.state, "remaining": hold.remaining, "expires_at": expires_at}
