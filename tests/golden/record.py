"""Record a golden file, one a contract version: `python -m tests.golden.record DATABASE_URL version_1.json`.

The database is migrated and empty. What was committed is never recorded anew: it is what senders were told. A file only
grows, by the stories that it lacks: its rows are put into the database, and the next story is told after them.
"""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from models import contract
from models.outcomes import encode
from tests.laws.stories import BEGINNING, World
from worker.engine.settle import Settlement
from worker.postgres.engines import committing_engine

KEYS = {"ledgers": "number", "accounts": "id", "transfers": "id", "inbox": "id", "holds": "id", "changes": "command_id"}
"""The tables, and what tells a row from those that were recorded before."""

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
"""When the second story begins; each message is settled ten seconds after the one before."""


def post(id: str, source_id: str, destination_id: str, amount: int, **fields: Any) -> dict[str, Any]:
    sides = {"source_id": source_id, "destination_id": destination_id, "amount": amount}
    return {"type": "transfers.post", "id": id} | sides | fields


CHAIN_FAILS = [post("#10", "@00", "@02", 1), post("#11", "@02", "@00", 99), post("#12", "@00", "@02", 1)]
MESSAGES = [
    *BEGINNING,
    {"type": "ledgers.open", "id": "#01", "ledger": "~m", "currency": "EUR", "scale": 2},
    {"type": "accounts.open", "id": "#02", "account_id": "@04", "ledger": "~m", "min_balance": 1},
    {"type": "accounts.open", "id": "#03", "account_id": "@05", "ledger": "~m", "metadata": {"é": [1, True, None]}},
    post("#04", "@01", "@02", 5, kind="fee", effective_at="0999-01-02T03:04:05.6+01:00", metadata={"b": {"a": "\\"}}),
    post("#05", "@01", "@02", 10**15, up_to=True),
    post("#06", "@01", "@02", 1, up_to=True),
    post("#07", "@02", "@02", 1),
    {
        "type": "batch",
        "id": "#08",
        "commands": [
            post("#09", "@00", "@02", 7),
            CHAIN_FAILS,
            [post("#12", "@02", "@01", 1), post("#13", "@01", "@02", 1)],
            [post("#14", "@00", "@02", 1), {"type": "transfers.post", "id": "#15", "malformed": True}],
            {"type": "transfers.post", "id": "#16", "malformed": "\u202e"},
            post("#09", "@00", "@02", 8),
            post("#09", "@00", "@02", 7),
        ],
    },
    post("#08", "@00", "@02", 7),
]


def command(type: str, id: str, **fields: Any) -> dict[str, Any]:
    return {"type": type, "id": id} | fields


def hold(id: str, source_id: str, destination_id: str, amount: int, **fields: Any) -> dict[str, Any]:
    return post(id, source_id, destination_id, amount, **fields) | {"type": "transfers.hold"}


def exchange(id: str, paid: int, got: int, **fields: Any) -> dict[str, Any]:
    one = {"source_id": "@02", "source_liquidity_id": "@00", "source_amount": paid}
    other = {"destination_liquidity_id": "@06", "destination_id": "@03", "destination_amount": got}
    return command("transfers.exchange", id, **one, **other, **fields)


def part(account_id: str, **says: Any) -> dict[str, Any]:
    return {"account_id": account_id} | says


