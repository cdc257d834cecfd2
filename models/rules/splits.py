"""The rule of `transfers.split`: who gets how much of an amount, to the last minor unit, and always the same."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor

from models.books import Books, Details
from models.commands import Part, SplitTransfer
from models.outcomes import Outcome, refused
from models.rules.transfers import Leg, first, leg_fault, move_all
from models.statuses import Status


def split_transfer(command: SplitTransfer, books: Books, decided_at: str) -> Outcome:
    """Move an amount from one account to many, or from many to one: all parts or none."""
    to_many = command.source_id is not None and command.destinations is not None
    to_one = command.sources is not None and command.destination_id is not None
    given = (command.source_id, command.destinations, command.sources, command.destination_id)
    if to_many is to_one or sum(it is not None for it in given) != 2:
        return refused(command, Status.INVALID, decided_at)
    parts = command.destinations or command.sources or []
    amounts = divide(command.amount, parts)
    if amounts is None:
        return refused(command, Status.INVALID, decided_at)
    # A share that comes to nothing makes no transfer; its account must be there all the same.
    legs = [
        Leg(command.source_id or part.account_id, command.destination_id or part.account_id, amount)
        for part, amount in zip(parts, amounts, strict=True)
    ]
    faults = [fault for leg in legs if (fault := leg_fault(leg, books)) is not None]
    if faults:
        return refused(command, first(faults), decided_at)

    details = Details(command.kind, command.effective_at, command.metadata)
    return move_all(command, [leg for leg in legs if leg.amount], command.amount, books, decided_at, details)


def divide(amount: int, parts: Sequence[Part]) -> list[int] | None:
    """Give each part's amount, adding up to the whole; None where the parts contradict each other or the whole.

    Shares are of the whole, exact fractions. Together they get what they add up to, rounded down; what rounding takes
    from them goes, a unit each, to the largest remainders, the first of equals first (Hamilton's method). The rest gets
    what is left, which may be nothing.
    """
    if any((part.amount, part.share, part.rest or None).count(None) != 2 for part in parts):
        return None
    rests = [part for part in parts if part.rest]
    quotas = [Fraction(part.share) * amount if part.share else Fraction(part.amount or 0) for part in parts]
    total = sum(quotas, Fraction(0))
    if len(rests) > 1 or total > amount or (not rests and total != amount):
        return None
    amounts = [floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(parts)), key=lambda place: (amounts[place] - quotas[place], place))
    for place in by_remainder[: floor(total) - sum(amounts)]:
        amounts[place] += 1
    left = amount - sum(amounts)
    return [left if part.rest else it for part, it in zip(parts, amounts, strict=True)]
