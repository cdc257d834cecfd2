"""Fixtures of the tests of import and export: a second database, and both commands as processes that end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from sqlalchemy import text

from tests.cli.conftest import call
from tests.conftest import Servers, fresh_database
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine
from worker.settings import Urls

Run = Callable[..., CompletedProcess[bytes]]


@pytest.fixture
def other_url(servers: Servers, template: str) -> Iterator[str]:
    """A second migrated database, in which there is nothing."""
    with fresh_database(servers.database_url, template) as url:
        yield url


@pytest.fixture
def run(database_url: str) -> Run:
    """Call the command line with the test's database, and no broker."""
    return runner(database_url)


def runner(database_url: str) -> Run:
    """Give what calls the command line with a database."""
    urls = Urls(database_url, "redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0")

    def run(*arguments: str | Path, stdin: bytes = b"", **more: str) -> CompletedProcess[bytes]:
        return call(*map(str, arguments), urls=urls, stdin=stdin, **more)

    return run


def rows(database_url: str, statement: str) -> list[tuple[object, ...]]:
    """Look at a database."""
    engine = committing_engine(database_url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(statement))]
    engine.dispose()
    return found


@pytest.fixture
def other(other_url: str) -> Iterator[Settlement]:
    """A settlement on the second database."""
    engine = committing_engine(other_url)
    yield Settlement(engine)
    engine.dispose()
