"""Each promise is refused to be broken by the database itself, whoever asks: by trigger, CHECK, key or grant."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection, errors

from tests.conftest import Servers, fresh_database, libpq
from tests.factories import open_books
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine

TABLES = ("ledgers", "accounts", "transfers", "inbox")
COUNTERS = ("debits_posted", "credits_posted", "debits_pending", "credits_pending", "version")


@pytest.fixture(scope="module")
def master(servers: Servers, template: str) -> Iterator[Connection]:
    """A session of the server's master; `a` with 100, `b` with 50 and `bank` in ledger `m`, `c` in `n`."""
    with fresh_database(servers.database_url, template) as url:
        engine = committing_engine(url)
        settle = Settlement(engine)
        _, [a, b, bank] = open_books(settle, [100, 50], ledger="m", max_balance=200)
        _, [c, _] = open_books(settle, [10], ledger="n")
        engine.dispose()
        with psycopg.connect(libpq(url), autocommit=True) as connection:
            for name, account in (("a", a), ("b", b), ("bank", bank), ("c", c)):
                connection.execute(f"SET test.{name} = '{account}'")
            yield connection


@pytest.fixture
def connection(master: Connection) -> Iterator[Connection]:
    """The master's session, as itself again after each test: whatever a test tries is refused."""
    yield master
    master.execute("RESET ROLE")


def where(name: str) -> str:
    return f"WHERE id = current_setting('test.{name}')::uuid"


def transfer(ledger: str, source: str, destination: str, amount: int = 1, **columns: str) -> str:
    """SQL that inserts a transfer by hand; a column may be given as SQL."""
    values = {"sequence": "1000", "id": "gen_random_uuid()", "source_version": "1000", "destination_version": "1000"}
    values |= {"source_id": source, "destination_id": destination, "amount": str(amount), "created_at": "now()"}
    values |= {"source_balance": "0", "destination_balance": "0", "seal": "0"} | columns
    return f"""
        INSERT INTO equipoise.transfers (ledger, {", ".join(values)})
        SELECT number, {", ".join(values.values())} FROM equipoise.ledgers WHERE name = '{ledger}'
    """


def account(name: str) -> str:
    return f"current_setting('test.{name}')::uuid"


@pytest.mark.parametrize("role", ["equipoise_owner", "none"])
@pytest.mark.parametrize("table", ["transfers", "inbox"])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE equipoise.{} SET id = gen_random_uuid()", "DELETE FROM equipoise.{}", "TRUNCATE equipoise.{} CASCADE"],
    ids=["update", "delete", "truncate"],
)
def test_what_happened_is_immutable_for_its_owner_and_the_servers_master(
    connection: Connection, role: str, table: str, statement: str
) -> None:
    connection.execute(f"SET ROLE {role}")

    with pytest.raises(errors.IntegrityConstraintViolation, match=f"equipoise.{table}: .* refused, what is here stays"):
        connection.execute(statement.format(table))


@pytest.mark.parametrize("table", ["accounts", "ledgers"])
@pytest.mark.parametrize("statement", ["DELETE FROM equipoise.{}", "TRUNCATE equipoise.{} CASCADE"])
def test_accounts_and_ledgers_are_for_ever(connection: Connection, table: str, statement: str) -> None:
    with pytest.raises(errors.IntegrityConstraintViolation, match=f"equipoise.{table}: .* refused, what is here stays"):
        connection.execute(statement.format(table))


@pytest.mark.parametrize("role", ["equipoise_worker", "equipoise_reader"])
@pytest.mark.parametrize("table", TABLES)
def test_neither_worker_nor_reader_may_change_what_happened(connection: Connection, role: str, table: str) -> None:
    connection.execute(f"SET ROLE {role}")

    statements = [f"DELETE FROM equipoise.{table}", f"TRUNCATE equipoise.{table}", f"DROP TABLE equipoise.{table}"]
    if table in ("transfers", "inbox"):
        statements.append(f"UPDATE equipoise.{table} SET id = id")
    for statement in [*statements, "CREATE TABLE equipoise.more ()", "ALTER TABLE equipoise.inbox DISABLE TRIGGER ALL"]:
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE equipoise.accounts SET ledger = ledger",
        "UPDATE equipoise.accounts SET id = id",
        "UPDATE equipoise.ledgers SET name = name",
        "UPDATE equipoise.ledgers SET currency = currency",
        "UPDATE equipoise.dead_letters SET body = body",
        "UPDATE equipoise.alembic_version SET version_num = version_num",
    ],
)
def test_the_worker_may_not_change_what_never_changes(connection: Connection, statement: str) -> None:
    connection.execute("SET ROLE equipoise_worker")

    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)


