"""What somebody can do who may write every row: change the past, and seal all of it anew."""

import json
from hashlib import sha256

import psycopg

from tests.conftest import libpq

# Written apart from the code under test, from what the comments on the columns say.
TRANSFERS = """
    SELECT ledger, sequence, id, source_id, destination_id, amount, source_version, destination_version,
           source_balance, destination_balance, created_at, source_pending, destination_pending, effective_at,
           kind, metadata, hold_id, reverses, command_id
    FROM equipoise.transfers WHERE ledger = {} ORDER BY sequence
"""
COMMANDS = """
    SELECT id, decided_at, type, status, content, answer FROM equipoise.inbox WHERE ledger = {} ORDER BY number
"""


def chain(connection: psycopg.Connection, query: str, name: str, currency: str, scale: int) -> list[bytes]:
    """Give the links of a ledger's rows, the one before the first row included."""
    links = [sha256(f"{name}\t{currency}\t{scale}".encode()).digest()]
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT".encode()) as copy:
        for line in copy:
            links.append(sha256(links[-1] + sorted_metadata(bytes(line).removesuffix(b"\n"))).digest())
    return links


def sorted_metadata(line: bytes) -> bytes:
    """Write a transfer's metadata as it was sealed: compact, its keys sorted."""
    fields = line.split(b"\t")
    if len(fields) == 19 and fields[15] != rb"\N":
        value = json.loads(fields[15].replace(rb"\\", b"\\"))
        compact = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        fields[15] = compact.encode().replace(b"\\", rb"\\")
    return b"\t".join(fields)


def as_seal(link: bytes) -> int:
    """Give what a row keeps of its link."""
    return int.from_bytes(link[:8], signed=True)


def seal_anew(database_url: str) -> None:
    """Make every seal, head and count fit the rows as they are now."""
    with psycopg.connect(libpq(database_url)) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET timezone = 'UTC'")
        for number, *what in connection.execute(
            "SELECT number, name, currency, scale FROM equipoise.ledgers"
        ).fetchall():
            transfers = chain(connection, TRANSFERS.format(number), *what)
            commands = chain(connection, COMMANDS.format(number), *what)
            for place, link in enumerate(transfers[1:], 1):
                statement = "UPDATE equipoise.transfers SET seal = %s WHERE ledger = %s AND sequence = %s"
                connection.execute(statement, [as_seal(link), number, place])
            for place, link in enumerate(commands[1:], 1):
                statement = "UPDATE equipoise.inbox SET seal = %s WHERE ledger = %s AND number = %s"
                connection.execute(statement, [as_seal(link), number, place])
            connection.execute(
                "UPDATE equipoise.ledgers SET head = %s, sequence = %s, commands_head = %s, commands = %s"
                " WHERE number = %s",
                [transfers[-1], len(transfers) - 1, commands[-1], len(commands) - 1, number],
            )
