"""Fixtures: a way to read what the tests' settlement wrote, and a way to break it behind everybody's back."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import Engine

from tests.conftest import libpq
from worker.reading.reader import reader

Tamper = Callable[[str], None]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A reader's engine on the test's database."""
    with reader(database_url) as engine:
        yield engine


@pytest.fixture
def tamper(database_url: str) -> Tamper:
    """Run a statement as the superuser, with no trigger to refuse it and no CHECK left to break."""

    def run(statement: str) -> None:
        with psycopg.connect(libpq(database_url)) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("ALTER TABLE equipoise.accounts DROP CONSTRAINT IF EXISTS within_min_balance")
            connection.execute("ALTER TABLE equipoise.accounts DROP CONSTRAINT IF EXISTS within_max_balance")
            connection.execute(statement.encode())

    return run
