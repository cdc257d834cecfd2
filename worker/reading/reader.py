"""A reader's way into the database, for as long as a `with` block lasts.

Each transaction of it is SERIALIZABLE READ ONLY DEFERRABLE in the role `equipoise_reader`: one consistent state, which
no writer waits for. It can change nothing, whatever the user of the URL may do.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from worker.postgres.engines import reading_engine


@contextmanager
def reader(database_url: str) -> Iterator[Engine]:
    """Give an engine that only reads; its connections are closed at the block's end."""
    engine = reading_engine(database_url)
    try:
        yield engine
    finally:
        engine.dispose()
