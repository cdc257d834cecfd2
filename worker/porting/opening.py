"""Opening balances: what an account held before the books began, posted against one account of its ledger.

A line of an import's own, no command of the contract: it becomes a `transfers.post` between the account and the
ledger's account for opening balances, which has no limits and mirrors them all, so that the ledger adds up to zero.
"""

from collections.abc import Iterator
from typing import Annotated, Literal
from uuid import NAMESPACE_URL, uuid4, uuid5

from pydantic import Field

from models.commands import Command, OpenAccount, PostTransfer
from models.contract import MAX_AMOUNT
from models.fields import Id, Metadata, Timestamp
from worker.engine.decide import Item
from worker.engine.directory import commands_of

KIND = "opening_balance"

_NAMESPACE = uuid5(NAMESPACE_URL, "equipoise:opening-balances")


class OpeningBalance(Command):
    """Begin an account with a balance, which may be negative; 0 moves nothing."""

    type: Literal["opening_balance"] = "opening_balance"
    dry_run: Literal[False] = False  # it may have to open the ledger's account first; `--dry-run` judges a file
    account_id: Id
    amount: Annotated[int, Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
    effective_at: Timestamp | None = None
    metadata: Metadata | None = None

    def accounts(self) -> tuple[str, ...]:
        """Name the account."""
        return (self.account_id,)


def account_of(ledger: str) -> str:
    """Give the id of a ledger's account for opening balances."""
    return str(uuid5(_NAMESPACE, ledger))


def opening(ledger: str) -> OpenAccount:
    """Make a command that opens a ledger's account for opening balances.

    Each time under another id: one that is refused, as the ledger is not there yet, must not stand in the way for ever.
    """
    return OpenAccount(
        id=str(uuid4()),
        account_id=account_of(ledger),
        ledger=ledger,
        min_balance=None,
        metadata={"name": "opening balances"},
    )


def post(balance: OpeningBalance, ledger: str) -> PostTransfer:
    """Make the transfer of an opening balance other than 0."""
    sides = (account_of(ledger), balance.account_id)
    source_id, destination_id = sides if balance.amount > 0 else sides[::-1]
    return PostTransfer(
        id=balance.id,
        source_id=source_id,
        destination_id=destination_id,
        amount=abs(balance.amount),
        kind=KIND,
        effective_at=balance.effective_at,
        metadata=balance.metadata,
    )


def accounts_opened_by(item: Item | OpeningBalance | None) -> Iterator[str]:
    """Name the accounts that an item opens, if it is applied."""
    if item is None or isinstance(item, OpeningBalance):
        return
    for command in commands_of(item):
        if isinstance(command, OpenAccount):
            yield command.account_id
