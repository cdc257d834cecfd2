"""History: what the books were at any time, by effective date as well.

What time it was needs no index: `created_at` never goes back, so a place in the order of commits is found by halving.
Transfers without an effective date are in no index of those that have one, and pay nothing for it.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEXES = """
CREATE INDEX transfers_source_effective ON equipoise.transfers (source_id, effective_at, source_version)
    WHERE effective_at IS NOT NULL;
CREATE INDEX transfers_destination_effective
    ON equipoise.transfers (destination_id, effective_at, destination_version) WHERE effective_at IS NOT NULL;
"""


def upgrade() -> None:
    """Make everything as `equipoise_owner`."""
    op.execute("SET LOCAL ROLE equipoise_owner")
    op.execute(INDEXES)
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Refuse, as the migrations before it: releases that know less are not brought back."""
    raise NotImplementedError("the books are not thrown away by a migration")
