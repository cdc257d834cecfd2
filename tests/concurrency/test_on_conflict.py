"""INSERT … ON CONFLICT and SERIALIZABLE: why the inbox does without it, and what PostgreSQL's newest minors mend.

Before the minors of November 2026 it took no predicate lock on the row that it found: 15.18, 17.10, 18.4 and 18.6 let
the skew below commit, 15.20 does not.
"""

from pathlib import Path

import psycopg
import pytest
from psycopg.errors import SerializationFailure

from tests.conftest import libpq

ENGINE = Path(__file__).parent.parent.parent / "worker" / "engine"


def test_nothing_is_decided_by_on_conflict() -> None:
    users = {path.name for path in ENGINE.glob("*.py") if "ON CONFLICT" in path.read_text()}

    # A dead letter's row is the same whoever writes it, and nobody looks whether it was there.
    assert users == {"dead_letters.py"}


@pytest.mark.newest_minor
def test_a_write_skew_through_on_conflict_aborts(database_url: str) -> None:
    """Each finds a row in place and deletes the other's: one after the other, the second would put its row back."""
    with psycopg.connect(libpq(database_url)) as one, psycopg.connect(libpq(database_url)) as other:
        one.execute("CREATE TABLE present (name text PRIMARY KEY)")
        one.execute("INSERT INTO present VALUES ('a'), ('b')")
        one.commit()
        for connection, finds in ((one, "a"), (other, "b")):
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            found = connection.execute("INSERT INTO present VALUES (%s) ON CONFLICT DO NOTHING", [finds])
            assert found.rowcount == 0

        with pytest.raises(SerializationFailure):  # noqa: PT012  (either of the four may be the one that fails)
            one.execute("DELETE FROM present WHERE name = 'b'")
            other.execute("DELETE FROM present WHERE name = 'a'")
            one.commit()
            other.commit()
