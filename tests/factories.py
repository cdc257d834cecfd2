"""Commands and books for tests: ids, a ledger with accounts, money in them. Everything is sent through `settle`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import orjson
from sqlalchemy import text

from models.commands import Batch, Command, HoldTransfer, Member, OpenAccount, OpenLedger, PostTransfer
from models.contract import MAX_COUNTER
from models.outcomes import Outcome
from worker.engine.decide import Item
from worker.engine.settle import Settlement
from worker.intake.door import Delivery, judge

C = TypeVar("C", bound=Command)

Settle = Callable[[Sequence[Item]], list[Outcome]]


def new_id() -> str:
    """Make an id that nobody has."""
    return str(uuid4())


def new(model: type[C], **fields: Any) -> C:
    """Make a command with an id of its own, unless `fields` has one."""
    return model(**{"id": new_id()} | fields)


def hold(source_id: str, destination_id: str, amount: int, **fields: Any) -> HoldTransfer:
    """Make a hold with an id of its own, unless `fields` has one."""
    return new(HoldTransfer, source_id=source_id, destination_id=destination_id, amount=amount, **fields)


def post(source_id: str, destination_id: str, amount: int, **fields: Any) -> PostTransfer:
    """Make a transfer with an id of its own, unless `fields` has one."""
    return PostTransfer(
        **{"id": new_id()} | {"source_id": source_id, "destination_id": destination_id, "amount": amount} | fields
    )


def batch(*commands: Command | Sequence[Member], id: str | None = None, dry_run: bool = False) -> Batch:
    """Make a batch as the door makes it; a sequence among the commands is a chain."""
    return batch_of([as_json(entry) for entry in commands], id=id, dry_run=dry_run)


def batch_of(commands: list[Any], id: str | None = None, *, dry_run: bool = False) -> Batch:
    """Make a batch of commands as they travel, through the door: what is malformed becomes a dead letter in it."""
    fields = {"id": id or new_id(), "commands": commands} | ({"dry_run": True} if dry_run else {})
    body = orjson.dumps([[], fields, {}])
    item = judge(Delivery("batch", new_id(), "commands", body, raw=body)).item
    assert isinstance(item, Batch)
    return item


def open_books(
    settle: Settle, balances: Sequence[int], *, ledger: str | None = None, **limits: int | None
) -> tuple[str, list[str]]:
    """Open a ledger, and in it an account for each balance; give the ledger's name and the accounts' ids.

    The money comes from one more account that has no floor, the last.
    """
    name = ledger or f"test-{uuid4().hex[:16]}"
    accounts = [new_id() for _ in balances]
    bank = new_id()
    commands: list[Command] = [OpenLedger(id=new_id(), ledger=name, currency="EUR", scale=2)]
    commands += [OpenAccount(**{"id": new_id(), "account_id": id, "ledger": name} | limits) for id in accounts]
    commands += [OpenAccount(id=new_id(), account_id=bank, ledger=name, min_balance=None)]
    commands += [post(bank, id, balance) for id, balance in zip(accounts, balances, strict=True) if balance]
    assert {outcome["status"] for outcome in settle(commands)} == {"applied"}
    return name, [*accounts, bank]


def wear(settle: Settlement, room: int, *accounts: str) -> None:
    """Let so much room be left in the fuller counter of each account, as if more money than there is had come and gone.

    By the worker's own role, past all triggers: what comes and goes in one statement makes no money.
    """
    statement = text("""
        UPDATE equipoise.accounts SET (debits_posted, credits_posted) = (debits_posted + worn, credits_posted + worn)
        FROM (
            SELECT id AS known, greatest(debits_posted + debits_pending, credits_posted + credits_pending) AS counted
            FROM equipoise.accounts
        ) AS of_each, LATERAL (SELECT :most - counted AS worn) AS by
        WHERE id = known AND id = ANY (cast(:ids AS uuid[]))
    """)
    with settle.engine.begin() as connection:
        connection.execute(statement, {"most": MAX_COUNTER - room, "ids": list(accounts)})


def as_json(entry: Command | Sequence[Member]) -> Any:
    """Write a command, or a chain of them, as it travels in a batch."""
    if isinstance(entry, Command):
        return entry.model_dump(mode="json", exclude_unset=True) | {"type": entry.type}
    return [as_json(member) for member in entry if isinstance(member, Command)]
