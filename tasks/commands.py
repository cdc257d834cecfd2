"""The doors, one thin task a command type. A message of theirs is gathered; called as functions they settle alone."""

from typing import Any

from celery import shared_task

from models.outcomes import Outcome
from worker.intake.direct import settle_now
from worker.intake.strategy import CommandTask


@shared_task(base=CommandTask, name="ledgers.open")
def open_ledger(**command: Any) -> Outcome:
    """Open a book of accounts that share one currency and scale."""
    return settle_now("ledgers.open", command)


@shared_task(base=CommandTask, name="accounts.open")
def open_account(**command: Any) -> Outcome:
    """Open an account in a ledger."""
    return settle_now("accounts.open", command)


@shared_task(base=CommandTask, name="transfers.post")
def post_transfer(**command: Any) -> Outcome:
    """Move money from a source to a destination."""
    return settle_now("transfers.post", command)


@shared_task(base=CommandTask, name="batch")
def batch(**command: Any) -> Outcome:
    """Apply several commands in one transaction, chains among them whole or not at all."""
    return settle_now("batch", command)


@shared_task(base=CommandTask, name="commands.unreadable")
def unreadable(**command: Any) -> Outcome:
    """Keep a message that nobody could read as a dead letter."""
    return settle_now("commands.unreadable", command)
