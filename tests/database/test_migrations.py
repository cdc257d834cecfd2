"""Migrations: from nothing, again, and by several programs at once; and the models say what they made."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from models import tables
from models.commands import CaptureTransfer, FreezeAccount, UnfreezeAccount
from tests.conftest import libpq
from tests.factories import hold, new, new_id, open_books, post
from worker.engine.settle import Settlement
from worker.postgres.engines import migration_engine
from worker.postgres.migrate import migrate, newest_version
from worker.proving.verify import verify


def versions(url: str) -> list[Any]:
    with psycopg.connect(libpq(url)) as connection:
        return connection.execute("SELECT version_num FROM equipoise.alembic_version").fetchall()


def test_migrating_an_empty_database_twice_changes_nothing_the_second_time(empty_database_url: str) -> None:
    assert migrate(empty_database_url) == newest_version()
    with psycopg.connect(libpq(empty_database_url)) as connection:
        objects = "SELECT oid, xmin FROM pg_class ORDER BY oid"
        before = connection.execute(objects).fetchall()

        assert migrate(empty_database_url) == newest_version()

        assert connection.execute(objects).fetchall() == before
    assert versions(empty_database_url) == [(newest_version(),)]


def test_programs_that_migrate_at_once_take_turns(empty_database_url: str) -> None:
    with psycopg.connect(libpq(empty_database_url)) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('equipoise.migrate', 0))")
        other = pool.submit(migrate, empty_database_url)
        with psycopg.connect(libpq(empty_database_url), autocommit=True) as watcher:
            waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
            while watcher.execute(waiting).fetchone() != (True,):
                assert not other.done()
        assert connection.execute("SELECT to_regnamespace('equipoise')").fetchone() == (None,)
        connection.rollback()
        other.result()

    assert versions(empty_database_url) == [(newest_version(),)]


def test_the_models_say_what_the_migrations_made(database_url: str) -> None:
    engine = migration_engine(database_url)
    with engine.connect() as connection:
        ours = {"include_schemas": True, "include_name": _in_our_schema, "version_table_schema": tables.SCHEMA}
        context = MigrationContext.configure(connection, opts=ours | {"compare_server_default": True})
        differences = compare_metadata(context, SQLModel.metadata)
    engine.dispose()

    assert [it for it in differences if not _is_about_comments(it)] == []


def _is_about_comments(difference: Any) -> bool:
    """Whether it is about what people read in psql: the migrations alone have that."""
    return all("comment" in kind for kind, *_ in (difference if isinstance(difference, list) else [difference]))


def _in_our_schema(name: str | None, kind: str, parents: Any) -> bool:
    return kind != "schema" or name == tables.SCHEMA


@pytest.mark.parametrize("role", ["equipoise_owner", "equipoise_worker", "equipoise_reader"])
def test_each_role_is_there_and_nobody_logs_in_as_it(database_url: str, role: str) -> None:
    with psycopg.connect(libpq(database_url)) as connection:
        found = connection.execute("SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = %s", [role]).fetchone()

    assert found == (False, False)


# What 0004 has made, taken back: the rows stay where they are on the disk.
UNSEALED = """
    ALTER TABLE equipoise.ledgers DROP COLUMN head, DROP COLUMN commands CASCADE, DROP COLUMN commands_head;
    ALTER TABLE equipoise.transfers DROP COLUMN seal;
    ALTER TABLE equipoise.inbox DROP COLUMN ledger, DROP COLUMN number, DROP COLUMN seal;
    UPDATE equipoise.alembic_version SET version_num = '0003';
"""


def test_what_an_upgrade_finds_is_sealed_in_the_order_in_which_it_was_decided(
    database_url: str, settlement: Settlement
) -> None:
    """Within a group, too, where all rows are of one moment."""
    _, (first, second, _) = open_books(settlement, [100, 0])
    told = [new(model, account_id=first) for model in (FreezeAccount, UnfreezeAccount)] * 20
    settlement([it.model_copy(update={"id": new_id()}) for it in told])
    settlement([held := hold(first, second, 9), *(new(CaptureTransfer, hold_id=held.id, amount=1) for _ in range(9))])
    settlement([post(first, second, 1, metadata={"b": "\\", "a": {"d": 1, "c": None}}), post(first, second, 10**6)])
    before = verify(database_url)
    with psycopg.connect(libpq(database_url)) as connection:
        heads = "SELECT head FROM equipoise.ledgers"
        sealed = connection.execute(heads).fetchall()
        connection.execute(UNSEALED)

    migrate(database_url)

    assert before.sound
    assert verify(database_url).faults == []
    with psycopg.connect(libpq(database_url)) as connection:
        assert connection.execute(heads).fetchall() == sealed