THIRDS = [part("@01", share="1/3"), part("@04", share="1/3"), part("@02", rest=True)]
SEVEN_AND_REST = [part("@01", amount=7), part("@02", rest=True)]
WHOLE_LEDGER = [
    command("ledgers.open", "#90", ledger="~m", currency="EUR", scale=2),
    command("ledgers.open", "#91", ledger="~n", currency="USD", scale=2),
    command("accounts.open", "#92", account_id="@00", ledger="~m", min_balance=None, owner_id="#99"),
    *(command("accounts.open", f"#8{n}", account_id=f"@0{n}", ledger="~m") for n in (1, 2, 4, 5)),
    *(command("accounts.open", f"#8{n}", account_id=f"@0{n}", ledger="~n", min_balance=None) for n in (3, 6)),
    post("#01", "@00", "@01", 100),
    post("#02", "@00", "@02", 100, kind="wage"),
    hold("#03", "@01", "@02", 30, kind="deposit", effective_at="2026-12-31T23:59:59Z", metadata={"room": "é"}),
    hold("#04", "@01", "@02", 10**15, up_to=True, expires_in_s=3_600),
    hold("#05", "@02", "@04", 9, expires_in_s=5),
    hold("#06", "@01", "@02", 1),
    command("transfers.capture", "#07", hold_id="#03", amount=10, final=False),
    command("transfers.capture", "#08", hold_id="#03", amount=21),
    command("transfers.capture", "#09", hold_id="#03", amount=5),
    command("transfers.capture", "#10", hold_id="#03"),
    command("transfers.extend", "#11", hold_id="#04", amount=20, expires_in_s=60),
    command("transfers.extend", "#12", hold_id="#04", amount=10**9),
    command("transfers.extend", "#13", hold_id="#04"),
    command("transfers.void", "#14", hold_id="#04"),
    command("transfers.void", "#15", hold_id="#04"),
    command("transfers.capture", "#16", hold_id="#05"),
    command("transfers.void", "#17", hold_id="#01"),
    command("transfers.void", "#18", hold_id="#98"),
    command("transfers.split", "#19", source_id="@00", destinations=THIRDS, amount=100, kind="share"),
    command("transfers.split", "#20", sources=SEVEN_AND_REST, destination_id="@04", amount=9),
    command("transfers.split", "#21", source_id="@00", destinations=[part("@01", amount=7)], amount=8),
    exchange("#22", 20, 22, metadata={"rate": "1.1"}),
    exchange("#23", 10**15, 1),
    command("transfers.reverse", "#24", transfer_id="#02", amount=40),
    command("transfers.reverse", "#25", transfer_id="#02", amount=61),
    command("transfers.reverse", "#26", transfer_id="#19/1"),
    command("transfers.reverse", "#27", transfer_id="#97"),
    command("accounts.limit", "#28", account_id="@04", min_balance=-5, max_balance=50),
    command("accounts.limit", "#29", account_id="@04", min_balance=49, max_balance=50),
    command("accounts.limit", "#30", account_id="@04", min_balance=-5, max_balance=1),
    post("#31", "@00", "@04", 50),
    command("accounts.freeze", "#32", account_id="@04"),
    post("#33", "@00", "@04", 1),
    command("accounts.unfreeze", "#34", account_id="@04"),
    command("accounts.close", "#35", account_id="@04"),
    command("accounts.close", "#36", account_id="@04", remainder_to="@05"),
    command("accounts.close", "#37", account_id="@05", remainder_to="@05"),
    command("accounts.unfreeze", "#38", account_id="@04"),
    command(
        "batch", "#39",
        commands=[
            hold("#40", "@01", "@02", 5, dry_run=True),
            [hold("#41", "@01", "@02", 5), command("transfers.capture", "#42", hold_id="#41", amount=2)],
            [hold("#43", "@01", "@02", 5), exchange("#44", 10**15, 1), command("transfers.void", "#45", hold_id="#43")],
            command("transfers.split", "#46", source_id="@00", destinations=THIRDS, amount=2, dry_run=True),
            command("transfers.capture", "#42", hold_id="#41"),
            command("accounts.close", "#47", account_id="@05", remainder_to="@00", dry_run=True),
        ],
    ),
    command("transfers.reverse", "#24", transfer_id="#02"),
    command("batch", "#48", commands=[post("#49", "@00", "@01", 1)], dry_run=True),
    post("#50", "@01", "@00", 3, dry_run=True),
]  # fmt: skip
STORIES = (MESSAGES, WHOLE_LEDGER)


def restore(connection: psycopg.Connection[Any], golden: dict[str, Any]) -> None:
    """Put a golden file's rows into an empty database."""
    connection.execute("SET session_replication_role = replica")  # accounts do not open with money in them
    for table in KEYS:
        connection.execute(
            f"INSERT INTO equipoise.{table} OVERRIDING SYSTEM VALUE"
            f" SELECT * FROM jsonb_populate_recordset(NULL::equipoise.{table}, %s)",
            [json.dumps(golden[table])],
        )
    next_number = "SELECT setval(pg_get_serial_sequence('equipoise.ledgers', 'number'), 1 + count(*), false)"
    connection.execute(f"{next_number} FROM equipoise.ledgers")


def clock() -> Iterator[datetime]:
    return (NOON + timedelta(seconds=10 * place) for place in count())


def main(database_url: str, path: Path) -> None:
    golden: dict[str, Any] = {"contract": contract.VERSION, "stories": 0, "messages": [], "outcomes": []}
    golden |= {table: [] for table in KEYS} | (json.loads(path.read_text()) if path.exists() else {})
    with psycopg.connect(database_url.replace("+psycopg", ""), row_factory=dict_row) as connection:
        restore(connection, golden)
    moments = clock()
    settle = Settlement(committing_engine(database_url), clock=lambda _: next(moments))
    for story in STORIES[golden["stories"] :]:
        messages = World().named(story)
        golden["outcomes"] += [encode(settle(World.judged([message]))[0]).decode() for message in messages]
        golden["messages"] += messages
        golden["stories"] += 1
    with psycopg.connect(database_url.replace("+psycopg", ""), row_factory=dict_row) as connection:
        for table, key in KEYS.items():
            before = {row[key] for row in golden[table]}
            rows = connection.execute(f"SELECT to_jsonb(t) AS row FROM equipoise.{table} t ORDER BY 1").fetchall()
            golden[table] += [row["row"] for row in rows if row["row"][key] not in before]
    path.write_text(json.dumps(golden, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
