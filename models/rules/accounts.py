"""Rules about ledgers and accounts themselves: opening, limits, freezing, closing."""

from models import outcomes
from models.books import Account, Books, Details, Ledger
from models.commands import CloseAccount, FreezeAccount, LimitAccount, OpenAccount, OpenLedger, UnfreezeAccount
from models.contract import MAX_AMOUNT
from models.outcomes import Outcome, refused
from models.rules.transfers import obstacle
from models.statuses import Status


def open_ledger(command: OpenLedger, books: Books, decided_at: str) -> Outcome:
    """Open a ledger under a name that is free."""
    if command.ledger in books.ledgers:
        return refused(command, Status.LEDGER_EXISTS, decided_at)

    books.open_ledger(Ledger(command.ledger, command.currency, command.scale))
    return outcomes.decided(command.id, command.type, Status.APPLIED.value, decided_at)


def open_account(command: OpenAccount, books: Books, decided_at: str) -> Outcome:
    """Open an account with an id that is free, in a ledger that is there, with limits that zero meets."""
    if command.min_balance is not None and command.min_balance > 0:
        return refused(command, Status.INVALID, decided_at)
    if command.max_balance is not None and command.max_balance < 0:
        return refused(command, Status.INVALID, decided_at)
    if command.ledger not in books.ledgers:
        return refused(command, Status.LEDGER_NOT_FOUND, decided_at)
    if command.account_id in books.accounts:
        return refused(command, Status.ACCOUNT_EXISTS, decided_at)

    account = Account(
        id=command.account_id,
        ledger=books.ledgers[command.ledger],
        min_balance=command.min_balance,
        max_balance=command.max_balance,
        owner_id=command.owner_id,
        metadata=command.metadata,
    )
    books.open_account(account)
    return _told(command, account, decided_at)


def limit_account(command: LimitAccount, books: Books, decided_at: str) -> Outcome:
    """Give an account limits that its present state meets."""
    floor, ceiling = command.min_balance, command.max_balance
    if floor is not None and ceiling is not None and floor > ceiling:
        return refused(command, Status.INVALID, decided_at)
    account = books.accounts.get(command.account_id)
    if account is None:
        return refused(command, Status.ACCOUNT_NOT_FOUND, decided_at)
    if account.state == "closed":
        return refused(command, Status.ACCOUNT_CLOSED, decided_at)
    if floor is not None and account.available < floor:
        return refused(command, Status.INSUFFICIENT_FUNDS, decided_at)
    if ceiling is not None and account.balance + account.credits_pending > ceiling:
        return refused(command, Status.LIMIT_EXCEEDED, decided_at)

    books.change(account, min_balance=floor, max_balance=ceiling)
    return _told(command, account, decided_at)


def freeze_account(command: FreezeAccount, books: Books, decided_at: str) -> Outcome:
    """Freeze an account; one that is frozen stays so."""
    return _turn(command, "frozen", books, decided_at)


def unfreeze_account(command: UnfreezeAccount, books: Books, decided_at: str) -> Outcome:
    """Open a frozen account again; one that is open stays so."""
    return _turn(command, "open", books, decided_at)


def close_account(command: CloseAccount, books: Books, decided_at: str) -> Outcome:  # noqa: C901  # a list of checks
    """Close an account of which nothing is pending; its balance is zero, or is settled with `remainder_to`."""
    if command.account_id == command.remainder_to:
        return refused(command, Status.ACCOUNTS_MUST_DIFFER, decided_at)
    account = books.accounts.get(command.account_id)
    if account is None:
        return refused(command, Status.ACCOUNT_NOT_FOUND, decided_at)
    other = None if command.remainder_to is None else books.accounts.get(command.remainder_to)
    if command.remainder_to is not None and other is None:
        return refused(command, Status.DESTINATION_NOT_FOUND, decided_at)
    if other is not None and other.ledger is not account.ledger:
        return refused(command, Status.LEDGERS_MUST_MATCH, decided_at)
    # Where nothing moves, the other's state is its own affair.
    states = (account.state, other.state) if other is not None and account.balance else (account.state,)
    if "frozen" in states:
        return refused(command, Status.ACCOUNT_FROZEN, decided_at)
    if "closed" in states:
        return refused(command, Status.ACCOUNT_CLOSED, decided_at)
    if account.debits_pending or account.credits_pending:
        return refused(command, Status.PENDING_NOT_ZERO, decided_at)
    if account.balance and other is None:
        return refused(command, Status.BALANCE_NOT_ZERO, decided_at)
    if not account.balance or other is None:
        books.change(account, state="closed")
        return _told(command, account, decided_at)
    # By one transfer, which moves no more than any other.
    if abs(account.balance) > MAX_AMOUNT:
        return refused(command, Status.OVERFLOW, decided_at)
    # What it holds goes to the other; what it owes, the other pays.
    source, destination = (account, other) if account.balance > 0 else (other, account)
    fault = obstacle(source, destination, abs(account.balance))
    if fault is not None:
        return refused(command, fault, decided_at)

    moved = books.move(command.id, source, destination, abs(account.balance), Details())
    books.change(account, state="closed")
    return outcomes.transferred(command.id, command.type, decided_at, moved)


def _turn(command: FreezeAccount | UnfreezeAccount, state: str, books: Books, decided_at: str) -> Outcome:
    account = books.accounts.get(command.account_id)
    if account is None:
        return refused(command, Status.ACCOUNT_NOT_FOUND, decided_at)
    if account.state == "closed":
        return refused(command, Status.ACCOUNT_CLOSED, decided_at)

    if account.state != state:
        books.change(account, state=state)
    return _told(command, account, decided_at)


def _told(
    command: OpenAccount | LimitAccount | FreezeAccount | UnfreezeAccount | CloseAccount,
    account: Account,
    decided_at: str,
) -> Outcome:
    answer = {"balances": {account.id: account.after()}}
    return outcomes.decided(command.id, command.type, Status.APPLIED.value, decided_at, answer)
