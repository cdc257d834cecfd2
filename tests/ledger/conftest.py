"""A session as the worker's own role, for what the database refuses by itself."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection

from tests.conftest import libpq


@pytest.fixture
def worker(database_url: str) -> Iterator[Connection]:
    """A connection that may do what a worker may."""
    with psycopg.connect(libpq(database_url), autocommit=True) as connection:
        connection.execute("SET ROLE equipoise_worker")
        yield connection
