"""Fixtures: a way to read what the tests' settlement wrote."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from worker.reading.reader import reader


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A reader's engine on the test's database."""
    with reader(database_url) as engine:
        yield engine
