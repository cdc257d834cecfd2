"""First transfers: ledgers, accounts, transfers, the inbox and dead letters, and who may do what to them.

Every promise that the database can hold is held here, by key, CHECK, trigger or grant, so that the books
stay true whatever a program does. The statement triggers look at all rows of a statement at once: one join for a
thousand transfers, where foreign keys would be two look-ups and row locks for each.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = """
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['equipoise_owner', 'equipoise_worker', 'equipoise_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION
            -- Roles belong to the whole server: another database's migration may have made it already,
            -- or may be making it at this moment.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
        IF NOT pg_has_role(current_user, role, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role);
        END IF;
    END LOOP;
END
$$
"""

TABLES = """
CREATE TABLE equipoise.ledgers (
    number      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9_-]{1,63}$'),
    currency    text NOT NULL CHECK (currency <> ''),
    scale       smallint NOT NULL CHECK (scale BETWEEN 0 AND 18),
    sequence    bigint NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    decided_at  timestamptz NOT NULL,
    created_at  timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON COLUMN equipoise.ledgers.sequence IS 'transfers so far, counted without gaps';
COMMENT ON COLUMN equipoise.ledgers.decided_at IS 'when its newest group was decided; never goes back';

CREATE TABLE equipoise.accounts (
    id              uuid PRIMARY KEY,
    ledger          integer NOT NULL REFERENCES equipoise.ledgers (number),
    version         bigint NOT NULL DEFAULT 0 CHECK (version >= 0),
    debits_posted   bigint NOT NULL DEFAULT 0 CHECK (debits_posted >= 0),
    credits_posted  bigint NOT NULL DEFAULT 0 CHECK (credits_posted >= 0),
    debits_pending  bigint NOT NULL DEFAULT 0 CHECK (debits_pending >= 0),
    credits_pending bigint NOT NULL DEFAULT 0 CHECK (credits_pending >= 0),
    min_balance     bigint,
    max_balance     bigint,
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'frozen', 'closed')),
    created_at      timestamptz NOT NULL,
    owner_id        uuid,
    metadata        jsonb CHECK (jsonb_typeof(metadata) = 'object'),
    -- numeric, since the difference of two counters and a pending may leave bigint.
    CONSTRAINT within_min_balance
        CHECK (credits_posted::numeric - debits_posted - debits_pending >= min_balance),
    CONSTRAINT within_max_balance
        CHECK (credits_posted::numeric - debits_posted + credits_pending <= max_balance)
) WITH (fillfactor = 50);
COMMENT ON COLUMN equipoise.accounts.version IS 'entries so far, counted without gaps';

CREATE TABLE equipoise.transfers (
    ledger               integer NOT NULL,
    sequence             bigint NOT NULL CHECK (sequence > 0),
    id                   uuid NOT NULL,
    source_id            uuid NOT NULL,
    destination_id       uuid NOT NULL,
    amount               bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000000),
    source_version       bigint NOT NULL CHECK (source_version > 0),
    destination_version  bigint NOT NULL CHECK (destination_version > 0),
    source_balance       bigint NOT NULL,
    destination_balance  bigint NOT NULL,
    created_at           timestamptz NOT NULL,
    source_pending       bigint CHECK (source_pending > 0),
    destination_pending  bigint CHECK (destination_pending > 0),
    effective_at         timestamptz,
    kind                 text CHECK (kind <> ''),
    metadata             jsonb CHECK (jsonb_typeof(metadata) = 'object'),
    PRIMARY KEY (ledger, sequence),
    CONSTRAINT accounts_must_differ CHECK (source_id <> destination_id)
);
CREATE UNIQUE INDEX transfers_id ON equipoise.transfers (id);
CREATE UNIQUE INDEX transfers_source ON equipoise.transfers (source_id, source_version);
CREATE UNIQUE INDEX transfers_destination ON equipoise.transfers (destination_id, destination_version);
COMMENT ON TABLE equipoise.transfers IS 'money that moved: one row with both its sides; immutable';
COMMENT ON COLUMN equipoise.transfers.source_balance IS 'the source''s balance after this transfer';
COMMENT ON COLUMN equipoise.transfers.source_pending IS 'the source''s debits_pending after it; NULL: none';

CREATE VIEW equipoise.entries AS
    SELECT source_id AS account_id, source_version AS version, ledger, sequence, id AS transfer_id,
           'debit' AS side, -amount AS change, source_balance AS balance,
           source_balance - coalesce(source_pending, 0) AS available,
           destination_id AS other_id, kind, effective_at, metadata, created_at
    FROM equipoise.transfers
    UNION ALL
    SELECT destination_id, destination_version, ledger, sequence, id,
           'credit', amount, destination_balance,
           destination_balance - coalesce(destination_pending, 0),
           source_id, kind, effective_at, metadata, created_at
    FROM equipoise.transfers;
COMMENT ON VIEW equipoise.entries IS 'each transfer seen from both its accounts';

CREATE TABLE equipoise.inbox (
    id          uuid PRIMARY KEY,
    decided_at  timestamptz NOT NULL,
    type        text NOT NULL CHECK (type <> ''),
    status      text NOT NULL CHECK (status <> ''),
    content     text,
    answer      text
);
COMMENT ON TABLE equipoise.inbox IS 'every command that was decided, once; immutable';
COMMENT ON COLUMN equipoise.inbox.content IS 'canonical JSON; NULL: it is in the transfer of the same id';
COMMENT ON COLUMN equipoise.inbox.answer IS 'JSON of what the outcome says beyond id, type, status, decided_at';

