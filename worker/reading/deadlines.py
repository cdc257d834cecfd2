"""The one rule of deadlines, for whoever reads holds: what is overdue has ended, whatever its row still says.

The row says so once a group touches one of the hold's accounts, or the scheduled task has them touched. Groups decide
at their ledger's time, which never goes back and may be ahead of PostgreSQL's clock: by the clock alone, a hold would
come to life again that every command finds expired.
"""

from typing import Final

OVERDUE: Final = "(expires_at <= greatest(:now, ledger.decided_at))"
"""SQL, of a hold beside its `ledger`, at `:now`: null, hence not true, of a hold without a deadline."""