def test_each_role_has_these_rights_and_no_others(connection: Connection) -> None:
    grants = """
        SELECT grantee, privilege_type, table_name FROM information_schema.table_privileges
        WHERE table_schema = 'equipoise' AND grantee IN ('equipoise_worker', 'equipoise_reader', 'PUBLIC')
    """
    changed = """
        SELECT grantee, table_name, column_name FROM information_schema.column_privileges
        WHERE table_schema = 'equipoise' AND grantee IN ('equipoise_worker', 'equipoise_reader', 'PUBLIC')
        AND privilege_type = 'UPDATE'
    """

    rights, columns = (set(connection.execute(query).fetchall()) for query in (grants, changed))

    written = (*TABLES, "dead_letters", "holds", "changes")
    seen = (*written, "entries", "alembic_version")
    assert rights == {
        *(("equipoise_worker", "SELECT", table) for table in seen),
        *(("equipoise_reader", "SELECT", table) for table in seen),
        *(("equipoise_worker", "INSERT", table) for table in written),
    }
    assert columns == {
        *(
            ("equipoise_worker", "ledgers", column)
            for column in ("sequence", "decided_at", "head", "commands", "commands_head")
        ),
        *(("equipoise_worker", "accounts", column) for column in (*COUNTERS, "min_balance", "max_balance", "state")),
        *(
            ("equipoise_worker", "holds", column)
            for column in ("amount", "remaining", "captured", "state", "expires_at", "ended_at")
        ),
    }


def test_an_account_without_limits_may_count_as_far_as_bigint_goes(connection: Connection) -> None:
    """Its balance less what is reserved is more than BIGINT holds; comparing it with no limit must not fail."""
    with connection.transaction(force_rollback=True):
        open_account = """
            INSERT INTO equipoise.accounts (id, ledger, created_at)
            SELECT gen_random_uuid(), number, now() FROM equipoise.ledgers WHERE name = 'm' RETURNING id
        """
        [[one], [other]] = (connection.execute(open_account).fetchall()[0] for _ in range(2))

        moved = connection.execute(
            "UPDATE equipoise.accounts SET"
            " debits_posted = CASE id WHEN %(one)s THEN %(most)s ELSE 0 END,"
            " debits_pending = CASE id WHEN %(one)s THEN %(most)s ELSE 0 END,"
            " credits_posted = CASE id WHEN %(one)s THEN 0 ELSE %(most)s END,"
            " credits_pending = CASE id WHEN %(one)s THEN 0 ELSE %(most)s END"
            " WHERE id IN (%(one)s, %(other)s)",
            {"one": one, "other": other, "most": 2**63 - 1},
        )

        assert moved.rowcount == 2


@pytest.mark.parametrize("table", [*TABLES, "dead_letters"])
def test_the_reader_writes_nothing(connection: Connection, table: str) -> None:
    connection.execute("SET ROLE equipoise_reader")

    connection.execute(f"SELECT FROM equipoise.{table}")
    for statement in (f"INSERT INTO equipoise.{table} DEFAULT VALUES", f"SELECT FROM equipoise.{table} FOR UPDATE"):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


