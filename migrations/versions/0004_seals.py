"""Seals: a hash chain a ledger over its transfers, and one over the commands that keep their own content.

What is there already is sealed as it stands, in the order in which it was decided: within a group that is the order in
which COPY has put it on the disk, since the inbox is only ever inserted into.
"""

import orjson
from alembic import op
from sqlalchemy import Connection, text

from models import seals
from worker.postgres.engines import array, read_lines

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE equipoise.ledgers
    ADD COLUMN head bytea CHECK (length(head) = 32),
    ADD COLUMN commands bigint NOT NULL DEFAULT 0 CHECK (commands >= 0),
    ADD COLUMN commands_head bytea CHECK (length(commands_head) = 32);
ALTER TABLE equipoise.transfers ADD COLUMN seal bigint;
ALTER TABLE equipoise.inbox
    ADD COLUMN ledger integer, ADD COLUMN number bigint CHECK (number > 0), ADD COLUMN seal bigint,
    ADD CONSTRAINT sealed_or_not CHECK (num_nulls(ledger, number, seal) IN (0, 3));
COMMENT ON COLUMN equipoise.ledgers.head IS 'SHA-256: the newest link of its transfers'' chain';
COMMENT ON COLUMN equipoise.ledgers.commands IS 'commands sealed so far, counted without gaps';
COMMENT ON COLUMN equipoise.ledgers.commands_head IS 'SHA-256: the newest link of its commands'' chain';
COMMENT ON COLUMN equipoise.transfers.seal IS 'the first 8 bytes of its link in the ledger''s chain';
COMMENT ON COLUMN equipoise.inbox.ledger IS 'the ledger that seals it; NULL: its transfer tells all, or none knows it';
COMMENT ON COLUMN equipoise.inbox.number IS 'its place in the chain of that ledger''s commands';
"""

CONSTRAINTS = """
ALTER TABLE equipoise.ledgers ALTER COLUMN head SET NOT NULL, ALTER COLUMN commands_head SET NOT NULL;
ALTER TABLE equipoise.transfers ALTER COLUMN seal SET NOT NULL;
CREATE UNIQUE INDEX inbox_chain ON equipoise.inbox (ledger, number) WHERE number IS NOT NULL;

CREATE OR REPLACE TRIGGER onward BEFORE UPDATE ON equipoise.ledgers
    FOR EACH ROW WHEN (
        NEW.sequence < OLD.sequence OR NEW.commands < OLD.commands OR NEW.decided_at < OLD.decided_at
    )
    EXECUTE FUNCTION equipoise.refuse_turning_back();

GRANT UPDATE (head, commands, commands_head) ON equipoise.ledgers TO equipoise_worker;
"""

ROWS_AT_ONCE = 10_000

# What is sealed from here on may have more columns one day; this is what there was.
TRANSFERS = f"""
    SELECT ledger, sequence, id, source_id, destination_id, amount, source_version, destination_version,
           source_balance, destination_balance, created_at, source_pending, destination_pending,
           effective_at, kind, metadata, hold_id, reverses, command_id
    FROM equipoise.transfers
    WHERE ledger = {{ledger}} AND sequence > {{after}} ORDER BY sequence LIMIT {ROWS_AT_ONCE}
"""  # noqa: S608  # our own number
METADATA = 15
SEAL_TRANSFERS = """
    UPDATE equipoise.transfers SET seal = sealed.seal
    FROM unnest(cast(:sequences AS bigint[]), cast(:seals AS bigint[])) AS sealed (sequence, seal)
    WHERE transfers.ledger = :ledger AND transfers.sequence = sealed.sequence
