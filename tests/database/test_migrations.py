"""Migrations: from nothing, again, and by several programs at once; and the models say what they made."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from models import tables
from tests.conftest import libpq
from worker.postgres.engines import migration_engine
from worker.postgres.migrate import migrate, newest_version


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
