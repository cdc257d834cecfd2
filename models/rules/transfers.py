"""Rules about money that moves at once: posting, reversing, exchanging. Others share what keeps money from moving."""

from collections.abc import Sequence
from typing import NamedTuple

from models import outcomes
from models.books import Account, Books, Details
from models.commands import Command, ExchangeTransfer, PostTransfer, ReverseTransfer, leg_id
from models.contract import MAX_COUNTER
from models.outcomes import Outcome, refused
from models.statuses import PRECEDENCE, Status


def post_transfer(command: PostTransfer, books: Books, decided_at: str) -> Outcome:
    """Move money between two accounts of one ledger, within the limits of both."""
    source_id, destination_id = command.source_id, command.destination_id
    if source_id == destination_id:
        return refused(command, Status.ACCOUNTS_MUST_DIFFER, decided_at)
    source = books.accounts.get(source_id)
    if source is None:
        return refused(command, Status.SOURCE_NOT_FOUND, decided_at)
    destination = books.accounts.get(destination_id)
    if destination is None:
        return refused(command, Status.DESTINATION_NOT_FOUND, decided_at)
    amount = min(command.amount, source.available) if command.up_to else command.amount
    fault = obstacle(source, destination, amount)
    if fault is not None:
        return refused(command, fault, decided_at)

    details = Details(command.kind, command.effective_at, command.metadata)
    moved = books.move(command.id, source, destination, amount, details)
    return outcomes.transferred(command.id, command.type, decided_at, moved)


def obstacle(source: Account, destination: Account, amount: int) -> Status | None:  # a list of checks
    """Give the first status that keeps so much from moving, or from being reserved, between two accounts."""
    if source.ledger is not destination.ledger:
        return Status.LEDGERS_MUST_MATCH
    if source.state == "frozen" or destination.state == "frozen":
        return Status.ACCOUNT_FROZEN
    if source.state == "closed" or destination.state == "closed":
        return Status.ACCOUNT_CLOSED
    if source.debits_posted + source.debits_pending + amount > MAX_COUNTER:
        return Status.OVERFLOW
    if destination.credits_posted + destination.credits_pending + amount > MAX_COUNTER:
        return Status.OVERFLOW
    if amount <= 0 or (source.min_balance is not None and source.available - amount < source.min_balance):
        return Status.INSUFFICIENT_FUNDS
    if (
        destination.max_balance is not None
        and destination.balance + destination.credits_pending + amount > destination.max_balance
    ):
        return Status.LIMIT_EXCEEDED
    return None


def reverse_transfer(command: ReverseTransfer, books: Books, decided_at: str) -> Outcome:
    """Move back what is left of a transfer, or a part of it; all that went back adds up to the original at most."""
    original = books.originals.get(command.transfer_id)
    if original is None:
        return refused(command, Status.TRANSFER_NOT_FOUND, decided_at)
    left = original.amount - original.reversed
    amount = left if command.amount is None else command.amount
    if not left or amount > left:
        return refused(command, Status.EXCEEDS_ORIGINAL, decided_at)
    source, destination = books.accounts[original.destination_id], books.accounts[original.source_id]
    fault = obstacle(source, destination, amount)
    if fault is not None:
        return refused(command, fault, decided_at)

    details = Details(effective_at=command.effective_at, reverses=original.id)
    moved = books.move(command.id, source, destination, amount, details)
    books.change(original, reversed=original.reversed + amount)
    return outcomes.transferred(command.id, command.type, decided_at, moved)


_OF_LIMITS = (Status.INSUFFICIENT_FUNDS, Status.LIMIT_EXCEEDED)


class Leg(NamedTuple):
    """One of several transfers that a command makes."""

    source_id: str
    destination_id: str
    amount: int


def exchange_transfer(command: ExchangeTransfer, books: Books, decided_at: str) -> Outcome:
    """Move an amount into one ledger's liquidity, and another amount out of that of another ledger."""
    legs = [
        Leg(command.source_id, command.source_liquidity_id, command.source_amount),
        Leg(command.destination_liquidity_id, command.destination_id, command.destination_amount),
    ]
    faults = [fault for leg in legs if (fault := leg_fault(leg, books)) is not None]
    if faults:
        return refused(command, first(faults), decided_at)
    source, destination = books.accounts[command.source_id], books.accounts[command.destination_id]
    if source.ledger is destination.ledger:
        return refused(command, Status.LEDGERS_MUST_DIFFER, decided_at)

    details = Details(command.kind, command.effective_at, command.metadata)
    return move_all(command, legs, None, books, decided_at, details)


def leg_fault(leg: Leg, books: Books) -> Status | None:
    """Give the first status that says that a leg's sides are no pair, whatever they hold."""
    if leg.source_id == leg.destination_id:
        return Status.ACCOUNTS_MUST_DIFFER
    if leg.source_id not in books.accounts:
        return Status.SOURCE_NOT_FOUND
    if leg.destination_id not in books.accounts:
        return Status.DESTINATION_NOT_FOUND
    if books.accounts[leg.source_id].ledger is not books.accounts[leg.destination_id].ledger:
        return Status.LEDGERS_MUST_MATCH
    return None


def move_all(
    command: Command, legs: Sequence[Leg], amount: int | None, books: Books, decided_at: str, details: Details
) -> Outcome:
    """Post all legs, whose sides are pairs, or none; each finds what the ones before it have left.

    `amount` is all of them together, None where they have no currency in common.
    """
    mark = books.mark()
    moved, faults = [], []
    for place, leg in enumerate(legs, start=1):
        source, destination = books.accounts[leg.source_id], books.accounts[leg.destination_id]
        fault = obstacle(source, destination, leg.amount)
        if fault is not None:
            faults.append(fault)
        if fault not in (None, *_OF_LIMITS):
            continue
        # What breaks a limit counts all the same for those after it, of whom another may break one that comes first.
        named = details._replace(command_id=command.id)
        moved.append(books.move(leg_id(command.id, place), source, destination, leg.amount, named))
    if faults:
        books.undo(mark)
        return refused(command, first(faults), decided_at)
    return outcomes.transferred_all(command.id, command.type, decided_at, moved, amount)


def first(faults: Sequence[Status]) -> Status:
    """Give the one that takes precedence."""
    return min(faults, key=PRECEDENCE.index)
