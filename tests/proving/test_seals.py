"""Whatever is done to a row behind everybody's back is noticed, and the first bad row is named."""

from itertools import product

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import seals
from models.commands import PostTransfer, SplitTransfer
from tests.conftest import Tamper, libpq
from tests.factories import batch, hold, new, new_id, open_books, post
from tests.proving import forger
from worker.engine import sealing
from worker.engine.settle import Settlement
from worker.proving.verdicts import Kind
from worker.proving.verify import verify

ODD = 'a\\b "c" \\N ∑ é'
"""A text with all that COPY or JSON would write in another way."""

# Each column of a transfer, and another value for it.
TRANSFER_COLUMNS = {
    "id": "gen_random_uuid()",
    "source_id": "gen_random_uuid()",
    "destination_id": "gen_random_uuid()",
    "amount": "amount + 1",
    "source_version": "source_version + 100",
    "destination_version": "destination_version + 100",
    "source_balance": "source_balance + 1",
    "destination_balance": "destination_balance - 1",
    "created_at": "created_at + interval '1 microsecond'",
    "source_pending": "7",
    "destination_pending": "7",
    "effective_at": "created_at",
    "kind": "'other'",
    "metadata": """'{"a": 1}'""",
    "hold_id": "gen_random_uuid()",
    "reverses": "gen_random_uuid()",
    "command_id": "gen_random_uuid()",
    "seal": "seal + 1",
}
COMMAND_COLUMNS = {
    "id": "gen_random_uuid()",
    "decided_at": "decided_at + interval '1 microsecond'",
    "type": "'transfers.void'",
    "status": "'account_closed'",
    "content": "content || ' '",
    "answer": "'{}'",
    "seal": "seal + 1",
}


def live(settlement: Settlement) -> list[str]:
    """One ledger, with each kind of row; give its accounts."""
    _, (first, second, bank) = open_books(settlement, [1000, 500])
    said = {"kind": ODD, "effective_at": "2020-02-29T23:59:59.100+01:00", "metadata": {"b": [1, {ODD: None}], "a": ODD}}
    settlement([post(first, second, 30, **said), post(first, second, 10**9)])
    settlement([batch(post(second, first, 10), [post(first, bank, 5), hold(first, second, 3)])])
    settlement([new(SplitTransfer, source_id=first, destinations=[{"account_id": second, "rest": True}], amount=9)])
    return [first, second, bank]


def test_every_column_is_sealed(database_url: str) -> None:
    with psycopg.connect(libpq(database_url)) as connection:
        columns = """
            SELECT column_name FROM information_schema.columns WHERE table_schema = 'equipoise' AND table_name = %s
        """
        transfers, commands = ({name for (name,) in connection.execute(columns, [it])} for it in ("transfers", "inbox"))

    assert transfers == {*TRANSFER_COLUMNS, "ledger", "sequence"}
    assert transfers == {*sealing.TRANSFER, "seal"}
    assert commands == {*COMMAND_COLUMNS, "ledger", "number"}


@pytest.mark.parametrize(
    ("table", "place", "columns", "kind"),
    [
        ("transfers", "sequence", TRANSFER_COLUMNS, Kind.TRANSFER_SEAL),
        ("inbox", "number", COMMAND_COLUMNS, Kind.COMMAND_SEAL),
    ],
)
def test_a_row_is_named_whatever_of_it_was_changed(
    table: str,
    place: str,
    columns: dict[str, str],
    kind: Kind,
    database_url: str,
    settlement: Settlement,
    tamper: Tamper,
) -> None:
    live(settlement)
    what = {Kind.TRANSFER_SEAL: "transfer", Kind.COMMAND_SEAL: "command"}[kind]
    tamper(f"CREATE TABLE kept AS SELECT * FROM equipoise.{table}")

    for number, column in product((1, 3, 6), columns):
        where = f"WHERE ledger = 1 AND {place} = {number}"
        tamper(f"UPDATE equipoise.{table} SET {column} = {columns[column]} {where}")
        faults = {fault.kind: fault.row for fault in verify(database_url).faults}
        with psycopg.connect(libpq(database_url)) as connection:
            row = connection.execute(f"SELECT id FROM equipoise.{table} {where}".encode()).fetchone()
        tamper(f"DELETE FROM equipoise.{table}; INSERT INTO equipoise.{table} SELECT * FROM kept")

        assert row is not None
        assert faults.get(kind) == f"{what} {row[0]}", column
    assert verify(database_url).sound


