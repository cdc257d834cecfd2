"""Holds whose time has come while nobody touched their accounts: found, and settled like any other command.

A group expires what is overdue on the accounts that it touches before it decides anything. This finds the rest, and has
each ledger touched by a command of its own; whichever comes first, a hold ends once.
"""

from collections import defaultdict
from uuid import uuid4

from sqlalchemy import text

from models.rules.holds import ExpireHolds
from worker.engine.settle import Settlement

AT_ONCE = 1_000
"""Holds a look: a group of a tenth of a second."""

# By the clock of the moment: a ledger's own time may be ahead of it, but is never behind.
_OVERDUE = text(
    """
    SELECT ledger, source_id::text FROM equipoise.holds
    WHERE state = 'pending' AND expires_at <= clock_timestamp()
    ORDER BY expires_at LIMIT :count
    """
)


def expire_overdue(settle: Settlement) -> int:
    """Expire every hold that is overdue now; count them. Raises what `settle` raises: the next look finds the rest."""
    expired = 0
    while True:
        with settle.engine.connect() as connection:
            found = connection.execute(_OVERDUE, {"count": AT_ONCE}).all()
        sources: defaultdict[int, set[str]] = defaultdict(set)
        for ledger, source_id in found:
            sources[ledger].add(source_id)
        for ids in sources.values():
            settle([ExpireHolds(id=str(uuid4()), account_ids=sorted(ids))])
        expired += len(found)
        if len(found) < AT_ONCE:
            return expired