CREATE TABLE equipoise.dead_letters (
    id          uuid PRIMARY KEY,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason      text NOT NULL CHECK (reason <> ''),
    detail      text NOT NULL,
    task        text NOT NULL,
    task_id     text NOT NULL,
    queue       text NOT NULL,
    command_id  uuid,
    body        bytea NOT NULL
);
CREATE INDEX dead_letters_created_at ON equipoise.dead_letters (created_at);
CREATE INDEX dead_letters_command_id ON equipoise.dead_letters (command_id) WHERE command_id IS NOT NULL;
"""

IMMUTABLE = """
CREATE FUNCTION equipoise.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'equipoise.%: % refused, what is here stays', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON equipoise.transfers
    FOR EACH ROW EXECUTE FUNCTION equipoise.refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON equipoise.transfers
    FOR EACH STATEMENT EXECUTE FUNCTION equipoise.refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON equipoise.inbox
    FOR EACH ROW EXECUTE FUNCTION equipoise.refuse_change();
CREATE TRIGGER immutable_whole BEFORE TRUNCATE ON equipoise.inbox
    FOR EACH STATEMENT EXECUTE FUNCTION equipoise.refuse_change();

CREATE FUNCTION equipoise.refuse_turning_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the sequence or the time of ledger % would turn back', OLD.name
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER onward BEFORE UPDATE ON equipoise.ledgers
    FOR EACH ROW WHEN (NEW.sequence < OLD.sequence OR NEW.decided_at < OLD.decided_at)
    EXECUTE FUNCTION equipoise.refuse_turning_back();
CREATE TRIGGER permanent BEFORE DELETE ON equipoise.accounts
    FOR EACH ROW EXECUTE FUNCTION equipoise.refuse_change();
CREATE TRIGGER permanent_whole BEFORE TRUNCATE ON equipoise.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION equipoise.refuse_change();
CREATE TRIGGER permanent BEFORE DELETE ON equipoise.ledgers
    FOR EACH ROW EXECUTE FUNCTION equipoise.refuse_change();
CREATE TRIGGER permanent_whole BEFORE TRUNCATE ON equipoise.ledgers
    FOR EACH STATEMENT EXECUTE FUNCTION equipoise.refuse_change();
"""

BALANCED = """
CREATE FUNCTION equipoise.transfers_stay_in_their_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added
        LEFT JOIN equipoise.accounts source ON source.id = added.source_id
        LEFT JOIN equipoise.accounts destination ON destination.id = added.destination_id
        WHERE (source.ledger = added.ledger AND destination.ledger = added.ledger) IS NOT TRUE
    ) THEN
        RAISE EXCEPTION 'a transfer names an account that is missing or in another ledger'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER within_ledger AFTER INSERT ON equipoise.transfers
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION equipoise.transfers_stay_in_their_ledger();

CREATE FUNCTION equipoise.accounts_stay_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM before JOIN after USING (id)
        GROUP BY before.ledger
        HAVING sum(after.debits_posted - before.debits_posted) <> sum(after.credits_posted - before.credits_posted)
            OR sum(after.debits_pending - before.debits_pending) <> sum(after.credits_pending - before.credits_pending)
            OR bool_or(after.ledger <> before.ledger)
            OR bool_or(after.debits_posted < before.debits_posted)
            OR bool_or(after.credits_posted < before.credits_posted)
            OR bool_or(after.version < before.version)
    ) THEN
        RAISE EXCEPTION 'an update of accounts would make or lose money, or turn a counter back'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER balanced AFTER UPDATE ON equipoise.accounts
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION equipoise.accounts_stay_balanced();

CREATE FUNCTION equipoise.accounts_open_empty() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added
        WHERE (debits_posted, credits_posted, debits_pending, credits_pending, version) <> (0, 0, 0, 0, 0)
    ) THEN
        RAISE EXCEPTION 'an account opens empty' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER empty AFTER INSERT ON equipoise.accounts
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION equipoise.accounts_open_empty();
"""

GRANTS = """
GRANT USAGE ON SCHEMA equipoise TO equipoise_worker, equipoise_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA equipoise TO equipoise_worker, equipoise_reader;
GRANT INSERT ON equipoise.ledgers, equipoise.accounts, equipoise.transfers, equipoise.inbox, equipoise.dead_letters
    TO equipoise_worker;
GRANT UPDATE (sequence, decided_at) ON equipoise.ledgers TO equipoise_worker;
GRANT UPDATE (version, debits_posted, credits_posted, debits_pending, credits_pending, min_balance, max_balance, state)
    ON equipoise.accounts TO equipoise_worker;
"""


def upgrade() -> None:
    """Make the roles, then everything else as `equipoise_owner`."""
    op.execute(ROLES)
    op.execute("ALTER SCHEMA equipoise OWNER TO equipoise_owner")
    op.execute("SET LOCAL ROLE equipoise_owner")
    for statements in (TABLES, IMMUTABLE, BALANCED):
        op.execute(statements)
    op.execute("RESET ROLE")
    op.execute(GRANTS)


def downgrade() -> None:
    """Refuse: there is nothing before the first migration but an empty database."""
    raise NotImplementedError("the books are not thrown away by a migration: drop the schema yourself if you must")
