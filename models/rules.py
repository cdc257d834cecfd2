"""The ledger's rules: for each command, first every check, in the order of precedence, then the change.

Pure functions of a command and the books. After the last check of a function the change must succeed.
"""

from models import outcomes
from models.books import Account, Books, Ledger
from models.commands import OpenAccount, OpenLedger, PostTransfer
from models.contract import MAX_COUNTER
from models.outcomes import Outcome
from models.statuses import Status


def open_ledger(command: OpenLedger, books: Books, decided_at: str) -> Outcome:
    """Open a ledger under a name that is free."""
    if command.ledger in books.ledgers:
        return _refuse(command, Status.LEDGER_EXISTS, decided_at)

    books.open_ledger(Ledger(command.ledger, command.currency, command.scale))
    return outcomes.decided(command.id, command.type, Status.APPLIED.value, decided_at)


def open_account(command: OpenAccount, books: Books, decided_at: str) -> Outcome:
    """Open an account with an id that is free, in a ledger that is there, with limits that zero meets."""
    if command.min_balance is not None and command.min_balance > 0:
        return _refuse(command, Status.INVALID, decided_at)
    if command.max_balance is not None and command.max_balance < 0:
        return _refuse(command, Status.INVALID, decided_at)
    if command.ledger not in books.ledgers:
        return _refuse(command, Status.LEDGER_NOT_FOUND, decided_at)
    if command.account_id in books.accounts:
        return _refuse(command, Status.ACCOUNT_EXISTS, decided_at)

    account = Account(
        id=command.account_id,
        ledger=books.ledgers[command.ledger],
        min_balance=command.min_balance,
        max_balance=command.max_balance,
        owner_id=command.owner_id,
        metadata=command.metadata,
    )
    books.open_account(account)
    answer = {"balances": {account.id: account.after()}}
    return outcomes.decided(command.id, command.type, Status.APPLIED.value, decided_at, answer)


def post_transfer(command: PostTransfer, books: Books, decided_at: str) -> Outcome:  # noqa: C901  # a list of checks
    """Move money between two accounts of one ledger, within the limits of both."""
    if command.source_id == command.destination_id:
        return _refuse(command, Status.ACCOUNTS_MUST_DIFFER, decided_at)
    source = books.accounts.get(command.source_id)
    if source is None:
        return _refuse(command, Status.SOURCE_NOT_FOUND, decided_at)
    destination = books.accounts.get(command.destination_id)
    if destination is None:
        return _refuse(command, Status.DESTINATION_NOT_FOUND, decided_at)
    if source.ledger is not destination.ledger:
        return _refuse(command, Status.LEDGERS_MUST_MATCH, decided_at)
    if "frozen" in (source.state, destination.state):
        return _refuse(command, Status.ACCOUNT_FROZEN, decided_at)
    if "closed" in (source.state, destination.state):
        return _refuse(command, Status.ACCOUNT_CLOSED, decided_at)
    amount = min(command.amount, source.available) if command.up_to else command.amount
    if source.debits_posted + source.debits_pending + amount > MAX_COUNTER:
        return _refuse(command, Status.OVERFLOW, decided_at)
    if destination.credits_posted + destination.credits_pending + amount > MAX_COUNTER:
        return _refuse(command, Status.OVERFLOW, decided_at)
    if amount <= 0 or (source.min_balance is not None and source.available - amount < source.min_balance):
        return _refuse(command, Status.INSUFFICIENT_FUNDS, decided_at)
    if (
        destination.max_balance is not None
        and destination.balance + destination.credits_pending + amount > destination.max_balance
    ):
        return _refuse(command, Status.LIMIT_EXCEEDED, decided_at)

    moved = books.move(command.id, source, destination, amount, command.kind, command.effective_at, command.metadata)
    return outcomes.transferred(command.id, command.type, decided_at, moved)


def _refuse(command: OpenLedger | OpenAccount | PostTransfer, status: Status, decided_at: str) -> Outcome:
    return outcomes.decided(command.id, command.type, status.value, decided_at)
