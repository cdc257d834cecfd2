"""Who connects, and as what: a session of ours has its role's rights and no others, whatever the login may do."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from worker.postgres.engines import committing_engine, psycopg_url, reading_engine


def shown(engine: Engine, *names: str) -> list[str]:
    with engine.connect() as connection:
        return [
            connection.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar_one() for name in names
        ]


def test_the_worker_commits_durably_and_serializably_with_its_roles_rights(database_url: str) -> None:
    engine = committing_engine(database_url)

    settings = shown(engine, "role", "transaction_isolation", "synchronous_commit", "enable_seqscan")
    engine.dispose()

    assert settings == ["equipoise_worker", "serializable", "on", "off"]


def test_nothing_that_the_worker_begins_waits_or_lasts_for_ever(database_url: str) -> None:
    engine = committing_engine(database_url)

    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    settings = shown(engine, *names)
    whole = shown(engine, "transaction_timeout") if engine.dialect.server_version_info >= (17,) else ["30s"]
    engine.dispose()

    assert settings == ["2s", "20s", "5s"]
    assert whole == ["30s"]


def test_the_reader_keeps_vacuum_waiting_for_a_minute_at_most(database_url: str) -> None:
    engine = reading_engine(database_url)

    settings = shown(engine, "idle_in_transaction_session_timeout")
    engine.dispose()

    assert settings == ["1min"]


def test_the_reader_reads_one_snapshot_and_writes_nothing(database_url: str) -> None:
    engine = reading_engine(database_url)

    settings = shown(engine, "role", "transaction_isolation", "transaction_read_only", "transaction_deferrable")
    with pytest.raises(DBAPIError, match="read-only"), engine.connect() as connection:
        connection.execute(text("DELETE FROM equipoise.dead_letters"))
    engine.dispose()

    assert settings == ["equipoise_reader", "serializable", "on", "on"]


def test_no_other_database_is_taken_for_postgresql() -> None:
    assert psycopg_url("postgresql://localhost/books").drivername == "postgresql+psycopg"
    with pytest.raises(ValueError, match="must be PostgreSQL"):
        psycopg_url("sqlite:///books")