MOVE = "UPDATE equipoise.accounts SET debits_posted = debits_posted + {1}, credits_posted = credits_posted + {2} {0}"
OPEN_LEDGER = """
    INSERT INTO equipoise.ledgers (name, currency, scale, decided_at, created_at, head, commands_head)
    VALUES ('{}', 'EUR', 2, now(), now(), sha256(''), sha256(''))
"""
OPEN_LEDGER_AS = """
    INSERT INTO equipoise.ledgers (name, currency, scale, sequence, decided_at, created_at, head, commands_head)
    VALUES ('o', '{}', {}, {}, now(), now(), sha256(''), sha256(''))
"""
OPEN_ACCOUNT_AS = """
    INSERT INTO equipoise.accounts (id, ledger, created_at, {})
    SELECT gen_random_uuid(), number, now(), {} FROM equipoise.ledgers LIMIT 1
"""
MOVE_BETWEEN = """
    UPDATE equipoise.accounts SET {0} = {0} + CASE id WHEN {1} THEN 1 ELSE -1 END WHERE id IN ({1}, {2})
"""
BREACHES = {
    "an overdraft": (
        f"""
        UPDATE equipoise.accounts SET
            debits_posted = debits_posted + CASE id WHEN {account("a")} THEN 101 ELSE 0 END,
            credits_posted = credits_posted + CASE id WHEN {account("b")} THEN 101 ELSE 0 END
        WHERE id IN ({account("a")}, {account("b")})
        """,
        errors.CheckViolation,
        "within_min_balance",
    ),
    "a balance above its limit": (MOVE.format(where("a"), 0, 101), errors.CheckViolation, "within_max_balance"),
    "a floor above the balance": (
        f"UPDATE equipoise.accounts SET min_balance = 101 {where('a')}", errors.CheckViolation, "within_min_balance",
    ),
    "a hold without money": (
        f"UPDATE equipoise.accounts SET debits_pending = 101 {where('a')}", errors.CheckViolation, "within_min_balance",
    ),
    "money made": (MOVE.format(where("a"), 0, 1), errors.IntegrityConstraintViolation, "make or lose money"),
    "money lost": (MOVE.format(where("a"), 1, 0), errors.IntegrityConstraintViolation, "make or lose money"),
    "money moved between ledgers": (
        f"""
        UPDATE equipoise.accounts SET
            debits_posted = debits_posted + CASE id WHEN {account("a")} THEN 1 ELSE 0 END,
            credits_posted = credits_posted + CASE id WHEN {account("c")} THEN 1 ELSE 0 END
        WHERE id IN ({account("a")}, {account("c")})
        """,
        errors.IntegrityConstraintViolation,
        "make or lose money",
    ),
    "an account that changes ledger": (
        f"UPDATE equipoise.accounts SET ledger = (SELECT number FROM equipoise.ledgers WHERE name = 'n') {where('a')}",
        errors.IntegrityConstraintViolation,
        "make or lose money",
    ),
    "counters turned back": (
        "UPDATE equipoise.accounts SET debits_posted = 0, credits_posted = 0, min_balance = NULL",
        errors.IntegrityConstraintViolation,
        "turn a counter back",
    ),
    "a version turned back": (
        f"UPDATE equipoise.accounts SET version = 0 {where('a')}",
        errors.IntegrityConstraintViolation,
        "turn a counter back",
    ),
    "an account in no ledger": (
        "INSERT INTO equipoise.accounts (id, ledger, created_at) VALUES (gen_random_uuid(), 0, now())",
        errors.ForeignKeyViolation,
        "accounts_ledger_fkey",
    ),
    "a transfer into another ledger": (
        transfer("m", account("a"), account("c")), errors.IntegrityConstraintViolation, "in another ledger",
    ),
    "a transfer in the wrong ledger": (
        transfer("n", account("a"), account("b")), errors.IntegrityConstraintViolation, "in another ledger",
    ),
    "a transfer to nobody": (
        transfer("m", account("a"), "gen_random_uuid()"), errors.IntegrityConstraintViolation, "missing",
    ),
    "a transfer to oneself": (transfer("m", account("a"), account("a")), errors.CheckViolation, "accounts_must_differ"),
    "a transfer of nothing": (transfer("m", account("a"), account("b"), 0), errors.CheckViolation, "amount"),
    "a transfer too large": (transfer("m", account("a"), account("b"), 10**15 + 1), errors.CheckViolation, "amount"),
    "an id twice in the inbox": (
        "INSERT INTO equipoise.inbox SELECT * FROM equipoise.inbox LIMIT 1", errors.UniqueViolation, "inbox_pkey",
    ),
    "a transfer's number twice": (
        transfer("m", account("a"), account("b"), sequence="1"), errors.UniqueViolation, "transfers_pkey",
    ),
    "a transfer's id twice": (
        transfer("m", account("a"), account("b"), id="(SELECT id FROM equipoise.transfers LIMIT 1)"),
        errors.UniqueViolation,
        "transfers_id",
    ),
    "a source's entry twice": (
        transfer("m", account("bank"), account("b"), source_version="1"), errors.UniqueViolation, "transfers_source",
    ),
    "a destination's entry twice": (
        transfer("m", account("b"), account("a"), destination_version="1"),
        errors.UniqueViolation,
        "transfers_destination",
    ),
    "an account's id twice": (
        "INSERT INTO equipoise.accounts SELECT * FROM equipoise.accounts LIMIT 1",
        errors.UniqueViolation,
        "accounts_pkey",
    ),
    "a dead letter's id twice": (
        """
        INSERT INTO equipoise.dead_letters (id, reason, detail, task, task_id, queue, body)
        SELECT '0000000a-0000-4000-8000-000000000000'::uuid, 'r', '', '', '', '', '' FROM generate_series(1, 2)
        """,
        errors.UniqueViolation,
        "dead_letters_pkey",
    ),
    "a dead letter without a reason": (
        """
        INSERT INTO equipoise.dead_letters (id, reason, detail, task, task_id, queue, body)
        VALUES (gen_random_uuid(), '', '', '', '', '', '')
        """,
        errors.CheckViolation,
        "dead_letters_reason_check",
    ),
    "a decided command without a type": (
        "INSERT INTO equipoise.inbox VALUES (gen_random_uuid(), now(), '', 's')",
        errors.CheckViolation,
        "inbox_type_check",
    ),
    "a decided command without a status": (
        "INSERT INTO equipoise.inbox VALUES (gen_random_uuid(), now(), 't', '')",
        errors.CheckViolation,
        "inbox_status_check",
    ),
    "a transfer out of another ledger": (
        transfer("m", account("c"), account("a")), errors.IntegrityConstraintViolation, "in another ledger",
    ),
    "a transfer of nobody": (
        transfer("m", "gen_random_uuid()", account("a")), errors.IntegrityConstraintViolation, "missing",
    ),
    **{
        f"a transfer whose {column} is {value}": (
            transfer("m", account("a"), account("b"), **{column: value}),
            errors.CheckViolation,
            f"transfers_{column}_check",
        )
        for column, value in {
            "sequence": "0", "source_version": "0", "destination_version": "0", "source_pending": "0",
            "destination_pending": "0", "kind": "''", "metadata": "'[]'",
        }.items()
    },
    **{
        f"an account that opens with {column} below zero": (
            OPEN_ACCOUNT_AS.format(column, -1), errors.CheckViolation, f"accounts_{column}_check",
        )
        for column in COUNTERS
    },
    **{
        f"an account that opens with its {column} counted": (
            OPEN_ACCOUNT_AS.format(column, 1), errors.IntegrityConstraintViolation, "opens empty",
        )
        for column in COUNTERS
    },
    "an account in no known state": (
        f"UPDATE equipoise.accounts SET state = 'asleep' {where('a')}", errors.CheckViolation, "accounts_state_check",
    ),
    "an account whose metadata is a list": (
        OPEN_ACCOUNT_AS.format("metadata", "'[]'"), errors.CheckViolation, "accounts_metadata_check",
    ),
    "a hold that would pass a ceiling": (
        f"UPDATE equipoise.accounts SET credits_pending = 101 {where('a')}",
        errors.CheckViolation,
        "within_max_balance",
    ),
    "a hold on one side alone": (
        f"UPDATE equipoise.accounts SET debits_pending = 1 {where('a')}",
        errors.IntegrityConstraintViolation,
        "make or lose money",
    ),
    "debits handed to another account": (
        MOVE_BETWEEN.format("debits_posted", account("b"), account("bank")),
        errors.IntegrityConstraintViolation,
        "turn a counter back",
    ),
    "credits handed to another account": (
        MOVE_BETWEEN.format("credits_posted", account("b"), account("a")),
        errors.IntegrityConstraintViolation,
        "turn a counter back",
    ),
    "a ledger of no currency": (
        OPEN_LEDGER_AS.format("", 2, 0), errors.CheckViolation, "ledgers_currency_check",
    ),
    "a ledger of less than no decimals": (
        OPEN_LEDGER_AS.format("EUR", -1, 0), errors.CheckViolation, "ledgers_scale_check",
    ),
    "a ledger of too many decimals": (
        OPEN_LEDGER_AS.format("EUR", 19, 0), errors.CheckViolation, "ledgers_scale_check",
    ),
    "a ledger that begins before its first transfer": (
        OPEN_LEDGER_AS.format("EUR", 2, -1), errors.CheckViolation, "ledgers_sequence_check",
    ),
    "a ledger's name twice": (
        OPEN_LEDGER.format("m"),
        errors.UniqueViolation,
        "ledgers_name_key",
    ),
    "a ledger of another name": (
        OPEN_LEDGER.format("M"),
        errors.CheckViolation,
        "name",
    ),
    "a sequence turned back": (
        "UPDATE equipoise.ledgers SET sequence = 0", errors.IntegrityConstraintViolation, "would turn back",
    ),
    "a ledger's time turned back": (
        "UPDATE equipoise.ledgers SET decided_at = '-infinity'", errors.IntegrityConstraintViolation, "would turn back",
    ),
}  # fmt: skip


@pytest.mark.parametrize("role", ["none", "equipoise_worker"])
@pytest.mark.parametrize("breach", BREACHES)
def test_the_database_refuses(connection: Connection, breach: str, role: str) -> None:
    statement, error, words = BREACHES[breach]
    connection.execute(f"SET ROLE {role}")

    with pytest.raises((error, errors.InsufficientPrivilege) if role != "none" else error) as refused:
        connection.execute(statement)

    assert isinstance(refused.value, errors.InsufficientPrivilege) or words in str(refused.value)