def test_rows_that_changed_places_are_found(database_url: str, settlement: Settlement, tamper: Tamper) -> None:
    live(settlement)

    tamper("UPDATE equipoise.transfers SET sequence = 100 + sequence WHERE sequence IN (2, 3)")
    tamper("UPDATE equipoise.transfers SET sequence = 105 - sequence WHERE sequence > 100")

    assert Kind.TRANSFER_SEAL in {fault.kind for fault in verify(database_url).faults}


def test_a_row_that_was_put_in_is_found(database_url: str, settlement: Settlement, tamper: Tamper) -> None:
    live(settlement)

    tamper(
        "INSERT INTO equipoise.inbox (id, decided_at, type, status, content, ledger, number, seal)"
        " SELECT gen_random_uuid(), decided_at, type, 'account_frozen', content, ledger, number + 1, seal"
        " FROM equipoise.inbox WHERE ledger = 1 ORDER BY number DESC LIMIT 1"
    )

    assert {fault.kind for fault in verify(database_url).faults} >= {Kind.COMMAND_SEAL, Kind.LEDGER_COMMANDS}


def test_a_ledgers_own_currency_is_sealed(database_url: str, settlement: Settlement, tamper: Tamper) -> None:
    live(settlement)

    tamper("UPDATE equipoise.ledgers SET scale = 3")

    assert {fault.kind for fault in verify(database_url).faults} >= {Kind.TRANSFER_SEAL, Kind.COMMAND_SEAL}


def test_an_outsider_can_follow_the_chain(database_url: str, settlement: Settlement, tamper: Tamper) -> None:
    """As the comments on the columns say, with nothing but PostgreSQL and SHA-256."""
    name, (first, second, bank) = open_books(settlement, [1000, 500])
    settlement([post(first, second, 30, kind=ODD, metadata={"b": ODD, "a": [ODD]})])
    settlement([post(second, bank, 10, effective_at="2020-01-01T00:00:00.5Z")])

    with psycopg.connect(libpq(database_url), options="-c timezone=UTC") as connection:
        links = forger.chain(connection, forger.TRANSFERS.format(1), name, "EUR", 2)
        kept = connection.execute("SELECT seal FROM equipoise.transfers ORDER BY sequence").fetchall()
        (head,) = connection.execute("SELECT head FROM equipoise.ledgers").fetchone() or ()

    assert [seal for (seal,) in kept] == [forger.as_seal(link) for link in links[1:]]
    assert head == links[-1]


@settings(max_examples=300)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_text_is_written_as_postgresql_writes_it(text: str) -> None:
    written = seals.field(text)

    assert written.isprintable() or not any(it in written for it in "\b\f\n\r\t\v")
    assert _read_back(written) == text


def _read_back(field: str) -> str:
    """Undo COPY's escapes, as the manual describes them."""
    plain = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
    read, rest = "", iter(field)
    for character in rest:
        read += plain[next(rest)] if character == "\\" else character
    return read


METADATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8", categories=["L", "P"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(categories=["L", "P"])), inner),
    max_leaves=8,
)


def test_whatever_a_transfer_says_its_seal_holds(database_url: str, settlement: Settlement) -> None:
    """Metadata comes back from PostgreSQL in another order and with other spaces than it was given in."""
    _, (first, second, _) = open_books(settlement, [10**9, 0])

    @settings(max_examples=60, database=None)
    @given(
        st.dictionaries(st.text(st.characters(categories=["L", "P"])), METADATA, max_size=4),
        st.text("a\\\"'é∑%{}", min_size=1),
    )
    def post_it(metadata: dict[str, object], kind: str) -> None:
        command = PostTransfer(
            id=new_id(), source_id=first, destination_id=second, amount=1, kind=kind, metadata=metadata
        )
        (outcome,) = settlement([command])
        assert outcome["status"] == "applied"

    post_it()

    assert verify(database_url).faults == []
