"""What a test looks at: statuses, the counters of an account, and what is in the tables."""

from typing import Any

from sqlalchemy import text

from models.outcomes import Outcome
from worker.engine.decide import Item
from worker.engine.settle import Settlement

COUNTED = ("accounts", "changes", "dead_letters", "holds", "inbox", "ledgers", "transfers")


def one(settle: Settlement, command: Item) -> Outcome:
    """Settle one command alone."""
    [outcome] = settle([command])
    return outcome


def statuses(settle: Settlement, *commands: Item) -> list[str]:
    """Settle commands one after the other, and give what became of each."""
    return [one(settle, command)["status"] for command in commands]


def reserved(settle: Settlement, account_id: str) -> tuple[int, int, int]:
    """Give an account's balance, debits_pending and credits_pending."""
    statement = "SELECT credits_posted - debits_posted, debits_pending, credits_pending FROM equipoise.accounts"
    with settle.engine.connect() as connection:
        row = connection.execute(text(f"{statement} WHERE id = :id"), {"id": account_id}).one()
        return row[0], row[1], row[2]


def contents(settle: Settlement) -> dict[str, Any]:
    """Give every row of every table."""
    with settle.engine.connect() as connection:
        return {
            table: [tuple(row) for row in connection.execute(text(f"SELECT * FROM equipoise.{table} ORDER BY 1, 2"))]
            for table in COUNTED
        }


def left_by_hold(settle: Settlement, hold_id: str) -> tuple[str, int, int, int]:
    """Give a hold's state, amount, captured and remaining."""
    statement = text("SELECT state, amount, captured, remaining FROM equipoise.holds WHERE id = :id")
    with settle.engine.connect() as connection:
        row = connection.execute(statement, {"id": hold_id}).one()
        return row[0], row[1], row[2], row[3]
