"""Fixtures of all tests: servers for the session, and a database for each test that wants one.

A database is a copy of a template that was migrated once, which takes milliseconds where migrating takes a second.
Whoever needs servers to break (`tests/stack`) starts some of their own.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from sqlalchemy.engine import make_url

from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine
from worker.postgres.migrate import migrate
from worker.stack.stack import Stack

# Where an environment forbids byte code, each of the hundreds of processes that tests start would compile all of us
# anew: 2.9 s of processor time in place of 1.0.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# No deadline: what a database answers in depends on the machine. Tests marked `long` ask for more examples.
settings.register_profile(
    "equipoise",
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("equipoise")


class Servers(NamedTuple):
    """Where the tests' servers are. The user of `database_url` may create databases and roles."""

    database_url: str
    broker_url: str
    result_url: str


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and a broker: those that the environment names, else an embedded stack in a temporary folder."""
    database_url, broker_url = os.environ.get("EQUIPOISE_DATABASE_URL"), os.environ.get("EQUIPOISE_BROKER_URL")
    if database_url and broker_url:
        yield Servers(database_url, broker_url, os.environ.get("EQUIPOISE_RESULT_URL", broker_url))
        return
    home = Path(tempfile.mkdtemp(prefix="equipoise-test-"))
    with Stack(home / "stack") as stack:
        yield Servers(stack.database_url, stack.broker_url, stack.result_url)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def template(servers: Servers) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""
    with fresh_database(servers.database_url) as url:
        migrate(url)
        yield database_of(url)


@pytest.fixture
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    with fresh_database(servers.database_url, template) as url:
        yield url


@pytest.fixture
def empty_database_url(servers: Servers) -> Iterator[str]:
    """A database of the test's own, with nothing in it."""
    with fresh_database(servers.database_url) as url:
        yield url


@pytest.fixture
def settlement(database_url: str) -> Iterator[Settlement]:
    """A settlement on the test's database, for the test's own thread."""
    engine = committing_engine(database_url)
    yield Settlement(engine)
    engine.dispose()


Tamper = Callable[[str], None]


@pytest.fixture
def tamper(database_url: str) -> Tamper:
    """Run a statement as the superuser, with no trigger to refuse it and no limit's CHECK left to break."""

    def run(statement: str) -> None:
        with psycopg.connect(libpq(database_url)) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("ALTER TABLE equipoise.accounts DROP CONSTRAINT IF EXISTS within_min_balance")
            connection.execute("ALTER TABLE equipoise.accounts DROP CONSTRAINT IF EXISTS within_max_balance")
            connection.execute(statement.encode())

    return run


def database_of(url: str) -> str:
    """Give the name of the database that a URL names."""
    name = make_url(url).database
    assert name is not None
    return name


def libpq(url: str) -> str:
    """Write a database's URL as psycopg itself takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def fresh_database(server_url: str, template: str = "template0") -> Iterator[str]:
    """Create a database beside the one that `server_url` names, and drop it with all its sessions."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(libpq(server_url), autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