"""

# The ledger that each command would have been sealed in. Of batches only their members are.
PLACE_COMMANDS = """
    CREATE TEMPORARY TABLE placed ON COMMIT DROP AS
    SELECT id, ledger, row_number() OVER (PARTITION BY ledger ORDER BY decided_at, place) AS number
    FROM (
        SELECT id, decided_at, ctid AS place, coalesce(
            (SELECT number FROM equipoise.ledgers WHERE name = content::jsonb ->> 'ledger'),
            (SELECT ledger FROM equipoise.accounts WHERE id = (content::jsonb ->> 'account_id')::uuid),
            (SELECT ledger FROM equipoise.accounts WHERE id = (content::jsonb ->> 'source_id')::uuid),
            (SELECT ledger FROM equipoise.accounts WHERE id = (content::jsonb ->> 'destination_id')::uuid),
            (SELECT min(ledger) FROM equipoise.accounts WHERE id IN (
                SELECT (value #>> '{}')::uuid FROM jsonb_path_query(
                    content::jsonb - 'metadata', 'strict $.** ? (@.type() == "object").keyvalue()
                        ? (@.key like_regex "^(account|source|destination|.*liquidity)_id$|_to$").value'
                ) AS value
            )),
            (SELECT ledger FROM equipoise.holds WHERE id = (content::jsonb ->> 'hold_id')::uuid),
            (SELECT ledger FROM equipoise.transfers WHERE id = (content::jsonb ->> 'hold_id')::uuid),
            (SELECT ledger FROM equipoise.transfers WHERE id = (content::jsonb ->> 'transfer_id')::uuid)
        ) AS ledger
        FROM equipoise.inbox WHERE content IS NOT NULL
    ) AS command
    WHERE ledger IS NOT NULL
"""
COMMANDS = f"""
    SELECT id, decided_at, type, status, content, answer FROM equipoise.inbox JOIN placed USING (id)
    WHERE placed.ledger = {{ledger}} AND placed.number > {{after}} ORDER BY placed.number LIMIT {ROWS_AT_ONCE}
"""  # noqa: S608
SEAL_COMMANDS = """
    UPDATE equipoise.inbox SET ledger = placed.ledger, number = placed.number, seal = sealed.seal
    FROM unnest(cast(:sequences AS bigint[]), cast(:seals AS bigint[])) AS sealed (number, seal)
    JOIN placed ON placed.ledger = :ledger AND placed.number = sealed.number
    WHERE inbox.id = placed.id
"""
HEADS = """
    UPDATE equipoise.ledgers SET head = :head, commands = :commands, commands_head = :commands_head
    WHERE number = :ledger
"""


def upgrade() -> None:
    """Add the columns, seal what is there, and require it from then on."""
    op.execute("SET LOCAL ROLE equipoise_owner")
    op.execute(COLUMNS)
    for table in ("transfers", "inbox"):
        op.execute(f"ALTER TABLE equipoise.{table} DISABLE TRIGGER USER")
    _seal(op.get_bind())
    for table in ("transfers", "inbox"):
        op.execute(f"ALTER TABLE equipoise.{table} ENABLE TRIGGER USER")
    op.execute(CONSTRAINTS)
    op.execute("RESET ROLE")


def _seal(connection: Connection) -> None:
    connection.execute(text(PLACE_COMMANDS))
    connection.execute(text("CREATE UNIQUE INDEX ON placed (ledger, number)"))
    connection.execute(text("ANALYZE placed"))
    for ledger, name, currency, scale in connection.execute(
        text("SELECT number, name, currency, scale FROM equipoise.ledgers")
    ).all():
        genesis = seals.genesis(name, currency, scale)
        head, _ = _follow(connection, ledger, genesis, TRANSFERS, SEAL_TRANSFERS)
        commands_head, commands = _follow(connection, ledger, genesis, COMMANDS, SEAL_COMMANDS)
        heads = {"ledger": ledger, "head": head, "commands": commands, "commands_head": commands_head}
        connection.execute(text(HEADS), heads)


def _follow(connection: Connection, ledger: int, head: bytes, rows: str, seal_rows: str) -> tuple[bytes, int]:
    """Seal a ledger's rows from the first on; give the newest link and how many there are."""
    count = 0
    while True:
        links = []
        for line in read_lines(connection, rows.format(ledger=ledger, after=count)):
            head = seals.link(head, _as_sealed(line))
            links.append(seals.seal(head))
        if not links:
            return head, count
        numbers = range(count + 1, count + len(links) + 1)
        values = {"ledger": ledger, "sequences": array(numbers), "seals": array(links)}
        connection.execute(text(seal_rows), values)
        count += len(links)


def _as_sealed(line: bytes) -> bytes:
    """Write metadata with its keys sorted and without spaces; PostgreSQL has an order of its own."""
    fields = line.split(b"\t")
    if len(fields) <= METADATA or fields[METADATA] == rb"\N":
        return line
    metadata = orjson.loads(fields[METADATA].replace(rb"\\", b"\\"))
    fields[METADATA] = orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS).replace(b"\\", rb"\\")
    return b"\t".join(fields)


def downgrade() -> None:
    """Refuse: evidence is not thrown away by a migration."""
    raise NotImplementedError("the books are not thrown away by a migration")
