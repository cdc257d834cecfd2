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


@pytest.fixture(scope="module")
def master(servers: Servers, template: str) -> Iterator[Connection]:
    """A session of the server's master; accounts `a` with 100 and `b` with 50 in ledger `m`, and `c` in `n`."""
    with fresh_database(servers.database_url, template) as url:
        engine = committing_engine(url)
        settle = Settlement(engine)
        _, [a, b, _] = open_books(settle, [100, 50], ledger="m", max_balance=200)
        _, [c, _] = open_books(settle, [10], ledger="n")
        engine.dispose()
        with psycopg.connect(libpq(url), autocommit=True) as connection:
            for name, account in (("a", a), ("b", b), ("c", c)):
                connection.execute(f"SET test.{name} = '{account}'")
            yield connection


@pytest.fixture
def connection(master: Connection) -> Iterator[Connection]:
    """The master's session, as itself again after each test: whatever a test tries is refused."""
    yield master
    master.execute("RESET ROLE")


def where(name: str) -> str:
    return f"WHERE id = current_setting('test.{name}')::uuid"


def transfer(ledger: str, source: str, destination: str, amount: int = 1) -> str:
    """SQL that inserts a transfer by hand."""
    return f"""
        INSERT INTO equipoise.transfers
        SELECT number, 1000, gen_random_uuid(), {source}, {destination}, {amount}, 1000, 1000, 0, 0, now()
        FROM equipoise.ledgers WHERE name = '{ledger}'
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
    with pytest.raises(errors.IntegrityConstraintViolation, match="refused, what is here stays"):
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


@pytest.mark.parametrize("table", [*TABLES, "dead_letters"])
def test_the_reader_writes_nothing(connection: Connection, table: str) -> None:
    connection.execute("SET ROLE equipoise_reader")

    connection.execute(f"SELECT FROM equipoise.{table}")
    for statement in (f"INSERT INTO equipoise.{table} DEFAULT VALUES", f"SELECT FROM equipoise.{table} FOR UPDATE"):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


MOVE = "UPDATE equipoise.accounts SET debits_posted = debits_posted + {1}, credits_posted = credits_posted + {2} {0}"
OPEN_LEDGER = """
    INSERT INTO equipoise.ledgers (name, currency, scale, decided_at, created_at) VALUES ('{}', 'EUR', 2, now(), now())
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
    "an account that opens with money": (
        """
        INSERT INTO equipoise.accounts (id, ledger, credits_posted, created_at)
        SELECT gen_random_uuid(), number, 1, now() FROM equipoise.ledgers LIMIT 1
        """,
        errors.IntegrityConstraintViolation,
        "opens empty",
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
    "a transfer twice": (
        "INSERT INTO equipoise.transfers SELECT * FROM equipoise.transfers LIMIT 1",
        errors.UniqueViolation,
        "transfers",
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
