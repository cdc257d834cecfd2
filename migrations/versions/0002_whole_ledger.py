"""The whole ledger: holds, reversals, transfers of one command that are several, and the trail of changed accounts.

A hold's life is checked here, too: it is pending until it ends, once, and reserves something exactly as long.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE equipoise.holds (
    id              uuid PRIMARY KEY,
    ledger          integer NOT NULL REFERENCES equipoise.ledgers (number),
    source_id       uuid NOT NULL REFERENCES equipoise.accounts (id),
    destination_id  uuid NOT NULL REFERENCES equipoise.accounts (id),
    amount          bigint NOT NULL CHECK (amount > 0),
    remaining       bigint NOT NULL CHECK (remaining >= 0),
    captured        bigint NOT NULL DEFAULT 0 CHECK (captured >= 0),
    state           text NOT NULL CHECK (state IN ('pending', 'captured', 'voided', 'expired')),
    expires_at      timestamptz,
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    kind            text CHECK (kind <> ''),
    effective_at    timestamptz,
    metadata        jsonb CHECK (jsonb_typeof(metadata) = 'object'),
    CONSTRAINT accounts_must_differ CHECK (source_id <> destination_id),
    CONSTRAINT reserves_while_pending CHECK ((state = 'pending') = (remaining > 0)),
    CONSTRAINT ended_unless_pending CHECK ((state = 'pending') = (ended_at IS NULL)),
    CONSTRAINT within_amount CHECK (captured + remaining <= amount),
    CONSTRAINT captured_something CHECK (state <> 'captured' OR captured > 0),
    CONSTRAINT expires_to_expire CHECK (state <> 'expired' OR ended_at >= expires_at)
) WITH (fillfactor = 80);
CREATE INDEX holds_source ON equipoise.holds (source_id, expires_at) WHERE state = 'pending';
CREATE INDEX holds_destination ON equipoise.holds (destination_id, expires_at) WHERE state = 'pending';
CREATE INDEX holds_expiry ON equipoise.holds (expires_at) WHERE state = 'pending';
COMMENT ON COLUMN equipoise.holds.amount IS 'all that it ever reserved: captured, released or remaining';

ALTER TABLE equipoise.transfers ADD COLUMN hold_id uuid, ADD COLUMN reverses uuid, ADD COLUMN command_id uuid;
CREATE INDEX transfers_hold ON equipoise.transfers (hold_id) WHERE hold_id IS NOT NULL;
CREATE INDEX transfers_reverses ON equipoise.transfers (reverses) WHERE reverses IS NOT NULL;
CREATE INDEX transfers_command ON equipoise.transfers (command_id) WHERE command_id IS NOT NULL;
COMMENT ON COLUMN equipoise.transfers.hold_id IS 'the hold that it has captured';
COMMENT ON COLUMN equipoise.transfers.reverses IS 'the transfer whose money it moved back';
COMMENT ON COLUMN equipoise.transfers.command_id IS 'the command that made it and others; NULL: the command has its id';

ALTER TABLE equipoise.accounts ADD CONSTRAINT empty_when_closed CHECK (
    state <> 'closed' OR (credits_posted = debits_posted AND debits_pending = 0 AND credits_pending = 0)
);

CREATE TABLE equipoise.changes (
    command_id  uuid NOT NULL,
    changed_at  timestamptz NOT NULL,
    table_name  text NOT NULL,
    row_id      uuid NOT NULL,
    before      jsonb NOT NULL,
    after       jsonb NOT NULL,
    PRIMARY KEY (row_id, command_id)
);
CREATE INDEX changes_command ON equipoise.changes (command_id);
COMMENT ON TABLE equipoise.changes IS 'which command changed which row, from what to what; immutable';
"""

TRIGGERS = """
CREATE FUNCTION equipoise.closed_is_for_ever() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'account % is closed for ever', OLD.id USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER closed_is_for_ever BEFORE UPDATE ON equipoise.accounts
    FOR EACH ROW WHEN (OLD.state = 'closed' AND NEW.state <> 'closed')
    EXECUTE FUNCTION equipoise.closed_is_for_ever();

CREATE FUNCTION equipoise.holds_end_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'hold % cannot change so: it has ended, or it would turn back or become another', OLD.id
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER ends_once BEFORE UPDATE ON equipoise.holds
    FOR EACH ROW WHEN (
        OLD.state <> 'pending' OR NEW.captured < OLD.captured
        OR (NEW.id, NEW.ledger, NEW.source_id, NEW.destination_id, NEW.created_at)
            IS DISTINCT FROM (OLD.id, OLD.ledger, OLD.source_id, OLD.destination_id, OLD.created_at)
    )
    EXECUTE FUNCTION equipoise.holds_end_once();
CREATE TRIGGER permanent BEFORE DELETE ON equipoise.holds
    FOR EACH ROW EXECUTE FUNCTION equipoise.refuse_change();
CREATE TRIGGER permanent_whole BEFORE TRUNCATE ON equipoise.holds
    FOR EACH STATEMENT EXECUTE FUNCTION equipoise.refuse_change();

CREATE FUNCTION equipoise.reversals_stay_within_their_original() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (
        SELECT sum(back.amount) <= min(original.amount)
            AND bool_and((back.source_id, back.destination_id) = (original.destination_id, original.source_id))
        FROM equipoise.transfers original JOIN equipoise.transfers back ON back.reverses = original.id
        WHERE original.id = NEW.reverses
    ) IS NOT TRUE THEN
        RAISE EXCEPTION 'transfer % would be reversed beyond its amount, or to somebody else', NEW.reverses
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
-- A row at a time, unlike the others: few transfers are reversals, and for the rest WHEN costs next to nothing.
CREATE TRIGGER within_original AFTER INSERT ON equipoise.transfers
    FOR EACH ROW WHEN (NEW.reverses IS NOT NULL)
    EXECUTE FUNCTION equipoise.reversals_stay_within_their_original();

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON equipoise.changes
    FOR EACH ROW EXECUTE FUNCTION equipoise.refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON equipoise.changes
    FOR EACH STATEMENT EXECUTE FUNCTION equipoise.refuse_change();
"""

GRANTS = """
GRANT SELECT ON equipoise.holds, equipoise.changes TO equipoise_worker, equipoise_reader;
GRANT INSERT ON equipoise.holds, equipoise.changes TO equipoise_worker;
GRANT UPDATE (amount, remaining, captured, state, expires_at, ended_at) ON equipoise.holds TO equipoise_worker;
"""


def upgrade() -> None:
    """Make everything as `equipoise_owner`."""
    op.execute("SET LOCAL ROLE equipoise_owner")
    op.execute(TABLES)
    op.execute(TRIGGERS)
    op.execute(GRANTS)
    op.execute("RESET ROLE")


def downgrade() -> None:
    """Refuse: holds and reversals are not thrown away by a migration."""
    raise NotImplementedError("the books are not thrown away by a migration")
