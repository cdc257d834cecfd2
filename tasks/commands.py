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


@shared_task(base=CommandTask, name="accounts.limit")
def limit_account(**command: Any) -> Outcome:
    """Give an account other limits."""
    return settle_now("accounts.limit", command)


@shared_task(base=CommandTask, name="accounts.freeze")
def freeze_account(**command: Any) -> Outcome:
    """Let an account take no new transfers, holds or captures."""
    return settle_now("accounts.freeze", command)


@shared_task(base=CommandTask, name="accounts.unfreeze")
def unfreeze_account(**command: Any) -> Outcome:
    """Let a frozen account take them again."""
    return settle_now("accounts.unfreeze", command)


@shared_task(base=CommandTask, name="accounts.close")
def close_account(**command: Any) -> Outcome:
    """Close an account for ever."""
    return settle_now("accounts.close", command)


@shared_task(base=CommandTask, name="transfers.post")
def post_transfer(**command: Any) -> Outcome:
    """Move money from a source to a destination."""
    return settle_now("transfers.post", command)


@shared_task(base=CommandTask, name="transfers.split")
def split_transfer(**command: Any) -> Outcome:
    """Move money from one account to many, or from many to one."""
    return settle_now("transfers.split", command)


@shared_task(base=CommandTask, name="transfers.exchange")
def exchange_transfer(**command: Any) -> Outcome:
    """Give up an amount in one ledger and get another in a second one."""
    return settle_now("transfers.exchange", command)


@shared_task(base=CommandTask, name="transfers.reverse")
def reverse_transfer(**command: Any) -> Outcome:
    """Move a transfer's money back."""
    return settle_now("transfers.reverse", command)


@shared_task(base=CommandTask, name="transfers.hold")
def hold_transfer(**command: Any) -> Outcome:
    """Reserve money for a transfer that may come later."""
    return settle_now("transfers.hold", command)


@shared_task(base=CommandTask, name="transfers.capture")
def capture_transfer(**command: Any) -> Outcome:
    """Move what a hold reserves."""
    return settle_now("transfers.capture", command)


@shared_task(base=CommandTask, name="transfers.void")
def void_transfer(**command: Any) -> Outcome:
    """Release what a hold reserves."""
    return settle_now("transfers.void", command)


@shared_task(base=CommandTask, name="transfers.extend")
def extend_hold(**command: Any) -> Outcome:
    """Give a hold another deadline or amount."""
    return settle_now("transfers.extend", command)


@shared_task(base=CommandTask, name="batch")
def batch(**command: Any) -> Outcome:
    """Apply several commands in one transaction, chains among them whole or not at all."""
    return settle_now("batch", command)


@shared_task(base=CommandTask, name="commands.unreadable")
def unreadable(**command: Any) -> Outcome:
    """Keep a message that nobody could read as a dead letter."""
    return settle_now("commands.unreadable", command)
