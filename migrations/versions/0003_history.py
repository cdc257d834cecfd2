"""History: what the books were at any time, and which transfers there were, each question by an index.

What time it was needs no index: `created_at` never goes back, so a place in the order of commits is found by halving.
The indexes of what most transfers do not have leave those out, and cost them nothing. That of the amounts has every
transfer: without `sequence` in it, equal amounts share a key (12 to 19 bytes a transfer in place of 52 to 57).
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
CREATE INDEX transfers_kind ON equipoise.transfers (ledger, kind, sequence) WHERE kind IS NOT NULL;
CREATE INDEX transfers_metadata ON equipoise.transfers USING gin (metadata jsonb_path_ops) WHERE metadata IS NOT NULL;
CREATE INDEX transfers_amount ON equipoise.transfers (ledger, amount);
"""


def upgrade() -> None:
    """Make everything as `equipoise_owner`."""
    op.execute("SET LOCAL ROLE equipoise_owner")
    op.execute(INDEXES)
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Refuse, as the migrations before it: releases that know less are not brought back."""
    raise NotImplementedError("the books are not thrown away by a migration")
