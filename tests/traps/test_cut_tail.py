"""The trap of the cut tail: the newest rows are gone, what is left is sound by itself, and the proof must fail."""

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.conftest import libpq
from tests.factories import open_books, post
from tests.proving.forger import seal_anew
from worker.engine.settle import Settlement
from worker.proving import checkpoints
from worker.proving.verdicts import Kind
from worker.proving.verify import verify
from worker.reading.reader import reader


def cut(url: str, ledger: str, count: int) -> None:
    """Delete a ledger's newest transfers and their commands as a superuser can, and turn their accounts back."""
    with psycopg.connect(libpq(url)) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            """
            CREATE TEMPORARY TABLE tail AS
            SELECT * FROM equipoise.transfers WHERE ledger = (SELECT number FROM equipoise.ledgers WHERE name = %s)
            ORDER BY sequence DESC LIMIT %s
            """,
            [ledger, count],
        )
        for side, counter in (("source_id", "debits_posted"), ("destination_id", "credits_posted")):
            connection.execute(
                f"""
                UPDATE equipoise.accounts SET {counter} = {counter} - amount, version = version - entries
                FROM (SELECT {side}, sum(amount) AS amount, count(*) AS entries FROM tail GROUP BY 1) AS of_each
                WHERE id = {side}
                """
            )
        for table in ("transfers", "inbox"):
            connection.execute(f"DELETE FROM equipoise.{table} WHERE id IN (SELECT id FROM tail)")


@pytest.mark.parametrize("count", [1, 3])
def test_the_proof_fails_when_the_newest_transfers_are_gone(
    settlement: Settlement, database_url: str, count: int
) -> None:
    """Others chained each row to the one before, and of a chain that ends early each link still holds."""
    ledger, [account, bank] = open_books(settlement, [100])
    settlement([post(account, bank, 1) for _ in range(5)])
    assert verify(database_url).sound

    cut(database_url, ledger, count)

    assert [fault.kind for fault in verify(database_url).faults] == [Kind.LEDGER_SEQUENCE, Kind.LEDGER_HEAD]


def test_the_proof_fails_when_the_ledger_forgot_them_too(settlement: Settlement, database_url: str) -> None:
    """The counter turned back, every seal made to fit: what only a checkpoint that is kept elsewhere can tell."""
    ledger, [account, bank] = open_books(settlement, [100])
    settlement([post(account, bank, 1) for _ in range(5)])
    key = Ed25519PrivateKey.generate()
    with reader(database_url) as engine:
        kept = checkpoints.take(engine, key)

    cut(database_url, ledger, 2)
    seal_anew(database_url)

    assert verify(database_url).sound
    past = checkpoints.read([kept], key.public_key())
    assert [fault.kind for fault in verify(database_url, past=past).faults] == [Kind.TAIL_CUT]
